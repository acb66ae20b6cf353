"""The name servers of this computer, as far as machines can ask them as well."""

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

LIST = Path("/etc/resolv.conf")

BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")
"""The name servers that systemd-resolved asks, where ``LIST`` has its own address only
(systemd-resolved.service(8))."""

MOST = 3
"""Programs ask no more of them (resolv.conf(5))."""


def listed(file: Path = LIST) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses in a list of name servers; empty where there is no such file."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    addresses = []
    for line in lines:
        match line.split():
            case ["nameserver", address, *_]:
                try:
                    addresses.append(IPv4Address(address))
                except AddressValueError:  # of IPv6, or no address at all
                    continue
    return tuple(dict.fromkeys(addresses))


def reachable(file: Path = LIST, behind_stub: Path = BEHIND_STUB) -> tuple[IPv4Address, ...]:
    """The name servers that a machine behind this computer can ask, at most three.

    A stub on the loopback address answers only this computer: the name servers behind that of
    systemd-resolved are known, those behind another one are not.
    """
    for candidate in (file, behind_stub):
        if servers := [server for server in listed(candidate) if not server.is_loopback]:
            return tuple(servers[:MOST])
    return ()
