"""The namespaces of add-ons that have none by custom, made where an add-on uses them."""

from collections.abc import Iterable

from plan.objects import Manifest

RESTRICTED = "hardway-addons"
"""Its pods can do little on their node: the API server demands it (Pod Security Standards)."""


def manifests(wanted: Iterable[str]) -> tuple[Manifest, ...]:
    """These namespaces, each with its standard, and without a token for pods that ask for none."""
    return tuple(
        manifest
        for name, standard in ((RESTRICTED, "restricted"),)
        if name in wanted
        for manifest in _namespace(name, standard)
    )


def _namespace(name: str, standard: str) -> tuple[Manifest, ...]:
    return (
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {"pod-security.kubernetes.io/enforce": standard},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
            "automountServiceAccountToken": False,
        },
    )
