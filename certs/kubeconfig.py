"""A kubeconfig with everything inside: no file beside it is needed."""

from base64 import b64encode

from spec.document import dump_yaml


def kubeconfig(
    *,
    cluster_name: str,
    server: str,
    authority_pem: str,
    certificate_pem: str,
    key_pem: str,
    user: str,
) -> str:
    """A kubeconfig (v1) in YAML with one context, ``<user>@<cluster_name>``.

    ``server`` is the API server's URL. The text has a private key in it.
    """
    context = f"{user}@{cluster_name}"
    return dump_yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster_name,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _base64(authority_pem),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _base64(certificate_pem),
                        "client-key-data": _base64(key_pem),
                    },
                }
            ],
            "contexts": [{"name": context, "context": {"cluster": cluster_name, "user": user}}],
            "current-context": context,
        },
        sort_keys=False,
    )


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
