"""The interface between the program and a hypervisor beside the engine."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Protocol


@dataclass(frozen=True)
class MachineSize:
    """The memory and processors of a machine."""

    memory: int
    """MiB."""
    cpus: int


@dataclass(frozen=True, kw_only=True)
class ResourceTypes:
    """The engine's types of the resources that make up a hypervisor's machines."""

    machine: str
    """The type of the resource whose deletion removes a machine."""
    disk: str | None
    """The type of the resource that holds a machine's data; None where the machine itself does."""
    replaced_for: Mapping[str, frozenset[str]]
    """A type, mapped to the inputs that cannot be updated: their change replaces the resource."""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """A type, mapped to what its provider adds to the inputs: values by their names, where the
    value of a list is a mapping that is added to each of its items."""
    restarts: bool = False
    """Whether an update of a machine's resource shuts the machine down and starts it again."""

    @property
    def data(self) -> str:
        """The type of the resource whose deletion loses a machine's data."""
        return self.disk or self.machine


class IdentifierError(Exception):
    """A hypervisor does not say what it has; the text is one sentence without its full stop."""


class Upkeep(Protocol):
    """What has to be done to machines on a hypervisor and is no change of a resource.

    ``domains`` are the machines' names on the hypervisor (``spec.hypervisor.domain_name``).
    """

    def refuse_taken(self, domains: Iterable[str]) -> None:
        """Raise an exception where something has the name of one of these new machines already."""

    def refuse_bridge(self, bridge: str, addresses: Iterable[IPv4Address]) -> None:
        """Raise an exception where new machines cannot have these addresses on the host's bridge.

        They cannot where there is no such bridge or somebody on it has one of them.
        """

    def grow(self, sizes: Mapping[str, int]) -> None:
        """Grow the disks of these domains to sizes in GiB; a large enough disk is left alone."""

    def shut_down(self, sizes: Mapping[str, MachineSize], say: Callable[[str], None]) -> None:
        """Shut down the running domains whose size differs, since they will be made anew.

        ``say`` gets a line for each domain. A domain that does not shut down is no failure.
        """

    def identifier(self, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
        """The engine's ID of a resource with these inputs that is there already.

        None where there is none, or where the engine takes over what is there when it makes the
        resource. Raises IdentifierError where the hypervisor gives no answer.
        """
