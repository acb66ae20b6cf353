"""The keys of backups: what is encrypted for them, and what a state keeps of them."""

import io
import subprocess
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from certs.backup import MAGIC, BackupKeys, NotOurs, decrypt, new_backup_keys
from certs.bundle import BundleError

KEYS = new_backup_keys()
TEXT = bytes(range(256)) * 1000


def encrypted() -> bytes:
    target = io.BytesIO()
    recipient = pyrage.x25519.Recipient.from_str(KEYS.recipient)
    pyrage.encrypt_io(io.BytesIO(TEXT), target, [recipient])
    return target.getvalue()


def decrypted(keys: BackupKeys, content: bytes) -> bytes:
    target = io.BytesIO()
    decrypt(keys, io.BytesIO(content), target)
    return target.getvalue()


def test_only_the_own_keys_decrypt() -> None:
    content = encrypted()
    assert content.startswith(MAGIC)
    assert decrypted(KEYS, content) == TEXT
    with pytest.raises(NotOurs, match="another stack's state"):
        decrypted(new_backup_keys(), content)


@pytest.mark.parametrize("length", [-1, -70_000, 100, 30])
def test_what_was_cut_off_is_no_backup(length: int) -> None:
    with pytest.raises(NotOurs, match="it is damaged"):
        decrypted(KEYS, encrypted()[:length])


def test_a_changed_byte_is_noticed() -> None:
    content = bytearray(encrypted())
    content[-1000] ^= 1
    with pytest.raises(NotOurs, match="it is damaged"):
        decrypted(KEYS, bytes(content))


def test_a_state_keeps_them_and_their_repr_shows_no_private_key() -> None:
    assert BackupKeys.from_state(KEYS.state()) == KEYS
    assert KEYS.identity not in repr(KEYS)
    assert "PRIVATE" not in repr(KEYS)
    with pytest.raises(BundleError, match="no identity of the backups' keys"):
        BackupKeys.from_state({**KEYS.state(), "identity": None})  # type: ignore[dict-item]


def test_the_ssh_keys_are_a_pair(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEYS.ssh_private)
    file.chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True)
    assert done.stdout.split()[:2] == KEYS.ssh_public.split()
