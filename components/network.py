"""The component of a subnet of machines."""

from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi

from hypervisors.port import Hypervisor, Subnet
from spec import resource_names


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """A subnet's addresses, and where it is."""

    cluster: str
    addresses: IPv4Network
    label: str
    """Tells the subnets of a cluster apart; empty for the first one."""
    is_routed: bool
    bridge: str | None = None
    """The bridge of the hypervisor's host that machines are on: nothing is made."""
    hypervisor: Hypervisor


class Network(pulumi.ComponentResource):
    """A network in which every machine has a fixed address.

    The host has the first address where the network is made.
    """

    identifier: pulumi.Output[str]

    def __init__(self, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        name = resource_names.of_place("machines", args.label)
        super().__init__("hardway:index:Network", name, None, opts)
        subnet = Subnet(
            resource=resource_names.of_place(resource_names.NETWORK, args.label),
            name=resource_names.of_place(args.cluster, args.label),
            addresses=args.addresses,
            is_routed=args.is_routed,
        )
        self.identifier = (
            pulumi.Output.from_input(args.bridge)
            if args.bridge
            else args.hypervisor.network(subnet, self)
        )
        self.register_outputs({"identifier": self.identifier})
