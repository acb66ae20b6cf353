"""Service accounts, and roles with their bindings."""

from collections.abc import Mapping, Sequence
from typing import Any

from plan.objects import Manifest

GROUP = "rbac.authorization.k8s.io"

READ = ("get", "list", "watch")


def rule(
    group: str, resources: Sequence[str], verbs: Sequence[str], *, names: Sequence[str] = ()
) -> Mapping[str, list[str]]:
    """A rule of a role: these verbs for these resources of an API group.

    Where there are names, it is about the objects of these names alone.
    """
    only = {"resourceNames": list(names)} if names else {}
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs), **only}


def service_account(metadata: Mapping[str, Any]) -> Manifest:
    """A service account, whose token a pod gets where the pod itself says so."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": dict(metadata),
        "automountServiceAccountToken": False,
    }


def granted(
    account: str,
    namespace: str,
    name: str,
    rules: Sequence[Mapping[str, list[str]]],
    *,
    inside: str = "",
) -> tuple[Manifest, Manifest]:
    """A role of this name and its binding to a service account of a namespace.

    It holds in the namespace ``inside`` alone; where that is empty, in the whole cluster.
    """
    prefix = "" if inside else "Cluster"
    metadata = {"name": name, **({"namespace": inside} if inside else {})}
    return (
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": f"{prefix}Role",
            "metadata": metadata,
            "rules": [dict(row) for row in rules],
        },
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": GROUP, "kind": f"{prefix}Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    )
