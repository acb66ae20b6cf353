"""The addresses that the add-on ``load_balancer`` gives to Services."""

from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from spec.part import Expected, Part, Text

MEMBER_PORT = 7946
"""The port, TCP and UDP, at which MetalLB's speakers ask each other whether they live."""

HEALTH_PORT = 17472
"""The port at which MetalLB says that it is ready: on a node's loopback address, and on the
controller's own one."""


def bounds(text: str) -> tuple[IPv4Address, IPv4Address]:
    """The first and the last address of a range, a network or a single address.

    Raises ValueError for any other text.
    """
    first, dash, last = text.partition("-")
    if dash:
        ends = IPv4Address(first.strip()), IPv4Address(last.strip())
        next(summarize_address_range(*ends))  # refuses a last address before the first
        return ends
    network = IPv4Network(text)
    return network[0], network[-1]


def _readable(text: str) -> str:
    bounds(text)
    return text


def _alone(value: Any) -> Any:
    """Makes a list of a single range."""
    return (value,) if isinstance(value, str) else value


AddressRange = Annotated[
    Text,
    AfterValidator(_readable),
    Expected("a range such as 192.168.1.200-192.168.1.220, or a network"),
]

Ranges = Annotated[
    tuple[AddressRange, ...],
    BeforeValidator(_alone),
    Expected(
        "a range such as 192.168.1.200-192.168.1.220, a network such as 192.168.1.192/27, or a "
        "list of them"
    ),
]


class LoadBalancer(Part):
    """Gives each Service of the type LoadBalancer an address of the machines' network.

    MetalLB does it, in layer 2: one node answers for an address, and another one where that dies. A
    Service keeps its address; ``metallb.io/loadBalancerIPs`` among its annotations wishes one.
    """

    addresses: Ranges
    """The addresses, in ``networks.machines``: that of nobody else, such as machines, the host, a
    virtual IP or name servers, and of no range that gives addresses to others (DHCP). A living
    cluster takes others; a Service whose address is no longer there gets another."""
