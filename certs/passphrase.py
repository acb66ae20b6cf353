"""Encrypts a text under a passphrase, always at the same cost for those who guess.

The key follows from the passphrase by scrypt, and encrypts in the form of Fernet
(https://github.com/fernet/spec), both from ``cryptography``. age's own passphrases would fit as
well, but pyrage 1.4.0 chooses their cost by a measurement of some milliseconds: on a busy computer
it writes files that are easy to guess, and refuses those that a quiet one has written
(``findings/pyrage-measures-a-busy-computer.sh``).
"""

import os
from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"hardway-secrets/v1\n"
"""The first line; below it stand the salt in hexadecimal digits, and Fernet's text."""

SALT = 16
"""Bytes."""

COST = 2**17
"""scrypt's N, with r = 8 and p = 1, which takes 128 MiB, as OWASP recommends (Password Storage
Cheat Sheet)."""


class WrongPassphrase(Exception):
    """A text was encrypted under another passphrase, or it is damaged."""


def encrypted(content: bytes, passphrase: str) -> bytes:
    """The content under a passphrase, as text."""
    salt = os.urandom(SALT)
    return MAGIC + salt.hex().encode() + b"\n" + _fernet(passphrase, salt).encrypt(content) + b"\n"


def decrypted(text: bytes, passphrase: str) -> bytes:
    """The reverse of ``encrypted``. Raises WrongPassphrase."""
    try:
        _, salt, token = text.removesuffix(b"\n").split(b"\n")
        return _fernet(passphrase, bytes.fromhex(salt.decode())).decrypt(token)
    except (ValueError, InvalidToken) as error:
        raise WrongPassphrase from error


def _fernet(passphrase: str, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(passphrase.encode())
    return Fernet(urlsafe_b64encode(key))
