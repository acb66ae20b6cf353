"""The way out of the lab's network namespace, by slirp4netns.

The machines of a private libvirt have their network in a namespace, and no device of the host leads
into it. slirp4netns makes a device there and repeats each connection of the machines as a
connection of its own. So it needs no rule in the host's firewall, and no address or setting of the
host. Machines reach what the host reaches, except the host's loopback addresses and all link-local
addresses (where a cloud gives its virtual machines their credentials). Networks of stacks with
``networks.outside: false`` stay inside, by rules of the namespace's own routing. Its name server
asks those of the host's ``/etc/resolv.conf``, also where these are a stub on a loopback address.

passt, the newer program, changes to the user ``nobody`` where root starts it, and that user may not
enter a namespace of root (the version of Debian 12).
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.cache import locked
from lab.namespace import exists, namespace_path
from lab.paths import LabPaths
from lab.problem import Problem
from lab.process import output, run

PROGRAM = "slirp4netns"

DEVICE = "way-out"
"""The device in the namespace that leads out."""

RANGE = IPv4Network("100.127.77.0/24")
"""The device's network, which only the namespace has: of the addresses that providers use between
themselves and their customers (RFC 6598), which few private networks have."""

NAME_SERVER = IPv4Address("100.127.77.3")
"""The third address is that of slirp4netns' name server (slirp4netns(1), 1.2)."""

LINK_LOCAL = IPv4Network("169.254.0.0/16")

FIRST_RULE = 100
"""The preference of the first rule for a network that stays inside."""

START_WITHIN = 60.0
"""Seconds until the device is there. slirp4netns needs a tenth of one on a quiet host."""

END_WITHIN = 5.0
"""Seconds until a signal has ended a process."""

MOST = 5
"""Processes that are ended before the rest is somebody's to look at: there is one, or after a crash
two."""


def has_default_route() -> bool:
    """Whether the host itself leads out: the kernel has a default route for IPv4."""
    return bool(json.loads(output(["ip", "-json", "-4", "route", "show", "default"]) or "[]"))


def is_wanted(paths: LabPaths, outside: bool | None) -> bool:
    """Whether a stack gets a way out of the lab; ``outside`` is its ``networks.outside``.

    Where the stack leaves that open, a lab keeps the way out that it has: a host that is without a
    network for an hour changes no machine. Raises a Problem where the stack demands a way out and
    the host has none.
    """
    if outside is None:
        return find(paths) is not None or has_default_route()
    if outside and not has_default_route():
        raise Problem(
            "networks.outside is true, and this computer has no default route itself",
            "connect it to a network, or leave networks.outside out",
        )
    return outside


def find(paths: LabPaths) -> int | None:
    """The PID of the slirp4netns of the lab's namespace; None where none runs."""
    wanted = [os.fsencode(namespace_path(paths)), DEVICE.encode()]
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            command = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")[:-1]
            if command[-2:] == wanted and Path(os.fsdecode(command[0])).name == PROGRAM:
                return int(entry)
    return None


def start(paths: LabPaths) -> None:
    """Give the lab's namespace a way out, unless it has one. Raises a Problem."""
    with locked(paths.run / "way-out.lock"):
        inside = ["ip", "-n", paths.namespace]
        # Machines have no business at the host's link-local addresses.
        _ip(paths, [*inside, "route", "replace", "unreachable", str(LINK_LOCAL)])
        if find(paths) is not None and output([*inside, "link", "show", DEVICE]):
            return
        # The device outlives a program that was killed, and a program a namespace that was removed.
        stop(paths)
        _launch(paths)


def _ip(paths: LabPaths, command: list[str]) -> None:
    run(
        command,
        log=paths.logs / "way-out.log",
        timeout=30,
        failure="the kernel refuses a way out of the lab's network namespace",
    )


def _launch(paths: LabPaths) -> None:
    log = paths.logs / "way-out.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    command = [
        # In its sandbox it unmounts what it does not need. Where a mount is shared with the host,
        # as those of /run/netns are, the host loses it as well (1.2.0).
        *("unshare", "--mount", "--propagation", "slave"),
        PROGRAM,
        "--configure",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--mtu=65520",
        f"--cidr={RANGE}",
        f"--ready-fd={writing}",
        "--netns-type=path",
        str(namespace_path(paths)),
        DEVICE,
    ]
    with log.open("ab") as record, os.fdopen(reading, "rb") as ready:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=record,
                stderr=record,
                cwd="/",
                pass_fds=[writing],
                start_new_session=True,
            )
        except OSError as error:
            raise Problem(
                f"{PROGRAM} cannot be started ({error.strerror})", f"install the package {PROGRAM}"
            ) from error
        finally:
            os.close(writing)
        # It writes a digit once the device is there, or ends.
        serves = select.select([ready], [], [], START_WITHIN)[0] and ready.read(1)
    if not serves:
        child.kill()
        child.wait()
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise Problem(
            f"{PROGRAM} gives the lab no way out ({last or 'it gave no reason'})",
            f"look into {log}, or write networks.outside: false",
        )
    child.returncode = 0  # it outlives this process, which need not wait for its end


def keep_inside(
    paths: LabPaths, stack: str, networks: Collection[IPv4Network], *, inside: bool
) -> None:
    """Keep a stack's networks inside the lab's namespace, or let them use the way out."""
    if not inside:
        let_out(paths, stack)
        for network in networks:
            _unkept(paths, network)
        return
    if not set(_kept(paths, stack)) <= set(networks):
        let_out(paths, stack)
    record = _record(paths, stack)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("".join(f"{network}\n" for network in networks))
    for network in networks:
        if len(_rules(paths, network)) == len(_ways(network)):
            continue
        _unkept(paths, network)
        # The last rule first: a run that is cut off leaves the network closed.
        for preference, way in reversed(list(enumerate(_ways(network), FIRST_RULE))):
            _ip(paths, [*_rule(paths), "add", "preference", str(preference), *way])


def let_out(paths: LabPaths, stack: str) -> None:
    """Take the rules away that keep a stack's networks inside, if there are any."""
    for network in _kept(paths, stack) if exists(paths) else ():
        _unkept(paths, network)
    _record(paths, stack).unlink(missing_ok=True)


def _record(paths: LabPaths, stack: str) -> Path:
    """The file with the networks of a stack that is kept inside, a line for each."""
    return paths.run / "inside" / stack


def _kept(paths: LabPaths, stack: str) -> tuple[IPv4Network, ...]:
    """The networks in a stack's record."""
    with suppress(FileNotFoundError):
        return tuple(map(IPv4Network, _record(paths, stack).read_text().split()))
    return ()


def _ways(network: IPv4Network) -> tuple[list[str], ...]:
    """The rules that keep a network inside, in the order in which the kernel tries them."""
    own = ["from", str(network)]
    return (
        # Also not to the name server of the way out.
        [*own, "to", str(RANGE), "unreachable"],
        # All routes but the default one.
        [*own, "lookup", "main", "suppress_prefixlength", "0"],
        [*own, "unreachable"],
    )


def _rule(paths: LabPaths) -> list[str]:
    return ["ip", "-n", paths.namespace, "rule"]


def _rules(paths: LabPaths, network: IPv4Network) -> list[object]:
    command = ["ip", "-n", paths.namespace, "-json", "rule", "show", "from", str(network)]
    rules: list[object] = json.loads(output(command) or "[]")
    return rules


def _unkept(paths: LabPaths, network: IPv4Network) -> None:
    for number in range(len(_rules(paths, network))):
        del number
        _ip(paths, [*_rule(paths), "delete", "from", str(network)])


def stop(paths: LabPaths) -> None:
    """End the way out of the lab's namespace, if there is one. Raises a Problem if it stays."""
    for _ in range(MOST):
        if (pid := find(paths)) is None:
            break
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                # Check again: the PID could pass to another process before the pidfd was open.
                if find(paths) == pid:
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                    if not select.select([descriptor], [], [], END_WITHIN)[0]:
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        select.select([descriptor], [], [], END_WITHIN)
            finally:
                os.close(descriptor)
    if (pid := find(paths)) is not None:
        raise Problem(
            f"the way out of the lab, {PROGRAM} (process {pid}), does not end",
            "see what blocks it in ps, then run the same again",
        )
    if exists(paths) and output(["ip", "-n", paths.namespace, "link", "show", DEVICE]):
        _ip(paths, ["ip", "-n", paths.namespace, "link", "delete", DEVICE])
