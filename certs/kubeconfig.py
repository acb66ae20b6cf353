"""Kubeconfigs with embedded certificates and keys, or with the paths of their files."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

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

    ``server`` is the API server's URL. The kubeconfig needs no other file, since it contains the
    certificates and the private key.
    """
    return _document(
        cluster_name,
        user,
        {"server": server, "certificate-authority-data": _base64(authority_pem)},
        {
            "client-certificate-data": _base64(certificate_pem),
            "client-key-data": _base64(key_pem),
        },
    )


def kubeconfig_of_files(
    *, cluster_name: str, server: str, user: str, files: Mapping[str, str]
) -> str:
    """The same kubeconfig with paths in place of the certificates and the private key.

    ``files`` maps ``certificate-authority``, ``client-certificate`` and ``client-key`` to paths.
    """
    return _document(
        cluster_name,
        user,
        {"server": server, "certificate-authority": files["certificate-authority"]},
        {name: files[name] for name in ("client-certificate", "client-key")},
    )


def _document(
    cluster_name: str, user: str, cluster: Mapping[str, str], credentials: Mapping[str, str]
) -> str:
    context = f"{user}@{cluster_name}"
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_name, "cluster": dict(cluster)}],
        "users": [{"name": user, "user": dict(credentials)}],
        "contexts": [{"name": context, "context": {"cluster": cluster_name, "user": user}}],
        "current-context": context,
    }
    return dump_yaml(value, sort_keys=False)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
