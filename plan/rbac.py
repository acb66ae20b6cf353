"""Service accounts, and roles with their bindings."""

from collections.abc import Mapping, Sequence
from typing import Any

from plan.objects import Manifest

GROUP = "rbac.authorization.k8s.io"

READ = ("get", "list", "watch")
WRITE = (*READ, "create", "patch", "update", "delete")

Rule = Mapping[str, list[str]]
Subject = Mapping[str, str]


def rule(
    group: str, resources: Sequence[str], verbs: Sequence[str], *, names: Sequence[str] = ()
) -> Rule:
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


def account(name: str, namespace: str) -> Subject:
    """A service account as the subject of a binding."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def user(name: str) -> Subject:
    """A user as the subject of a binding."""
    return {"apiGroup": GROUP, "kind": "User", "name": name}


def group(name: str) -> Subject:
    """A group of users as the subject of a binding."""
    return {"apiGroup": GROUP, "kind": "Group", "name": name}


def role(
    name: str, rules: Sequence[Rule], *, inside: str = "", labels: Mapping[str, str] | None = None
) -> Manifest:
    """A role that holds in the namespace ``inside``; where that is empty, in the whole cluster."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": _kind("Role", inside),
        "metadata": {**_metadata(name, inside), **({"labels": dict(labels)} if labels else {})},
        "rules": [dict(row) for row in rules],
    }


def binding(name: str, role_name: str, subject: Subject, *, inside: str = "") -> Manifest:
    """The binding of a role of the namespace ``inside``, or of the whole cluster, to a subject."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": _kind("RoleBinding", inside),
        "metadata": _metadata(name, inside),
        "roleRef": {"apiGroup": GROUP, "kind": _kind("Role", inside), "name": role_name},
        "subjects": [dict(subject)],
    }


def granted(
    subject: Subject, name: str, rules: Sequence[Rule], *, inside: str = ""
) -> tuple[Manifest, Manifest]:
    """A role and its binding to a subject, both of this name."""
    return (
        role(name, rules, inside=inside),
        binding(name, name, subject, inside=inside),
    )


def _kind(kind: str, inside: str) -> str:
    return kind if inside else f"Cluster{kind}"


def _metadata(name: str, inside: str) -> dict[str, Any]:
    return {"name": name, **({"namespace": inside} if inside else {})}
