"""SSH keys: what OpenSSH itself says of them, and that each name has its own."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from certs.ssh import SshKeyPair, derived_key_pair, new_key_pair, new_seed

SEED = new_seed()


def pairs() -> list[SshKeyPair]:
    return [new_key_pair(), *(derived_key_pair(SEED, f"machine{n}") for n in range(8))]


def test_openssh_finds_the_public_half_in_every_private_one(tmp_path: Path) -> None:
    for number, pair in enumerate(pairs()):
        file = tmp_path / f"key{number}"
        file.touch(mode=0o600)
        file.write_text(pair.private)
        done = subprocess.run(
            ["ssh-keygen", "-y", "-P", "", "-f", file], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == pair.public.split()


def test_cryptography_reads_them_too() -> None:
    for pair in pairs():
        load_ssh_private_key(pair.private.encode(), password=None)


def test_a_derived_key_is_always_the_same_and_nobody_elses() -> None:
    # A text that differs would be a changed seed disk at every preview.
    assert derived_key_pair(SEED, "master") == derived_key_pair(SEED, "master")
    others = [(SEED, "minion1"), (SEED, "master1"), (SEED, ""), (new_seed(), "master")]
    keys = {derived_key_pair(*arguments).private for arguments in [(SEED, "master"), *others]}
    assert len(keys) == len(others) + 1


def test_a_seed_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        derived_key_pair("no seed", "master")
