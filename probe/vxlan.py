"""What a VXLAN device knows of other nodes, as ip(8) and bridge(8) tell it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from plan.held import LEADS

NOWHERE = "without a way to any other node"


@dataclass(kw_only=True)
class Device:
    """A node's device. flanneld gives it three entries for each other node (its backend/vxlan)."""

    address: str = ""
    """Its own MAC address, which other nodes must know."""
    routes: dict[str, str] = field(default_factory=dict)
    """A node's network to the gateway, an address of that node's device."""
    neighbours: dict[str, str] = field(default_factory=dict)
    """A gateway to the MAC address of that node's device."""
    forwarded: dict[str, str] = field(default_factory=dict)
    """Such a MAC address to the address of its machine."""

    def add(self, kind: str, line: str) -> None:
        """Take a line of the observation; one of another form is none of flanneld's."""
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
    def told(self) -> str:
        """How it is, in the words in which a plan says how it must be."""
        if not self.routes:
            return NOWHERE
        broken = [
            network
            for network, gateway in sorted(self.routes.items())
            if self.neighbours.get(gateway) not in self.forwarded
        ]
        return f"with half a way to {', '.join(broken)}" if broken else LEADS

    def known(self, machine: str) -> str | None:
        """The MAC address under which it sends to a machine; None where it does not."""
        return next((mac for mac, known in self.forwarded.items() if known == machine), None)


def unknown_to_others(
    devices: Mapping[str, Mapping[str, Device]], addresses: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Each node's devices to which another node sends under another MAC address, and what is so.

    ``devices`` has those of each node by name, ``addresses`` its machine's. Packets to such a
    device are dropped without a word.
    """
    found: dict[str, dict[str, str]] = {}
    for node, own in devices.items():
        found[node] = {}
        for name, device in own.items():
            for other, theirs in devices.items():
                known = theirs[name].known(addresses[node]) if name in theirs else None
                if other != node and known not in (None, device.address):
                    found[node][name] = f"at {device.address}, and {other} sends to {known}"
    return found
