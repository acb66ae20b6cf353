"""Checks the addresses that the add-on ``load_balancer`` gives to Services."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import islice

from spec.checks.urls import host_of
from spec.description import Description
from spec.load_balancer import MEMBER_PORT, LoadBalancer, bounds
from spec.names import is_address
from spec.network import Balancer, VirtualIp
from spec.part import Unparsed
from spec.refusal import Refusal, called

FIELD = "addons.load_balancer.addresses"

SUGGESTED = 20
"""The most addresses of a range that a message suggests."""


def load_balancer_has_addresses(spec: Description) -> Iterator[Refusal]:
    """There is an address to give."""
    wanted = spec.addons.load_balancer
    if wanted and not wanted.addresses:
        yield Refusal(FIELD, "is empty", "no Service would get an address", _instead(spec))


def load_balancer_addresses_are_free(spec: Description) -> Iterator[Refusal]:
    """Each range lies in a subnet of nodes, and nobody else has an address of it."""
    taken = dict(_taken(spec)) if spec.addons.load_balancer else {}
    earlier: list[tuple[str, IPv4Address, IPv4Address]] = []
    for field, text, first, last in _ranges(spec):
        subnet = spec.networks.subnet_of(first)
        if subnet is None or last not in subnet:
            subnets = ", ".join(map(str, spec.networks.machines))
            yield Refusal(
                field,
                f"{text} is not inside networks.machines {subnets}",
                "nobody on that network would ask a node for its addresses",
                _instead(spec),
            )
            continue
        if subnet not in _subnets_of_nodes(spec):
            yield Refusal(
                field,
                f"{text} is in {subnet}, where no node is",
                "nobody would answer for its addresses there",
                _instead(spec),
            )
            continue
        for address, owner in taken.items():
            if first <= address <= last:
                yield Refusal(
                    field,
                    f"{text} contains {address}, {owner}",
                    "two would answer for it",
                    _instead(spec),
                )
        for text_before, first_before, last_before in earlier:
            if first <= last_before and first_before <= last:
                yield Refusal(
                    field,
                    f"{text} overlaps {text_before}",
                    "MetalLB takes neither of them",
                    "write each address once",
                )
        earlier.append((text, first, last))


def _ranges(spec: Description) -> Iterator[tuple[str, str, IPv4Address, IPv4Address]]:
    """Field, text, first and last address of each range."""
    wanted = spec.addons.load_balancer
    for number, text in enumerate(wanted.addresses if isinstance(wanted, LoadBalancer) else ()):
        yield f"{FIELD}.{number}", text, *bounds(text)


def _subnets_of_nodes(spec: Description) -> tuple[IPv4Network, ...]:
    """The subnets in which nodes are, in the spec's order."""
    addresses = [spec.machines[name].parsed("address") for name in spec.nodes]
    return tuple(
        subnet
        for subnet in spec.networks.machines
        if any(address in subnet for address in addresses if address)
    )


def _taken(spec: Description) -> Iterator[tuple[IPv4Address, str]]:
    """Each address of the machines' network that is not free, with a phrase about its owner.

    A field that did not parse has no address.
    """
    for subnet in spec.networks.machines:
        if subnet.prefixlen < 31:
            yield subnet[0], "the first of its network, which is reserved"
            yield subnet[-1], "the last of its network, which is reserved"
    for name, machine in spec.machines.items():
        address = machine.parsed("address") if spec.is_made(name) else None
        of_host = spec.networks.subnet_of(address) if address else None
        if of_host:
            owner = "of the gateway" if spec.networks.gateway else "of the host"
            yield spec.networks.gateway_of(of_host), f"the address {owner}"
    hosts = {
        "artifacts.mirror": [host_of(spec.artifacts.mirror)],
        "proxy": [host_of(url) for url in (spec.proxy.http, spec.proxy.https)]
        if spec.proxy
        else [],
        "networks.time_servers": spec.networks.time_servers,
        "networks.name_servers": map(str, spec.networks.name_servers),
        "addons.name_servers": map(str, spec.addons.name_servers),
    }
    for name, registry in spec.registries.items():
        hosts[f"registries.{name}"] = [host_of(url) for url in registry.mirrors]
    for field, names in hosts.items():
        yield from (
            (IPv4Address(host), f"which {field} names") for host in names if is_address(host)
        )
    match spec.endpoint:
        case VirtualIp(address=address):
            yield address, "the virtual IP of the API"
        case Balancer(host=host) if is_address(host):
            yield IPv4Address(host), "the address of the API's balancer"
    for name, machine in spec.machines.items():
        if address := machine.parsed("address"):
            yield address, f"the address of {called(name)}"


def _instead(spec: Description) -> str:
    """A phrase with the longest free range at the end of the network, of at most 20 addresses."""
    network = next(iter(_subnets_of_nodes(spec)), spec.networks.machines[0])
    try:
        taken = {address for address, _ in _taken(spec)}
    except Unparsed:
        taken = {network[0], network[-1]}
    hosts = (network[-number] for number in range(1, network.num_addresses + 1))
    free: list[IPv4Address] = []
    for address in islice(hosts, len(taken) + 2 * SUGGESTED):
        if address not in taken:
            free.append(address)
        elif len(free) > 1:
            break
        else:
            free = []
    if len(free) < 2:
        return "write a free range, in a larger network"
    return f"write a free range such as {free[:SUGGESTED][-1]}-{free[0]}"


def load_balancer_ports_are_free(spec: Description) -> Iterator[Refusal]:
    """The UDP port of VXLAN is not the one at which MetalLB's speakers ask each other."""
    wanted = spec.addons.load_balancer and spec.flannel.backend == "vxlan"
    if wanted and spec.flannel.port == MEMBER_PORT:
        yield Refusal(
            "flannel.port",
            f"{MEMBER_PORT} belongs to addons.load_balancer",
            "packets between pods would end up elsewhere",
            "write 8472 or 4789",
        )
