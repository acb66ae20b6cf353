"""The upkeep of machines that exist already: their owner does it."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from hypervisors.upkeep import MachineSize
from spec.hypervisor import Existing


class ExistingUpkeep:
    """Does nothing: the spec names no sizes of these machines.

    That a machine belongs to no other cluster is checked on the machine itself (``attach.sh``).
    """

    def __init__(self, where: Existing) -> None:
        del where

    def refuse_taken(self, domains: Iterable[str]) -> None:
        """Refuse nothing."""

    def refuse_bridge(self, bridge: str, addresses: Iterable[IPv4Address]) -> None:
        """Refuse nothing: the spec's checks allow no bridge beside such machines."""

    def grow(self, sizes: Mapping[str, int]) -> None:
        """Grow nothing."""

    def shut_down(self, sizes: Mapping[str, MachineSize], say: Callable[[str], None]) -> None:
        """Shut nothing down."""

    def identifier(self, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
        """None, since a machine that is attached again stays as it is (``attach.sh``)."""
