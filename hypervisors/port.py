"""What the components ask of a hypervisor."""

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

import pulumi

from spec.cluster import Machine


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What cloud-init's NoCloud data source gives a machine at its first boot."""

    user_data: pulumi.Input[str]
    """A ``#cloud-config`` document; secret, since it carries the host key."""
    meta_data: str
    network_config: str


class Hypervisor(Protocol):
    """A place that makes networks and machines.

    A disk of another size is no other disk: it grows by ``hypervisors.growth``, without the engine.
    """

    def network(
        self, name: str, addresses: IPv4Network, parent: pulumi.Resource
    ) -> pulumi.Output[str]:
        """Make a network with a gateway at its first address; return its identifier."""

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        mac: str,
        seed: Seed,
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        """Make and start a machine; return the resource whose deletion ends it.

        The resource's ID is another one for each machine that is made.
        """
