"""Checks a bridge of a host's own network: which machines it takes, and who leads out of it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from spec.description import Description
from spec.hypervisor import Hypervisor, Libvirt
from spec.refusal import Refusal, called, dotted, listed


def bridge_leads_to_machines(spec: Description) -> Iterator[Refusal]:
    """Only machines on a libvirt that the spec names are on a bridge.

    A lab's own libvirt is in a network namespace, and its mirror is at the first address of a
    network that the lab made.
    """
    field, bridge = "networks.bridge", spec.networks.bridge
    if bridge is None or not spec.machines:
        return
    if spec.in_lab:
        yield Refusal(
            field,
            f"is {bridge}, and {called(spec.in_lab[0])} is left to the lab",
            "the lab makes a network of its own, which has no way to that bridge",
            "write hypervisor.uri of a libvirt, or leave it out",
        )
        return
    for name in spec.machines:
        where = spec.hypervisor_of(name)
        if where is not None and not isinstance(where, Libvirt):
            yield Refusal(
                field,
                f"is {bridge}, and {called(name)} is of the kind {where.kind}",
                "only machines on libvirt are put on a bridge",
                "leave it out, or put all machines on libvirt",
            )
            return


def bridge_is_of_a_single_network(spec: Description) -> Iterator[Refusal]:
    """A bridge has one subnet, which nobody routes to another network of libvirt."""
    networks = spec.networks
    if networks.bridge is None:
        return
    if networks.routed is not None:
        yield Refusal(
            "networks.routed",
            f"stands beside networks.bridge {networks.bridge}",
            "it is about networks that libvirt makes, and with a bridge it makes none",
            "leave it out",
        )
    if len(networks.machines) > 1:
        yield Refusal(
            "networks.machines",
            f"is {listed(networks.machines, 'and')} beside networks.bridge {networks.bridge}",
            "the bridge leads to one network, and machines of another one would reach nobody",
            "write the network alone that the bridge is part of",
        )


def gateway_is_on_the_bridge(spec: Description) -> Iterator[Refusal]:
    """Machines on a bridge have a gateway, which is an address of their subnet and no machine's."""
    networks, field = spec.networks, "networks.gateway"
    bridge, gateway = networks.bridge, networks.gateway
    if bridge is None:
        if gateway is not None:
            yield Refusal(
                field,
                f"is {gateway} without networks.bridge",
                "the host of machines has the first address of their network, and is their gateway",
                "leave it out, or name the bridge of your own network by networks.bridge",
            )
        return
    if gateway is None:
        yield Refusal(
            field,
            f"is not given beside networks.bridge {bridge}",
            "machines would have no way out of their subnet",
            "write the address of that network's router",
        )
        return
    subnet = networks.subnet_of(gateway)
    if subnet is None:
        wrong = f"is outside networks.machines {listed(networks.machines, 'and')}"
    elif subnet.prefixlen < 31 and gateway in (subnet[0], subnet[-1]):
        wrong = "is reserved, as the first or last address of its network"
    else:
        return
    yield Refusal(
        field,
        f"{gateway} {wrong}",
        "machines could not send it anything",
        "write the address of that network's router",
    )


def bridge_can_be_looked_at(spec: Description) -> Iterator[Refusal]:
    """The host of a bridge is this computer or reached by SSH, so that it can be asked."""
    if spec.networks.bridge is None:
        return
    places: list[tuple[str, Hypervisor | None]] = [("hypervisor.uri", spec.hypervisor)]
    for name, machine in spec.machines.items():
        places.append((dotted(("machines", name, "hypervisor", "uri")), machine.hypervisor))
    for field, where in places:
        if not isinstance(where, Libvirt):
            continue
        parts = urlsplit(where.uri)
        transport = parts.scheme.partition("+")[2]
        if transport != "ssh" and (parts.hostname or transport not in ("", "unix")):
            yield Refusal(
                field,
                "leads to another host by another way than SSH, beside networks.bridge",
                "that host could not be asked for the bridge and for who is on it",
                f"write qemu+ssh://root@{parts.hostname or 'host'}{parts.path}",
            )
