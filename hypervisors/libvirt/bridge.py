"""Refuses a bridge of libvirt's host on which machines cannot have their addresses."""

import json
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hypervisors.libvirt.transport import python_on_host
from hypervisors.program import outcome
from spec.hypervisor import Libvirt

QUESTION = (Path(__file__).parent / "neighbours.py").read_text()
PATIENCE = 120
"""The time limit in seconds for the host's answer."""


class BridgeError(Exception):
    """Machines cannot be on a bridge; the text is one sentence with the next thing to do."""


def refuse_bridge(where: Libvirt, bridge: str, addresses: Iterable[IPv4Address]) -> None:
    """Raise BridgeError where machines cannot get these new addresses on a bridge.

    The host of the machines' libvirt is asked, by SSH where the URI leads there by SSH.
    """
    asked = sorted(addresses)
    answer = _answer(where, bridge, asked)
    site = where.site
    if answer["kind"] is None:
        raise BridgeError(
            f"networks.bridge is {bridge}, and the host of {site} has no such interface; make the "
            "bridge there, with the interface of your network in it, or write the name of one that "
            "ip link show type bridge lists"
        )
    if answer["kind"] != "bridge":
        raise BridgeError(
            f"networks.bridge is {bridge}, which is no bridge of Linux on the host of {site} but a "
            f"{answer['kind']}; write the name of one that ip link show type bridge lists there"
        )
    if not answer["up"]:
        raise BridgeError(
            f"networks.bridge is {bridge}, which is down on the host of {site}, so machines would "
            f"reach nobody; set it up there (ip link set {bridge} up)"
        )
    if not answer["looked"]:
        raise BridgeError(
            f"whether somebody on {bridge} has the machines' addresses already cannot be seen on "
            f"the host of {site}: log in there as root by hypervisor.uri, or give the host an "
            "address on that bridge"
        )
    for address, owner in sorted(answer["taken"].items()):
        raise BridgeError(
            f"{address} answers on {bridge} already ({owner}), so a machine would take it from its "
            "owner; write an address that nobody has, or end what has it"
        )


def _answer(where: Libvirt, bridge: str, addresses: list[IPv4Address]) -> Any:
    command = python_on_host(where.uri, "-c", QUESTION, bridge, *map(str, addresses))
    try:
        done = outcome(command, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise BridgeError(
            f"the program {command[0]} is missing, by which the host of the bridge {bridge} is "
            "asked; install openssh-client and run the update again"
        ) from error
    if done is None:
        raise BridgeError(
            f"the host of {where.site} gives no answer about the bridge {bridge} within "
            f"{PATIENCE} s; see that it runs and run the update again"
        )
    return _read(done, where, bridge)


def _read(done: subprocess.CompletedProcess[str], where: Libvirt, bridge: str) -> Any:
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        reason = " ".join((done.stderr or "it says nothing").splitlines()[-1:])
        raise BridgeError(
            f"the host of {where.site} cannot be asked about the bridge {bridge} ({reason}); it "
            "needs python3 and iproute2, and a login by SSH where the URI is of that kind"
        ) from error
