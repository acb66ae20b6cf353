"""What the API server encrypts before it writes to etcd."""

import yaml

ENCRYPTED = ("secrets",)


def encryption_configuration(encryption_key: str) -> str:
    """An EncryptionConfiguration (apiserver.config.k8s.io/v1) in YAML.

    ``encryption_key`` is 32 bytes in base64. Secrets are written with secretbox, the first one,
    and read in the clear as well (identity, the last), as they were before encryption was on.
    """
    return yaml.safe_dump(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [
                {
                    "resources": list(ENCRYPTED),
                    "providers": [
                        {"secretbox": {"keys": [{"name": "key1", "secret": encryption_key}]}},
                        {"identity": {}},
                    ],
                }
            ],
        },
        sort_keys=False,
    )
