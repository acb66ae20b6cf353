"""The upkeep of machines on libvirt, by virsh."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from hypervisors.libvirt.bridge import refuse_bridge
from hypervisors.libvirt.growth import grow, refuse_taken
from hypervisors.libvirt.identifiers import identifier
from hypervisors.libvirt.shutdown import shut_down
from hypervisors.upkeep import MachineSize
from spec.hypervisor import Libvirt


class LibvirtUpkeep:
    """Checks, grows and shuts down the machines of one libvirt connection."""

    def __init__(self, where: Libvirt) -> None:
        self._where = where

    def refuse_taken(self, domains: Iterable[str]) -> None:
        """Raise DiskError where a disk of one of these new domains exists already."""
        refuse_taken(self._where, domains)

    def refuse_bridge(self, bridge: str, addresses: Iterable[IPv4Address]) -> None:
        """Raise BridgeError where there is no such bridge or somebody has one of the addresses."""
        refuse_bridge(self._where, bridge, addresses)

    def grow(self, sizes: Mapping[str, int]) -> None:
        """Grow the disks of these domains to sizes in GiB. Raises DiskError."""
        grow(self._where, sizes)

    def shut_down(self, sizes: Mapping[str, MachineSize], say: Callable[[str], None]) -> None:
        """Have the running domains power off whose size differs from the given one."""
        shut_down(self._where, sizes, say)

    def identifier(self, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
        """The ID of a network, disk, seed or domain. Raises IdentifierError."""
        return identifier(self._where.uri, resource_type, inputs)
