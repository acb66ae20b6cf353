"""The entries of a VXLAN device for other nodes, as ip(8) and bridge(8) print them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from plan.item import LEADS

NOWHERE = "without a way to any other node"


@dataclass(kw_only=True)
class Device:
    """The VXLAN device of a node.

    flanneld gives the device three entries for each other node (flannel's backend/vxlan).
    """

    address: str = ""
    """The device's own MAC address, which other nodes must know."""
    routes: dict[str, str] = field(default_factory=dict)
    """Another node's network to its gateway, which is an address of that node's device."""
    neighbours: dict[str, str] = field(default_factory=dict)
    """Gateway to the MAC address of that node's device."""
    forwarded: dict[str, str] = field(default_factory=dict)
    """MAC address of another node's device to the address of that node's machine."""

    def add(self, kind: str, line: str) -> None:
        """Add a line of an observation; lines of another form are not flanneld's and are ignored.

        ``kind`` is the first word of the line.
        """
        match kind, line.split():
            case "device", [address]:
                self.address = address
            case "route", [network, "via", gateway, *_]:
                self.routes[network] = gateway
            case "neighbour", [gateway, "lladdr", address, *_]:
                self.neighbours[gateway] = address
            case "forwarded", [address, "dst", machine, *_]:
                self.forwarded[address] = machine

    @property
    def state(self) -> str:
        """The device's state, worded as in a plan's ``wanted``."""
        if not self.routes:
            return NOWHERE
        broken = [
            network
            for network, gateway in sorted(self.routes.items())
            if self.neighbours.get(gateway) not in self.forwarded
        ]
        return f"with half a way to {', '.join(broken)}" if broken else LEADS

    def known(self, machine: str) -> str | None:
        """The MAC address to which this device sends packets for a machine; None if it has none."""
        return next((mac for mac, known in self.forwarded.items() if known == machine), None)


def unknown_to_others(
    devices: Mapping[str, Mapping[str, Device]], addresses: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """The devices of each node to which another node sends with a wrong MAC address.

    The result maps node and device to a description of the fault. ``devices`` maps each node to its
    devices by name, ``addresses`` each node to the address of its machine. The kernel drops packets
    to such a device without a message.
    """
    faults: dict[str, dict[str, str]] = {}
    for node, own in devices.items():
        faults[node] = {}
        for name, device in own.items():
            for neighbour, theirs in devices.items():
                known = theirs[name].known(addresses[node]) if name in theirs else None
                if neighbour != node and known not in (None, device.address):
                    faults[node][name] = f"at {device.address}, and {neighbour} sends to {known}"
    return faults
