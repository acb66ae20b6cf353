"""The configuration of the API server's encryption of resources in etcd."""

import yaml

ENCRYPTED = ("secrets",)


def encryption_configuration(encryption_key: str) -> str:
    """An EncryptionConfiguration (apiserver.config.k8s.io/v1) in YAML.

    ``encryption_key`` is 32 bytes in base64. The API server encrypts Secrets with the first
    provider (secretbox). The last provider (identity) lets it also read Secrets in plain text, as
    they were stored before encryption was on.
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
