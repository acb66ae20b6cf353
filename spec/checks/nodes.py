"""Checks that Kubernetes accepts labels and taints and that a kubelet may set them on its node."""

from collections.abc import Iterator

from spec.description import Description
from spec.machine import Machine, Role
from spec.names import is_label_value, is_qualified_name
from spec.refusal import Refusal, dotted, shown

OWN = ("kubernetes.io", "k8s.io")
OPEN = ("kubelet.kubernetes.io", "node.kubernetes.io")
"""Prefixes under ``OWN`` that a kubelet may use (k8s.io/kubelet, well_known_labels.go)."""
ALLOWED = frozenset(
    {
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "beta.kubernetes.io/instance-type",
    }
)
OF_CONTROLLERS = frozenset({"node.kubernetes.io", "node.cloudprovider.kubernetes.io"})
"""Prefixes of the taints that the node lifecycle and cloud node controllers set and remove.

A person may give a node any other taint, also with Kubernetes' own prefixes: an API server with
NodeRestriction accepted ``node-role.kubernetes.io/infra`` and
``node.cluster.x-k8s.io/uninitialized``.
"""
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
FROM_THE_MACHINE = frozenset(
    f"{beta}kubernetes.io/{name}" for beta in ("", "beta.") for name in ("hostname", "os", "arch")
)
"""Labels whose values kubelet determines itself."""


def labels_are_taken(spec: Description, name: str) -> Iterator[Refusal]:
    """Each label has a valid form, and a kubelet may set it (NodeRestriction)."""
    for key, value in spec.machines[name].labels.items():
        field = dotted(("machines", name, "labels", key))
        if not is_qualified_name(key):
            yield _no_key(field, "kubelet would not start")
        elif key in FROM_THE_MACHINE:
            yield Refusal(
                field,
                f"{shown(value)} is what kubelet finds out for itself",
                "the scheduler would believe something false",
                "write a key of your own, such as example.org/name, or leave it out",
            )
        elif not _may_be_set(key):
            yield Refusal(
                field,
                "has a prefix that is Kubernetes' own",
                "kubelet would not start",
                f"write a key of your own, such as example.org/{key.rpartition('/')[2]}",
            )
        if not is_label_value(value):
            yield _no_value(field, value)


def taints_are_taken(spec: Description, name: str) -> Iterator[Refusal]:
    """Each taint has a valid form, occurs once, and is not one that Kubernetes or the roles set."""
    seen = set()
    for number, taint in enumerate(spec.machines[name].taints):
        field = dotted(("machines", name, "taints", number))
        if not is_qualified_name(taint.key):
            yield _no_key(f"{field}.key", "the API server would refuse the node")
        elif _prefix(taint.key) in OF_CONTROLLERS:
            yield Refusal(
                f"{field}.key",
                f"{taint.key} is set by Kubernetes' controllers, by how the node is",
                "they would take it away again",
                "write a key of your own such as example.org/dedicated",
            )
        elif taint.key == CONTROL_PLANE and _has_it(spec.machines[name]):
            yield Refusal(
                f"{field}.key",
                f"{taint.key} stands on every control plane without the role minion",
                "it would stand there twice",
                "leave it out",
            )
        if not is_label_value(taint.value):
            yield _no_value(f"{field}.value", taint.value)
        if (taint.key, taint.effect) in seen:
            yield Refusal(
                field,
                f"has the key {shown(taint.key)} and the effect {taint.effect} of an earlier one",
                "the API server would refuse the node",
                "write one of the two",
            )
        seen.add((taint.key, taint.effect))


def only_nodes_carry_labels_and_taints(spec: Description, name: str) -> Iterator[Refusal]:
    """A machine with only the role etcd has no labels and taints, since it has no Node object."""
    machine = spec.machines[name]
    if machine.roles != {Role.ETCD}:
        return
    for field, given in (("labels", machine.labels), ("taints", machine.taints)):
        if given:
            yield Refusal(
                dotted(("machines", name, field)),
                "is given for a machine that is no node",
                "it would have no effect",
                "leave it out, or write minion into the machine's roles",
            )


def _has_it(machine: Machine) -> bool:
    """Whether the machine's roles give it the taint of control planes."""
    return Role.CONTROL_PLANE in machine.roles and Role.MINION not in machine.roles


def _prefix(key: str) -> str:
    return key.rpartition("/")[0]


def _may_be_set(key: str) -> bool:
    prefix = _prefix(key)
    own = any(prefix == domain or prefix.endswith(f".{domain}") for domain in OWN)
    opened = any(prefix == domain or prefix.endswith(f".{domain}") for domain in OPEN)
    return not own or opened or key in ALLOWED


def _no_key(field: str, breaks: str) -> Refusal:
    return Refusal(
        field,
        "is no key that Kubernetes takes",
        breaks,
        "write at most 63 of A-Z, a-z, 0-9, -, _ and . , after a DNS name and / where it has a "
        "prefix",
    )


def _no_value(field: str, value: str) -> Refusal:
    return Refusal(
        field,
        f"has the value {shown(value)}, which Kubernetes does not take",
        "the node could not register",
        "write at most 63 of A-Z, a-z, 0-9, -, _ and . , with a letter or digit at both ends",
    )
