"""What belongs to the cluster itself: access rights and CoreDNS, made once for all machines."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from certs.table import ADMINS
from plan import coredns, layout, node_objects, objects
from plan.model import Certificate, Directory, File, PrivateKey, SecretFile, Step
from plan.objects import Manifest
from spec.cluster import Cluster

FOLDER = f"{layout.KUBERNETES}/addons"
ABSENT = f"{FOLDER}/absent.yaml"
NODES = f"{FOLDER}/nodes.yaml"

ADMIN = "super-admin"
"""The certificate with which the objects are made."""
CERTIFICATE, PRIVATE_KEY = f"/run/hardway/{ADMIN}.crt", f"/run/hardway/{ADMIN}.key"
"""Its files: in memory, and gone before they are used (``admin.sh``)."""

LABELS = {"app.kubernetes.io/managed-by": "hardway"}
"""On every object."""

RBAC = "rbac.authorization.k8s.io"


def directory() -> Directory:
    """Where the first control plane has its manifests."""
    return Directory(path=FOLDER, mode=0o700)


def files(spec: Cluster) -> tuple[File, ...]:
    """The manifests as files of the first control plane, for people and for ``apply``."""
    return (*_files(wanted(spec)), *_absent(spec), _nodes(spec))


def apply(spec: Cluster) -> Step:
    """Bring the cluster's objects to what ``files`` say, with the right to do anything.

    Nodes that the spec no longer names are drained and removed: this runs before their machines go.

    It needs the API only. Its text changes with the manifests, so that changed ones are applied.
    """
    manifests = _files(wanted(spec))
    absent = _absent(spec)
    text = "".join(file.content for file in (*manifests, *absent))
    return Step(
        name="add-ons-apply",
        admin=True,
        alone=False,
        secret_files=_ADMIN,
        script="add-ons",
        settings={
            **_api(spec),
            "manifests": " ".join(file.path for file in manifests),
            "absent": ABSENT if absent else "",
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "nodes": " ".join(spec.nodes),
        },
    )


def nodes(spec: Cluster) -> Step:
    """Give nodes the labels and taints of the spec, once all of them are registered."""
    return Step(
        name="add-ons-nodes",
        admin=True,
        alone=False,
        secret_files=_ADMIN,
        script="nodes",
        settings={
            **_api(spec),
            "record": NODES,
            "recorded": objects.path(node_objects.record(spec)),
            "given": node_objects.text(spec),
        },
    )


_ADMIN = (
    SecretFile(path=PRIVATE_KEY, source=PrivateKey(ADMIN)),
    SecretFile(path=CERTIFICATE, source=Certificate(ADMIN)),
)


def _api(spec: Cluster) -> dict[str, str]:
    """Where the scripts find the API, and as whom they ask it."""
    return {
        "api": layout.local_api_url(spec, spec.control_planes[0]),
        "authority": layout.AUTHORITY,
        "admin_certificate": CERTIFICATE,
        "admin_key": PRIVATE_KEY,
    }


def wanted(spec: Cluster) -> Mapping[str, tuple[Manifest, ...]]:
    """The objects that must be there, by the name of their file."""
    return {
        "access": (*_access(), *_service_accounts()),
        **({"coredns": coredns.manifests(spec)} if spec.addons.coredns else {}),
        **({"flannel": _flannel()} if spec.flannel.store == "kubernetes" else {}),
    }


def unwanted(spec: Cluster) -> tuple[Manifest, ...]:
    """The objects that another spec of this cluster would have made, with their names only."""
    present = {_identity(one) for group in wanted(spec).values() for one in group}
    return tuple(
        {
            "apiVersion": one["apiVersion"],
            "kind": one["kind"],
            "metadata": {
                key: one["metadata"][key] for key in ("name", "namespace") if key in one["metadata"]
            },
        }
        for one in (*coredns.manifests(spec), *_flannel())
        if _identity(one) not in present
    )


# -- access --------------------------------------------------------------------------------------


def _access() -> tuple[Manifest, ...]:
    return (
        binding("hardway:cluster-admins", "cluster-admin", "Group", ADMINS),
        # Its certificate has no organization since 1.37 (kubernetes#138957).
        binding(
            "hardway:kubelet-api-admin",
            "system:kubelet-api-admin",
            "User",
            "kube-apiserver-kubelet-client",
        ),
    )


def _service_accounts() -> tuple[Manifest, ...]:
    """A pod that names no account of its own gets no token (CIS 5.1.5)."""
    namespaces = ("default", "kube-node-lease", "kube-public", "kube-system")
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
            "automountServiceAccountToken": False,
        }
        for namespace in namespaces
    )


def _flannel() -> tuple[Manifest, ...]:
    """What flanneld does where Kubernetes is its store (its Documentation/kube-flannel.yml)."""
    name = "hardway:flannel"
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    return (role(name, rules), binding(name, name, "User", "system:flannel"))


def role(name: str, rules: list[dict[str, list[str]]]) -> Manifest:
    """A ClusterRole."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }


def binding(name: str, role: str, kind: str, subject: str) -> Manifest:
    """A ClusterRoleBinding for a user or a group."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": kind, "name": subject}],
    }


# -- files -----------------------------------------------------------------------------------------


def _files(groups: Mapping[str, tuple[Manifest, ...]]) -> tuple[File, ...]:
    return tuple(
        File(path=f"{FOLDER}/{name}.yaml", content=_documents(map(_labelled, manifests)))
        for name, manifests in sorted(groups.items())
    )


def _absent(spec: Cluster) -> tuple[File, ...]:
    gone = unwanted(spec)
    return (File(path=ABSENT, content=_documents(gone)),) if gone else ()


def _nodes(spec: Cluster) -> File:
    """What the spec gives to nodes: for people, and as the record of it."""
    return File(path=NODES, content=_documents([_labelled(node_objects.record(spec))]))


def _documents(manifests: Iterable[Manifest]) -> str:
    """As YAML documents, sorted by what they are: every manifest stands for itself.

    Above each is its path in the API, by which ``admin.sh`` applies or deletes it.
    """
    return "".join(
        f"---\n# {objects.path(one)}\n{yaml.dump(one, Dumper=_Plain, sort_keys=True)}"
        for one in sorted(manifests, key=_identity)
    )


class _Plain(yaml.SafeDumper):
    """For people: what is used twice stands there twice, and lines are lines."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Plain.add_representer(str, _Plain.represent_str)


def _labelled(one: Manifest) -> Manifest:
    metadata = one["metadata"]
    return {**one, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **LABELS}}}


def _identity(one: Manifest) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]
