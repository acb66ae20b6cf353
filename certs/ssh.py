"""SSH key pairs for the machines' host keys and for logging in."""

import hashlib
import secrets
from base64 import b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES = 32
KIND = b"ssh-ed25519"
BLOCK = 8
"""OpenSSH pads the private part of a key without a password to a multiple of this many bytes."""


@dataclass(frozen=True, kw_only=True)
class SshKeyPair:
    """An Ed25519 key pair in OpenSSH's formats, without comment or password."""

    private: str
    public: str


def new_key_pair() -> SshKeyPair:
    """A new key pair from the operating system's randomness."""
    return _pair(Ed25519PrivateKey.generate())


def new_seed() -> str:
    """A new seed for ``derived_key_pair``, in hexadecimal digits."""
    return secrets.token_hex(SEED_BYTES)


def derived_key_pair(seed: str, name: str) -> SshKeyPair:
    """The key pair of a name.

    The same seed and name always give the same pair; other names give other pairs.
    """
    kdf = HKDF(SHA256(), SEED_BYTES, salt=None, info=b"hardway ssh host key " + name.encode())
    return _pair(Ed25519PrivateKey.from_private_bytes(kdf.derive(bytes.fromhex(seed))))


def _pair(key: Ed25519PrivateKey) -> SshKeyPair:
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return SshKeyPair(private=_private(key), public=public.decode())


def _private(key: Ed25519PrivateKey) -> str:
    """A private key in OpenSSH's format (PROTOCOL.key in its sources).

    The same key always gives the same text.

    Other implementations put a random number into this format. The text would then differ at every
    run, and every preview would show a changed seed disk.
    """
    raw = serialization.Encoding.Raw
    own = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    blob = _text(KIND) + _text(public)
    # Two equal numbers show a reader that decryption succeeded. Nothing is encrypted here, so they
    # need not be random.
    check = hashlib.sha256(public).digest()[:4]
    private = check + check + blob + _text(own + public) + _text(b"")
    private += bytes(range(1, BLOCK - len(private) % BLOCK + 1)) if len(private) % BLOCK else b""
    nothing = _text(b"none") + _text(b"none") + _text(b"")
    one_key = (1).to_bytes(4, "big")
    whole = b"openssh-key-v1\0" + nothing + one_key + _text(blob) + _text(private)
    body = b64encode(whole).decode()
    lines = [body[start : start + 70] for start in range(0, len(body), 70)]
    mark = "-----{} OPENSSH PRIVATE KEY-----"
    return "\n".join([mark.format("BEGIN"), *lines, mark.format("END"), ""])


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
