"""SSH key pairs, for the machines' host keys and for the one who logs in."""

from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, kw_only=True)
class SshKeyPair:
    """An Ed25519 key pair in OpenSSH's formats, without comment or password."""

    private: str
    public: str


def new_key_pair() -> SshKeyPair:
    """A new key pair from the operating system's randomness."""
    key = Ed25519PrivateKey.generate()
    return SshKeyPair(
        private=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode(),
        public=key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode(),
    )
