"""One machine: what it does, how large it is, where it runs."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from spec.hypervisor import Hypervisor
from spec.part import Address, Expected, Part, Text, Whole


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
    value: Text = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Machine(Part):
    """One machine at its fixed address."""

    address: Address
    roles: Roles = frozenset({Role.MINION})
    cpus: Annotated[Whole, Field(ge=1, le=128)] = 1
    memory: Whole = 2048
    """MiB."""
    disk: Whole = 10
    """GiB."""
    labels: dict[Text, Text] = Field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    hypervisor: Hypervisor | None = None
    """Where this machine runs; left out, where the cluster's others do."""
