"""Checks the addresses of machines, of the API's endpoint and of name servers."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, islice

from spec.checks.networks import SPECIAL
from spec.description import Description
from spec.names import is_address, is_dns_name
from spec.network import Balancer, VirtualIp, mac_address
from spec.part import Unparsed
from spec.refusal import Refusal, called, dotted, listed, shown

MOST_NAME_SERVERS = 15
"""The limit of CoreDNS' plugin forward."""

MOST_OF_MACHINES = 3
"""The limit of the C library (``MAXNS`` in resolv.h)."""


def machine_fits(spec: Description, name: str) -> Iterator[Refusal]:
    """A machine's address is usable in the machines' network."""
    field = dotted(("machines", name, "address"))
    try:
        made = spec.is_made(name)
    except Unparsed:
        made = False
    yield from _misplaced(spec, field, spec.machines[name].address, made=made)


def virtual_ip_fits(spec: Description) -> Iterator[Refusal]:
    """A virtual IP is a usable address that no machine has, in the subnet of all control planes."""
    if not isinstance(spec.endpoint, VirtualIp):
        return
    field, address = "endpoint.address", spec.endpoint.address
    yield from _misplaced(spec, field, address, made=True)
    for name, taken in _of_machines(spec):
        if taken == address:
            yield Refusal(
                field,
                f"{address} is the address of {called(name)}",
                "the API would vanish with that machine",
                f"write {_free(spec)}",
            )
    home = spec.networks.subnet_of(address)
    for name in spec.control_planes:
        own = spec.networks.subnet_of(spec.machines[name].address)
        if home and own and own != home:
            yield Refusal(
                field,
                f"{address} is in {home} and the control plane {called(name)} in {own}",
                "the address could not move there: it is announced to neighbours alone",
                "write an address of the subnet that all control planes are in, or kind: balancer",
            )


def each_is_used_once(spec: Description) -> Iterator[Refusal]:
    """No two machines have the same address."""
    taken: dict[IPv4Address, str] = {}
    for name, address in _of_machines(spec):
        first = taken.setdefault(address, name)
        if first != name:
            yield Refusal(
                dotted(("machines", name, "address")),
                f"{address} is already used by {called(first)}",
                "one of them would not answer",
                f"write {_free(spec)}",
            )


def each_has_a_mac_address_of_its_own(spec: Description) -> Iterator[Refusal]:
    """No two machines get the same MAC address, which follows from the cluster and the IP address.

    Of two such machines, the later one is refused if this program makes it.
    """
    taken: dict[str, str] = {}
    for name, address in _of_machines(spec):
        first = taken.setdefault(mac_address(spec.name, address), name)
        if first != name and address != spec.machines[first].address and spec.is_made(name):
            yield Refusal(
                dotted(("machines", name, "address")),
                f"{address} gives the same MAC address as {called(first)} has",
                "both would get each other's packets",
                f"write {_free(spec)}",
            )


def balancer_is_somebody_elses(spec: Description) -> Iterator[Refusal]:
    """The host of a balancer is a DNS name or an IPv4 address outside the cluster."""
    if not isinstance(spec.endpoint, Balancer):
        return
    host = spec.endpoint.host
    if is_address(host):
        yield from _misplaced_balancer(spec, IPv4Address(host))
    elif not is_dns_name(host):
        yield Refusal(
            "endpoint.host",
            f"{shown(host)} is neither an IPv4 address nor a DNS name in lower case",
            "it could not stand in certificates and kubeconfigs",
            "write the name alone, without scheme and port, such as api.example.org",
        )
    elif is_own_name(host):
        yield _itself(host)
    elif host.endswith(f".svc.{spec.dns_domain}"):
        yield Refusal(
            "endpoint.host",
            f"{host} is the name of a Service",
            "machines, which do not ask the cluster's name service, would never find the API",
            "write the balancer's own name or address",
        )
    elif host in spec.machines:
        yield Refusal(
            "endpoint.host",
            f"{host} is the name of a machine of this cluster",
            "that machine would look for the API at itself, and others would not know the name",
            "write the balancer's own name or address",
        )


def is_own_name(host: str) -> bool:
    """Whether each machine resolves this name to itself (RFC 6761)."""
    return host == "localhost" or host.endswith(".localhost")


def _misplaced_balancer(spec: Description, host: IPv4Address) -> Iterator[Refusal]:
    field = "endpoint.host"
    if any(host in special for special in SPECIAL):
        yield _itself(str(host))
    if which := reserved(spec, host):
        yield Refusal(
            field,
            f"{host} is the {which}, which is reserved",
            "nobody could answer there",
            "write the balancer's own name or address",
        )
    for name, address in _of_machines(spec):
        if address == host:
            yield Refusal(
                field,
                f"{host} is the address of {called(name)}",
                "the API would vanish with that machine",
                "write the balancer's own address, or kind: virtual-ip with a free one",
            )
    for inside in ("pods", "services"):
        network = getattr(spec.networks, inside)
        if host in network:
            yield Refusal(
                field,
                f"{host} lies inside networks.{inside} {network}",
                "machines would look for it in the cluster",
                "write the balancer's own address",
            )


def name_servers_are_outside(spec: Description) -> Iterator[Refusal]:
    """CoreDNS has at most 15 upstream name servers, all outside the cluster."""
    field, servers = "addons.name_servers", spec.addons.name_servers
    if servers and not spec.addons.coredns:
        yield Refusal(
            field,
            "is given without addons.coredns",
            "nobody would ask them",
            "write coredns: true, or leave it out",
        )
    if len(servers) > MOST_NAME_SERVERS:
        yield Refusal(
            field,
            f"has {len(servers)} addresses",
            f"CoreDNS would not start with more than {MOST_NAME_SERVERS}",
            "write two or three",
        )
    yield from _outside(spec, field, servers)


def machines_name_servers_are_outside(spec: Description) -> Iterator[Refusal]:
    """Machines have at most three name servers, all outside the cluster."""
    field, servers = "networks.name_servers", spec.networks.name_servers
    if len(servers) > MOST_OF_MACHINES:
        yield Refusal(
            field,
            f"has {len(servers)} addresses",
            f"programs would ask the first {MOST_OF_MACHINES} and nobody would ask the others",
            "write two or three",
        )
    yield from _outside(spec, field, servers)


def time_servers_are_outside(spec: Description) -> Iterator[Refusal]:
    """Each time server is a DNS name, or an IPv4 address outside the cluster's own ranges."""
    for number, server in enumerate(spec.networks.time_servers):
        if is_address(server):
            address = IPv4Address(server)
            inside = (spec.networks.services, spec.networks.pods, *SPECIAL)
            inward = any(address in network for network in inside) or bool(reserved(spec, address))
        else:
            inward = is_own_name(server) or server.endswith(f".svc.{spec.dns_domain}")
            if not is_dns_name(server):
                yield Refusal(
                    f"networks.time_servers.{number}",
                    f"{shown(server)} is neither an IPv4 address nor a DNS name in lower case",
                    "no machine could ask it for the time",
                    "write the name alone, without scheme and port, such as ntp.example.org",
                )
        if inward:
            yield Refusal(
                f"networks.time_servers.{number}",
                f"{server} leads back into the cluster or nowhere",
                "machines would have no time server before the cluster runs",
                "write a server that all machines reach, such as the one that their router has",
            )


def _outside(spec: Description, field: str, servers: tuple[IPv4Address, ...]) -> Iterator[Refusal]:
    for number, server in enumerate(servers):
        inside = (spec.networks.services, spec.networks.pods, *SPECIAL)
        if any(server in network for network in inside) or reserved(spec, server):
            yield Refusal(
                f"{field}.{number}",
                f"{server} leads back into the cluster or nowhere",
                "names outside the cluster would have no address in it",
                "write a name server that machines reach, such as the one they use themselves",
            )


def _itself(host: str) -> Refusal:
    return Refusal(
        "endpoint.host",
        f"{host} leads every machine to itself at best",
        "nobody would reach the API there",
        "write the balancer's own name or address",
    )


def _misplaced(
    spec: Description, field: str, address: IPv4Address, *, made: bool
) -> Iterator[Refusal]:
    networks = spec.networks
    if networks.subnet_of(address) is None:
        subnets = listed(networks.machines)
        wrong, breaks = f"is outside networks.machines {subnets}", "nothing would reach it"
    elif _end_of(spec, address):
        wrong = f"is the {_end_of(spec, address)} of its network, which is reserved"
        breaks = "it would not answer"
    elif made and address in networks.gateways:
        wrong, breaks = "is used by the gateway", "neither of them would answer"
    else:
        return
    yield Refusal(field, f"{address} {wrong}", breaks, f"write {_free(spec)}")


def reserved(spec: Description, address: IPv4Address) -> str:
    """The words "first of networks.machines" with the subnet for a subnet's own address.

    "last" for its broadcast address, and empty for other addresses.
    """
    if not (which := _end_of(spec, address)):
        return ""
    return f"{which} of networks.machines {spec.networks.subnet_of(address)}"


def _end_of(spec: Description, address: IPv4Address) -> str:
    subnet = spec.networks.subnet_of(address)
    if subnet is None or subnet.prefixlen >= 31 or address not in (subnet[0], subnet[-1]):
        return ""
    return "first" if address == subnet[0] else "last"


def _free(spec: Description) -> str:
    """A phrase with a free address (from the tenth of a subnet on, if that has more than 16)."""
    subnets = spec.networks.machines
    taken = {address for _, address in _of_machines(spec)} | {*spec.networks.gateways}
    if isinstance(endpoint := spec.parsed("endpoint"), VirtualIp):
        taken.add(endpoint.parsed("address"))
    candidates = chain.from_iterable(
        _hosts(subnet, 10 if subnet.num_addresses > 16 else 1) for subnet in subnets
    )
    free = next(
        (address for address in islice(candidates, len(taken) + 1) if address not in taken), None
    )
    return f"{free}, which is free" if free else "one that is free, in a larger network"


def _hosts(network: IPv4Network, first: int) -> Iterator[IPv4Address]:
    return (network[number] for number in range(first, network.num_addresses - 1))


def _of_machines(spec: Description) -> Iterator[tuple[str, IPv4Address]]:
    """The name and address of each machine whose address parsed."""
    for name, machine in spec.machines.items():
        if address := machine.parsed("address"):
            yield name, address
