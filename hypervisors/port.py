"""The interface between the components and a hypervisor."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

import pulumi

from spec.cluster import Machine


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The documents that a machine reads at its first boot by cloud-init's NoCloud data source."""

    user_data: pulumi.Input[str]
    """A ``#cloud-config`` document; secret, since it contains the private host key."""
    meta_data: str
    network_config: str


@dataclass(frozen=True, kw_only=True)
class ClusterKey:
    """A key pair with which the program logs in to all machines of a cluster."""

    public: pulumi.Input[str]
    private: pulumi.Input[str]
    """Secret."""


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet of machines on one hypervisor."""

    resource: str
    """The name of the engine's resource."""
    name: str
    """The network's name on the hypervisor."""
    addresses: IPv4Network
    is_routed: bool
    """Whether packets pass the host as they are; otherwise it is behind NAT."""


class Hypervisor(Protocol):
    """A hypervisor that makes networks and machines.

    A change of a disk's size does not replace the disk: the hypervisor's ``hypervisors.upkeep``
    grows the disk without the engine.
    """

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        """Make a network with a gateway at its first address; return its identifier.

        Where machines exist already, so does their network.
        """

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make and start a machine; return the resource whose deletion removes the machine.

        With a bridge of the hypervisor's host, the machine's interface is there, and ``network`` is
        of no use.

        The machine lets the key in, and the ``others``. Each new machine has a new resource ID. A
        machine that exists already only becomes a member of the cluster, and its resource's
        deletion hands it back.
        """
