"""Makes host-only networks: the host has the first address on an adapter of VirtualBox's own."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from hypervisors.virtualbox.vboxmanage import Gone, VirtualBoxError, blocks, call, facts, machines

CONFIG = Path("/etc/vbox/networks.conf")
"""The ranges that root allows for host-only networks (VirtualBox's manual, "Host-Only Networking").
VirtualBox's refusal does not name this file."""

DEFAULT = (IPv4Network("192.168.56.0/21"),)
"""The ranges without that file."""

OWN = re.compile(r"vboxnet\d+")
"""The names of VirtualBox's adapters."""


def allowed(config: Path) -> tuple[IPv4Network, ...]:
    """The ranges of IPv4 that VirtualBox allows for host-only networks.

    It passes over, without a message, lines that do not begin with ``*`` and a blank, and ranges
    with a comma or a carriage return behind them.
    """
    try:
        text = config.read_bytes().decode(errors="replace")  # a carriage return counts
    except FileNotFoundError:
        return DEFAULT
    ranges = []
    for line in text.split("\n"):
        star, *rest = re.split(r"[ \t]+", line.lstrip(" \t"))
        for item in rest if star == "*" else ():
            with suppress(ValueError):
                if "/" in item:
                    ranges.append(IPv4Network(item, strict=False))
    return tuple(ranges)


def demand_allowed(network: IPv4Network, config: Path | None = None) -> None:
    """Raise VirtualBoxError where root has not allowed this network for host-only adapters."""
    file = config or CONFIG
    if not any(network.subnet_of(known) for known in allowed(file)):
        raise VirtualBoxError(
            f"VirtualBox refuses {network} for a host-only network, since {file} does not allow "
            f"it; have root write the line '* {network}' into that file"
        )


def demand_free(network: IPv4Network) -> None:
    """Raise VirtualBoxError where the host reaches addresses of this network in another way."""
    for device, reached in _routes():
        if reached.overlaps(network) and not OWN.fullmatch(device):
            raise VirtualBoxError(
                f"{network} overlaps with {reached}, which this host reaches by {device}; choose "
                "another range for networks.machines"
            )
    for adapter in adapters():
        known = _network_of(adapter)
        if known and known.overlaps(network) and not _is_at(adapter, network):
            name = adapter["Name"]
            raise VirtualBoxError(
                f"{network} overlaps with {known} of VirtualBox's adapter {name}; choose another "
                f"range for networks.machines, or remove that adapter (VBoxManage hostonlyif "
                f"remove {name})"
            )


def _routes() -> list[tuple[str, IPv4Network]]:
    """Device and range of each route of the host but the default route."""
    return [
        (row.get("dev", "?"), IPv4Network(row["dst"], strict=False))
        for row in _ip("route", "show")
        if row["dst"] != "default"
    ]


def _ip(*arguments: str) -> list[dict[str, Any]]:
    try:
        answer = subprocess.check_output(["ip", "-json", "-4", *arguments], text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise VirtualBoxError(
            f"the host's network cannot be read ({error}); install iproute2 and run it again"
        ) from error
    return [row for row in json.loads(answer or "[]") if row]


def adapters() -> list[dict[str, str]]:
    """The host-only adapters of the host."""
    return blocks(call("list", "hostonlyifs"))


def _network_of(adapter: Mapping[str, str]) -> IPv4Network | None:
    """The network of an adapter; None where it has no address."""
    address, mask = adapter.get("IPAddress", ""), adapter.get("NetworkMask", "")
    if not address or address == "0.0.0.0":  # noqa: S104  # no address, as VirtualBox writes it
        return None
    return IPv4Network(f"{address}/{mask}", strict=False)


def _is_at(adapter: Mapping[str, str], network: IPv4Network) -> bool:
    """Whether the host has the network's first address by this adapter."""
    return _network_of(adapter) == network and adapter["IPAddress"] == str(network[1])


def adapter_at(network: IPv4Network) -> str | None:
    """The name of the adapter by which the host has this network's first address, if any has."""
    return next((known["Name"] for known in adapters() if _is_at(known, network)), None)


def made(network: IPv4Network) -> str:
    """The name of the network's adapter, which is made where no adapter has the address yet.

    Raises VirtualBoxError.
    """
    demand_allowed(network)
    if name := adapter_at(network):
        if not has_address(name, network):
            configure(name, network)
        return name
    demand_free(network)
    answer = call("hostonlyif", "create")
    match = re.search(r"Interface '([^']+)' was successfully created", answer)
    if match is None:
        raise VirtualBoxError(
            f"VBoxManage hostonlyif create names no adapter ({answer.strip()}); look at VBoxManage "
            "list hostonlyifs"
        )
    name = match[1]
    try:
        call("setextradata", "global", _mark(name), "yes")
        configure(name, network)
    except VirtualBoxError:
        with suppress(VirtualBoxError):
            _remove(name)
        raise
    return name


def _mark(name: str) -> str:
    """The key of VirtualBox's extra data which says that this program has made an adapter."""
    return f"hardway/made/{name}"


def configure(name: str, network: IPv4Network) -> None:
    """Give an adapter the network's first address, and no DHCP server. Raises VirtualBoxError."""
    demand_allowed(network)
    address, mask = network[1], network.netmask
    call("hostonlyif", "ipconfig", name, f"--ip={address}", f"--netmask={mask}")
    # Machines have static addresses, and VirtualBox may have given the adapter a DHCP server.
    if any(row.get("NetworkName") == _switch(name) for row in blocks(call("list", "dhcpservers"))):
        call("dhcpserver", "remove", f"--network={_switch(name)}")


def _switch(name: str) -> str:
    return f"HostInterfaceNetworking-{name}"


def exists(name: str) -> bool:
    """Whether there is an adapter with this name."""
    return any(row["Name"] == name for row in adapters())


def has_address(name: str, network: IPv4Network) -> bool:
    """Whether the host has the network's first address on this adapter, which must be there.

    VirtualBox itself names the address that it has set once, also where it is gone.
    """
    rows = _ip("address", "show", "dev", name)
    addresses = [entry["local"] for row in rows for entry in row.get("addr_info", ())]
    return str(network[1]) in addresses


def removed(name: str, say: Callable[[str], None]) -> None:
    """Remove an adapter, if this program has made it and no machine uses it.

    Several clusters, and a person's own machines, may be in one network. Raises VirtualBoxError.
    """
    if not exists(name) or "yes" not in call("getextradata", "global", _mark(name)):
        return
    if user := _user(name):
        say(f"the adapter {name} stays, since the machine {user} uses it")
        return
    _remove(name)


def _user(name: str) -> str | None:
    """A machine that uses an adapter, if any does."""
    for uuid, machine in machines().items():
        with suppress(Gone):
            known = facts(call("showvminfo", uuid, "--machinereadable"))
            if name in (value for key, value in known.items() if key.startswith("hostonlyadapter")):
                return machine
    return None


def _remove(name: str) -> None:
    call("hostonlyif", "remove", name)
    call("setextradata", "global", _mark(name))
