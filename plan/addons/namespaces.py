"""The namespaces of add-ons."""

from collections.abc import Collection

from plan.objects import Manifest
from plan.rbac import service_account

RESTRICTED = "hardway-addons"
"""That of add-ons that have none by custom. Its pods can do little on their node: the API server
demands it (Pod Security Standards)."""

PRIVILEGED = "hardway-nodes"
"""That of pods that read what is their node's own, which the standards for others forbid."""

_STANDARDS = {RESTRICTED: "restricted", PRIVILEGED: "privileged"}


def manifests(wanted: Collection[str]) -> tuple[Manifest, ...]:
    """The namespaces that belong to no add-on alone, as far as an add-on uses them.

    Pods in them that name no account get no token.
    """
    return tuple(
        manifest
        for name, standard in _STANDARDS.items()
        if name in wanted
        for manifest in (
            namespace(name, standard),
            service_account({"name": "default", "namespace": name}),
        )
    )


def namespace(name: str, standard: str) -> Manifest:
    """A namespace whose pods keep this one of the Pod Security Standards."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": standard}},
    }
