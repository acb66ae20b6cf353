"""Checks that the address ranges do not overlap, are usable and are large enough."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import combinations

from spec.description import Description
from spec.network import NODE_PORTS, RESERVED_PORTS, Networks, VirtualIp
from spec.refusal import Refusal, listed

SPECIAL = {
    IPv4Network("0.0.0.0/8"): "this host",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("169.254.0.0/16"): "link-local addresses",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "no use yet",
}
"""Ranges whose addresses are never routed to a machine (RFC 6890)."""

PRIVATE = tuple(
    map(
        IPv4Network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"),
            *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
        ),
    )
)
"""Ranges that are not in use on the Internet (RFC 6890)."""

SMALLEST_SERVICES = 28
"""The longest prefix of a range that still contains its tenth address, that of the DNS Service."""
LARGEST_NODE, SMALLEST_NODE = 16, 25
"""The prefixes of the largest and the smallest part of a node; kubelet admits 110 pods."""

SMALLEST_PACKET, LARGEST_PACKET = 576, 9000
"""Bytes of a packet that every host takes (RFC 791), and of a usual jumbo frame."""
SMALLEST_IPV6 = 1280
"""Bytes below which Linux has no IPv6 on an interface (RFC 8200)."""
VXLAN_HEADERS = 50
"""Bytes that VXLAN adds to a packet over IPv4."""
ETHERNET = 1500
"""Bytes of a packet that a hypervisor's network takes."""


def ranges(networks: Networks) -> list[tuple[str, IPv4Network]]:
    """The field and network of each range that parsed."""
    machines: tuple[IPv4Network, ...] = networks.parsed("machines") or ()
    fields = [subnet_field(networks, subnet) for subnet in machines]
    inner = [(name, networks.parsed(name)) for name in ("pods", "services")]
    return [
        *zip(fields, machines, strict=True),
        *((f"networks.{name}", network) for name, network in inner if network),
    ]


def subnet_field(networks: Networks, subnet: IPv4Network) -> str:
    """The field of a subnet of machines: an item of a list where there are several."""
    if len(networks.machines) == 1:
        return "networks.machines"
    return f"networks.machines.{networks.machines.index(subnet)}"


def ranges_do_not_overlap(spec: Description) -> Iterator[Refusal]:
    """No two ranges overlap."""
    for (name, first), (later_name, second) in combinations(ranges(spec.networks), 2):
        if first.overlaps(second):
            yield Refusal(
                later_name,
                f"{second} overlaps {name} {first}",
                "the same address would lead to two places",
                f"write a private network apart from it, such as {_apart(spec.networks)}",
            )


def ranges_are_routed(spec: Description) -> Iterator[Refusal]:
    """No range contains addresses that are reserved for special use."""
    for field, network in ranges(spec.networks):
        use = next((use for special, use in SPECIAL.items() if special.overlaps(network)), None)
        if use:
            yield Refusal(
                field,
                f"{network} has addresses that are set aside for {use}",
                "no packet would arrive there",
                f"write a private network such as {_apart(spec.networks)}",
            )


def machines_network_is_private(spec: Description) -> Iterator[Refusal]:
    """Each of the machines' subnets is private, unless its machines exist already.

    A machine that is made with an address of no subnet counts for all of them. On a bridge machines
    are in a network that is there already.
    """
    if spec.networks.bridge:
        return
    subnets = spec.networks.machines
    made = [m.address for name, m in spec.machines.items() if spec.is_made(name)]
    outside = any(spec.networks.subnet_of(address) is None for address in made)
    for subnet in subnets:
        if outside or any(address in subnet for address in made):
            yield from _private(spec, subnet_field(spec.networks, subnet), subnet)


def pods_network_is_private(spec: Description) -> Iterator[Refusal]:
    """The pods' network is private, since it hides outside hosts with its addresses."""
    yield from _private(spec, "networks.pods", spec.networks.pods)


def services_network_is_private(spec: Description) -> Iterator[Refusal]:
    """The Services' network is private, since it hides outside hosts with its addresses."""
    yield from _private(spec, "networks.services", spec.networks.services)


def _private(spec: Description, field: str, network: IPv4Network) -> Iterator[Refusal]:
    special = any(special_range.overlaps(network) for special_range in SPECIAL)
    if not special and not any(network.subnet_of(special_range) for special_range in PRIVATE):
        yield Refusal(
            field,
            f"{network} is not private",
            "the real owners of these addresses could not be reached",
            f"write a private network such as {_apart(spec.networks)}",
        )


def _apart(networks: Networks) -> IPv4Network:
    """A private network that overlaps none of the ranges."""
    taken = [network for _, network in ranges(networks)]
    candidates = [IPv4Network(f"10.{number}.0.0/16") for number in range(200, 256)]
    free = (
        candidate
        for candidate in candidates
        if not any(candidate.overlaps(network) for network in taken)
    )
    return next(free, IPv4Network("172.31.0.0/16"))


def machines_network_has_room(spec: Description) -> Iterator[Refusal]:
    """The machines' subnets have addresses for all machines, gateways and a virtual IP."""
    subnets = spec.networks.machines
    extra = isinstance(spec.parsed("endpoint"), VirtualIp)
    needed = len(spec.machines) + len(subnets) + extra
    room = sum(max(subnet.num_addresses - 2, 0) for subnet in subnets)
    if needed > room:
        prefix = 32 - (needed + 1).bit_length()
        has = "has" if len(subnets) == 1 else "have"
        yield Refusal(
            "networks.machines",
            f"{listed(subnets, 'and')} {has} room for {room} addresses and {needed} are needed",
            "some machines would get none",
            f"write a network with a prefix of /{prefix} or less",
        )


def node_has_addresses_for_its_pods(spec: Description) -> Iterator[Refusal]:
    """The part of a node has addresses for all pods that kubelet admits, and is not too large."""
    prefix = spec.networks.pods_per_node
    if not LARGEST_NODE <= prefix <= SMALLEST_NODE:
        breaks = (
            "a node would run out of addresses before kubelet's limit of 110 pods"
            if prefix > SMALLEST_NODE
            else "a node would take more addresses than it could ever use"
        )
        yield Refusal(
            "networks.pods_per_node",
            f"is {prefix}",
            breaks,
            f"write a prefix length from {LARGEST_NODE} to {SMALLEST_NODE}, such as 24",
        )


def pods_network_has_room_for_the_nodes(spec: Description) -> Iterator[Refusal]:
    """The pods' network has a part for each node.

    With its store in etcd, flannel does not use the first part and requires at least four parts
    (flannel's pkg/subnet/config.go).
    """
    pods, prefix = spec.networks.pods, spec.networks.pods_per_node
    if not LARGEST_NODE <= prefix <= SMALLEST_NODE:
        return
    in_etcd = spec.flannel.store == "etcd"
    parts = 2 ** (prefix - pods.prefixlen) if prefix >= pods.prefixlen else 0
    usable = parts - 1 if in_etcd else parts
    needed = max(len(spec.nodes), 3) if in_etcd else len(spec.nodes)
    if usable < needed:
        bits = (needed + in_etcd - 1).bit_length()
        yield Refusal(
            "networks.pods",
            f"{pods} has room for {max(usable, 0)} parts of a /{prefix} where {needed} are needed",
            "some nodes would get no addresses for their pods",
            f"write a network with a prefix of /{prefix - bits} or less, "
            "or raise networks.pods_per_node",
        )


def services_network_has_room(spec: Description) -> Iterator[Refusal]:
    """The Services' network contains the addresses of the API and of DNS."""
    services = spec.networks.services
    if services.prefixlen > SMALLEST_SERVICES:
        yield Refusal(
            "networks.services",
            f"{services} has {services.num_addresses} addresses",
            "the tenth, which is the DNS Service's, would be outside",
            f"write a network with a prefix of /{SMALLEST_SERVICES} or less",
        )


def way_out_is_of_a_lab(spec: Description) -> Iterator[Refusal]:
    """The way out of a lab is given only where the lab makes machines."""
    if spec.networks.outside is not None and spec.machines and not spec.in_lab:
        places = (spec.hypervisor_of(name) for name in spec.machines)
        kinds = sorted({where.kind for where in places if where})
        yield Refusal(
            "networks.outside",
            f"stands beside a hypervisor of the kind {listed(kinds, 'and')}",
            "it is about machines that a lab makes, and these get what their own network has",
            "leave it out",
        )


def packets_have_a_usable_size(spec: Description) -> Iterator[Refusal]:
    """The size of packets is one that networks have, and leaves pods enough of it."""
    mtu = spec.networks.mtu
    if mtu is None:
        return
    field = "networks.mtu"
    if not SMALLEST_PACKET <= mtu <= LARGEST_PACKET:
        breaks = (
            "no network has to pass on packets that small whole"
            if mtu < SMALLEST_PACKET
            else "no usual network passes on packets that large"
        )
        sizes = f"from {SMALLEST_PACKET} to {LARGEST_PACKET}"
        yield Refusal(field, f"is {mtu}", breaks, f"write bytes {sizes}, such as 1500")
        return
    if spec.flannel.backend == "vxlan" and mtu - VXLAN_HEADERS < SMALLEST_IPV6:
        yield Refusal(
            field,
            f"is {mtu}, of which VXLAN takes {VXLAN_HEADERS}",
            f"pods would have less than the {SMALLEST_IPV6} bytes that IPv6 demands",
            f"write {SMALLEST_IPV6 + VXLAN_HEADERS} or more, or flannel.backend: host-gw",
        )
    if mtu > ETHERNET and any(spec.is_made(name) for name in spec.machines):
        yield Refusal(
            field,
            f"is {mtu}",
            f"the hypervisor's network, which takes {ETHERNET}, would drop larger packets",
            f"write {ETHERNET} or less",
        )


def routes_lead_to_neighbours(spec: Description) -> Iterator[Refusal]:
    """With ``host-gw`` all nodes are in one subnet, since a route's next hop is a neighbour.

    flanneld adds no route where there is a router between, and says so in its log alone.
    """
    if spec.flannel.backend != "host-gw":
        return
    homes = {spec.networks.subnet_of(spec.machines[name].address) for name in spec.nodes} - {None}
    if len(homes) > 1:
        yield Refusal(
            "flannel.backend",
            f"is host-gw, and nodes are in {len(homes)} subnets of networks.machines",
            "their pods would not reach each other, since a route leads to a neighbour alone",
            "write vxlan",
        )


def flannel_port_is_free(spec: Description) -> Iterator[Refusal]:
    """No other component on a machine uses the UDP port of VXLAN."""
    port = spec.flannel.port
    if spec.flannel.backend != "vxlan":
        return
    if owner := RESERVED_PORTS.get(port):
        taken = f"belongs to {owner}"
    elif port in NODE_PORTS:
        taken = f"lies among the NodePorts {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
    elif port < 1024:
        taken = "lies among the system's ports"
    else:
        return
    yield Refusal(
        "flannel.port",
        f"{port} {taken}",
        "packets between pods would end up elsewhere",
        "write 8472 or 4789",
    )
