"""The configuration of the API server's encryption of resources in etcd."""

import re
from collections.abc import Mapping

import yaml

from certs.bundle import EncryptionKeys

ENCRYPTED = ("secrets",)

TURNED = re.compile(r"# turn [1-9]")
"""Begins the text with all keys for a purpose in a cluster where they have turned over."""


def encryption_configuration(keys: Mapping[str, str]) -> str:
    """An EncryptionConfiguration (apiserver.config.k8s.io/v1) in YAML.

    ``keys`` maps names to 32 bytes in base64. The API server encrypts Secrets with the first of
    them (secretbox) and decrypts with each. The last provider (identity) lets it also read Secrets
    in plain text, as they were stored before encryption was on.
    """
    named = [{"name": name, "secret": key} for name, key in keys.items()]
    return yaml.safe_dump(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [
                {
                    "resources": list(ENCRYPTED),
                    "providers": [
                        {"secretbox": {"keys": named}},
                        {"identity": {}},
                    ],
                }
            ],
        },
        sort_keys=False,
    )


def current_configuration(encryption: EncryptionKeys) -> str:
    """The configuration with the current key alone."""
    return encryption_configuration({encryption.current: encryption.keys[encryption.current]})


def whole_configuration(encryption: EncryptionKeys) -> str:
    """The configuration with all keys, the current one first, below a line with the turn."""
    return f"# turn {encryption.turn}\n{encryption_configuration(encryption.ordered)}"
