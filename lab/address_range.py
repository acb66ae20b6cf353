"""Checks that a cluster's address range is free on the host of its machines."""

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any
from xml.etree import ElementTree

from lab.connection import LibvirtConnection, enter, virsh
from lab.problem import Problem
from lab.process import output


def check_network(network: IPv4Network, name: str, libvirt: LibvirtConnection) -> None:
    """Raise a Problem where a cluster's address range is in use already.

    ``name`` is the cluster's own libvirt network: it may have this range, and no other range. The
    check covers libvirt's networks, and the interfaces and routes of the network namespace in which
    libvirt has its bridges.
    """
    networks = [_network(libvirt, network_name) for network_name in _network_names(libvirt)]
    own = next((listed for listed in networks if listed.name == name), None)
    if own is not None and own.ranges and network not in own.ranges:
        raise Problem(
            f"the libvirt network {name} has {own.ranges[0]} and not {network}",
            "remove the stack that made it (./hardway down), or choose another cluster name",
        )
    for listed in networks:
        for taken in listed.ranges:
            if listed.name != name and taken.overlaps(network):
                raise Problem(
                    f"{network} overlaps with {taken} of the libvirt network {listed.name}",
                    "choose another range for networks.machines, or end that network "
                    f"(virsh -c '{libvirt.uri}' net-destroy {listed.name})",
                )
    bridge = own.bridge if own else ""
    for device, taken in _ranges_of_host(enter(libvirt)):
        if device != bridge and taken.overlaps(network):
            raise Problem(
                f"{network} overlaps with {taken}, which this host reaches by {device}",
                "choose another range for networks.machines in the stack's file",
            )


def demand_routers(libvirt: LibvirtConnection | None) -> None:
    """Raise a Problem where no router can lead to the networks of a lab's libvirt.

    ``libvirt`` is None where a private one would be started.
    """
    if libvirt is None or libvirt.private:
        raise Problem(
            "networks.routed is true, and the networks of the lab's own libvirt end in its "
            "network namespace, where no router leads to them",
            "install libvirt-daemon-system, whose libvirt is used then, or name a libvirt by "
            "hypervisor.uri",
        )


@dataclass(frozen=True)
class _Network:
    name: str
    bridge: str
    ranges: tuple[IPv4Network, ...]


def _network_names(libvirt: LibvirtConnection) -> list[str]:
    return virsh(libvirt, "net-list", "--all", "--name").split()


def _network(libvirt: LibvirtConnection, name: str) -> _Network:
    return parse_network(virsh(libvirt, "net-dumpxml", name))


def parse_network(text: str) -> _Network:
    """Name, bridge and IPv4 ranges of a network, from libvirt's network XML (formatnetwork)."""
    root = ElementTree.fromstring(text)  # noqa: S314 - libvirt's own output
    bridge = root.find("bridge")
    ranges = []
    for row in root.iter("ip"):
        address, length = row.get("address"), row.get("prefix") or row.get("netmask") or "32"
        if address and row.get("family", "ipv4") == "ipv4":
            ranges.append(IPv4Network(f"{address}/{length}", strict=False))
    return _Network(
        root.findtext("name") or "",
        (bridge.get("name") or "") if bridge is not None else "",
        tuple(ranges),
    )


def _ranges_of_host(prefix: list[str]) -> list[tuple[str, IPv4Network]]:
    """Device and range of every IPv4 address and route except the default route."""
    ranges = []
    for objects in (["address", "show"], ["route", "show"]):
        answer = output([*prefix, "ip", "-json", "-4", *objects])
        for row in json.loads(answer or "[]"):
            for text, length in _addresses(row):
                ranges.append((row.get("ifname") or row.get("dev") or "?", _range(text, length)))
    return [(device, taken) for device, taken in ranges if taken.prefixlen > 0]


def _addresses(row: dict[str, Any]) -> list[tuple[str, int]]:
    if "addr_info" in row:
        return [(entry["local"], entry["prefixlen"]) for entry in row["addr_info"]]
    destination = row.get("dst", "default")
    if destination == "default" or row.get("type") in ("broadcast", "local", "multicast"):
        return []
    address, _, length = destination.partition("/")
    return [(address, int(length or 32))]


def _range(address: str, length: int) -> IPv4Network:
    return IPv4Network(f"{address}/{length}", strict=False)
