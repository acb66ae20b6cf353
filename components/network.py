"""The component of the machines' network."""

from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi

from hypervisors.port import Hypervisor


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """A network's name on its hypervisor and its addresses."""

    name: str
    addresses: IPv4Network
    hypervisor: Hypervisor


class Network(pulumi.ComponentResource):
    """A network in which the host has the first address and every machine has a fixed address."""

    identifier: pulumi.Output[str]

    def __init__(
        self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("hardway:index:Network", name, None, opts)
        self.identifier = args.hypervisor.network(args.name, args.addresses, self)
        self.register_outputs({"identifier": self.identifier})
