"""Passwords of the program's own making, for people who log in to what an add-on serves."""

import secrets
from base64 import b32encode

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES = 32
PASSWORD_BYTES = 15
"""They are 24 letters and digits, more than anybody can try."""


def new_password_seed() -> str:
    """A new seed for ``derived_password``, in hexadecimal digits."""
    return secrets.token_hex(SEED_BYTES)


def derived_password(seed: str, name: str, number: int) -> str:
    """The password of a name and a number: lower-case letters and digits, in groups of six.

    The same seed, name and number always give the same password.
    """
    info = f"hardway password {name} {number}".encode()
    raw = HKDF(SHA256(), PASSWORD_BYTES, salt=None, info=info).derive(bytes.fromhex(seed))
    text = b32encode(raw).decode().lower()
    return "-".join(text[start : start + 6] for start in range(0, len(text), 6))
