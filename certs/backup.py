"""The keys of backups: one pair that encrypts them, and one that copies them elsewhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import BinaryIO

import pyrage  # type: ignore[import-untyped]

from certs.bundle import BundleError
from certs.ssh import new_key_pair

MAGIC = b"age-encryption.org/v1\n"
"""The first line of an encrypted backup."""


class NotOurs(Exception):
    """A backup was encrypted for another key, or it is damaged; the text is one sentence."""


@dataclass(frozen=True, kw_only=True)
class BackupKeys:
    """The keys of a stack's backups, which its state keeps."""

    identity: str = field(repr=False)
    """The private key that decrypts backups, in age's format. No machine has it."""
    recipient: str
    """The public key that encrypts them."""
    ssh_private: str = field(repr=False)
    """The private key with which the member's machine copies backups, in OpenSSH's format."""
    ssh_public: str

    def state(self) -> dict[str, str]:
        return asdict(self)

    @staticmethod
    def from_state(state: Mapping[str, str]) -> "BackupKeys":
        """The reverse of ``state``. Raises BundleError."""
        names = [part.name for part in fields(BackupKeys)]
        if lacking := [name for name in names if not isinstance(state.get(name), str)]:
            raise BundleError(
                f"the state has no {lacking[0]} of the backups' keys, so it is damaged; restore it "
                "from a backup (pulumi stack import)"
            )
        return BackupKeys(**{name: state[name] for name in names})


def new_backup_keys() -> BackupKeys:
    """New keys from the operating system's randomness."""
    identity = pyrage.x25519.Identity.generate()
    login = new_key_pair()
    return BackupKeys(
        identity=str(identity),
        recipient=str(identity.to_public()),
        ssh_private=login.private,
        ssh_public=login.public,
    )


def decrypt(keys: BackupKeys, source: BinaryIO, target: BinaryIO) -> None:
    """Decrypt a backup from one stream to another. Raises NotOurs.

    What the target has got by then is not to be used where this fails: the last part of a backup
    may be missing.
    """
    identity = pyrage.x25519.Identity.from_str(keys.identity)
    try:
        pyrage.decrypt_io(source, target, [identity])
    except OSError as error:
        # One of a file has a number; the others are about the content.
        if error.errno is not None:
            raise
        raise NotOurs(f"it is damaged ({error})") from error
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise NotOurs("it was encrypted for another stack's state") from error
        raise NotOurs(f"it is damaged ({error})") from error
