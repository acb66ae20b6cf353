"""Says of a bridge what it is, and who on it has which addresses.

Runs on libvirt's own host, with the Python that is there: ``python3 -c PROGRAM BRIDGE ADDRESS...``.
The answer is a line of JSON with ``kind``, ``up``, ``looked`` and ``taken``, an owner by address.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from typing import Any

ARP = 0x0806
ROUNDS = 3
ROUND = 1.0
"""Seconds in which an answer to a question of one round is waited for (RFC 5227 waits 1 to 2)."""
SETTLED = 12.0
"""Seconds after which the kernel has made up its mind about a neighbour that it knew (arp(7))."""


def ask(bridge: str, addresses: list[str]) -> dict[str, Any]:
    """What this host knows of the bridge and of these addresses."""
    link = (_ip("-details", "link", "show", "dev", bridge) or [{}])[0]
    answer: dict[str, Any] = {
        "kind": link.get("linkinfo", {}).get("info_kind", "device") if link else None,
        "up": "UP" in link.get("flags", ()),
        "looked": True,
        "taken": {},
    }
    if answer["kind"] != "bridge" or not answer["up"] or not addresses:
        return answer
    own = {
        entry.get("local"): "this host"
        for row in _ip("-4", "address", "show") or []
        for entry in row.get("addr_info", ())
    }
    answer["taken"] = {address: own[address] for address in addresses if address in own}
    rest = [address for address in addresses if address not in own]
    try:
        answer["taken"].update(_by_arp(bridge, rest))
    except PermissionError:
        answer["looked"] = all(_is_next_to(bridge, address) for address in rest)
        if answer["looked"]:
            answer["taken"].update(_by_the_kernel(bridge, rest))
    return answer


def _by_arp(bridge: str, addresses: list[str]) -> dict[str, str]:
    """Who answers an ARP probe, which comes from no address and so changes nobody's table."""
    taken: dict[str, str] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as line:
        line.bind((bridge, ARP))
        own = line.getsockname()[4]
        for _ in range(ROUNDS):
            for address in set(addresses) - set(taken):
                header = b"\xff" * 6 + own + struct.pack("!H", ARP)
                question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + bytes(4)
                line.send(header + question + bytes(6) + socket.inet_aton(address))
            end = time.monotonic() + ROUND
            while (left := end - time.monotonic()) > 0:
                line.settimeout(left)
                try:
                    frame = line.recv(2048)
                except socket.timeout:  # noqa: UP041  # another class before Python 3.10
                    break
                sender = socket.inet_ntoa(frame[28:32]) if len(frame) >= 42 else ""
                if sender in addresses and frame[6:12] != own:
                    taken[sender] = frame[22:28].hex(":")
    return taken


def _by_the_kernel(bridge: str, addresses: list[str]) -> dict[str, str]:
    """Who is a neighbour of this host, which sends a packet to each address to find out."""
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"", (address, 9))
    end = time.monotonic() + SETTLED
    while True:
        known = {row["dst"]: row for row in _ip("-4", "neigh", "show", "dev", bridge) or []}
        asked = [known[address] for address in addresses if address in known]
        unsettled = {"INCOMPLETE", "DELAY", "PROBE", "STALE"}
        if time.monotonic() > end or not any(unsettled & {*row["state"]} for row in asked):
            return {row["dst"]: row["lladdr"] for row in asked if "REACHABLE" in row["state"]}
        time.sleep(0.2)


def _is_next_to(bridge: str, address: str) -> bool:
    (route,) = _ip("-4", "route", "get", address) or [{}]
    return route.get("dev") == bridge and "gateway" not in route


def _ip(*arguments: str) -> Any:
    done = subprocess.run(["ip", "-json", *arguments], stdout=subprocess.PIPE, check=False)
    return json.loads(done.stdout or "[]") if done.returncode == 0 else None


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], sys.argv[2:])))
