"""The model of a machine: its roles, its size and its hypervisor."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from spec.hypervisor import Hypervisor
from spec.part import Address, Expected, LeftOut, Part, Text, Whole


class Role(StrEnum):
    """What a machine does."""

    ETCD = "etcd"
    CONTROL_PLANE = "control-plane"
    MINION = "minion"
    """A node that runs pods."""


SHORT_ROLES = {"e": Role.ETCD, "a": Role.CONTROL_PLANE, "i": Role.MINION}
"""The old letters, written together: ``ai`` is a control plane that also runs pods."""


def _from_letters(value: Any) -> Any:
    if isinstance(value, str) and value and set(value) <= SHORT_ROLES.keys():
        return frozenset(SHORT_ROLES[letter] for letter in value)
    return value


Roles = Annotated[
    frozenset[Role],
    BeforeValidator(_from_letters),
    Expected("a list of etcd, control-plane and minion, or the letters e, a and i, such as ai"),
]
"""A list of roles, or the old letters such as ``ai``."""


class Taint(Part):
    """Keeps pods that do not tolerate it away from a node."""

    key: Text
    """As of a label, also with a prefix of Kubernetes' own, but none that its controllers set
    (``node.kubernetes.io``, ``node.cloudprovider.kubernetes.io``)."""
    value: Text = ""
    """As of a label."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What becomes of such pods. A key stands once with each effect."""


class Machine(Part):
    """One machine at its fixed address."""

    address: Address
    """Its fixed address in ``networks.machines``: not the first or last one of the range, not the
    host's, no other machine's. It cannot change; a new address goes with a new name."""
    roles: Annotated[Roles, LeftOut("minion; of the only machine control-plane and minion")] = (
        frozenset({Role.MINION})
    )
    """What it does: a member of etcd, a control plane, a node for pods. There is at least one
    control plane and one minion that takes any pod. The members of etcd are an odd number, and the
    control planes where no machine is said to be one."""
    cpus: Annotated[Whole, Field(ge=1, le=128)] = 1
    """Virtual CPUs. This, ``memory`` and ``disk`` are left out of a machine that exists already."""
    memory: Whole = 2048
    """In MiB: at least 1024 for a control plane, else 512; at most 16777216."""
    disk: Whole = 10
    """In GiB, allocated as it fills: at least 8 for a member of etcd, else 6; at most 65536. It can
    grow and not shrink."""
    labels: dict[Text, Text] = Field(default_factory=dict)
    """Of the Node object, which follows them; not for a machine with etcd alone. A key has at most
    63 of ``A-Z``, ``a-z``, ``0-9``, ``-``, ``_`` and ``.``, a letter or digit at both ends, and
    perhaps a DNS name and ``/`` before it. A value has as many of the same, or none. Prefixes that
    end with ``kubernetes.io`` or ``k8s.io`` are Kubernetes' own; open are ``node.kubernetes.io``,
    ``kubelet.kubernetes.io``, and ``topology.kubernetes.io/region`` and ``zone`` with their older
    names."""
    taints: tuple[Taint, ...] = ()
    """Of the Node object, which follows them; not for a machine with etcd alone."""
    hypervisor: Annotated[Hypervisor | None, LeftOut("the cluster's hypervisor")] = None
    """Where this machine alone runs: a mapping as the cluster's ``hypervisor``. Machines of one
    libvirt have the same settings of it. Machines that are made in several places, or beside others
    that exist already, need ``networks.routed`` and a subnet for each place; on several libvirts
    ``networks.bridge`` will do, if it is the same network everywhere."""
