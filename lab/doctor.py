"""The checks of ``hardway doctor``: everything that could stop an ``up``."""

import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import (
    endpoint,
    gobuild,
    libvirt,
    mirror,
    packages,
    processors,
    qemu,
    resolvers,
    toolchain,
    virtualbox,
    way_out,
)
from lab.cache import Cache
from lab.host import PACKAGES_FOR_VIRTUALBOX, packages_for_machines
from lab.paths import LabPaths
from lab.problem import Problem
from lab.stack import plugins_path
from spec.cluster import Cluster
from spec.hypervisor import VirtualBox
from spec.refusal import listed


class Verdict(StrEnum):
    """The effect of a finding on an ``up``."""

    GOOD = "good"
    SLOW = "slow"
    """``up`` works but takes longer."""
    DONE_BY_UP = "done by up"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """The result of a check: one row of the table that ``doctor`` prints."""

    subject: str
    verdict: Verdict
    seen: str
    remedy: str = ""


COLD_DISK = 14 * 1024
"""MiB of disk for a first ``up``: Go's caches, artifacts, image and disks (measured, see docs)."""

WARM_DISK = 3 * 1024
"""MiB of disk for a further ``up``: the overlays of a few machines."""

OWN_MEMORY = 1024
"""MiB of memory for the host, libvirt and Pulumi, in addition to the machines."""

MEASURED = 2.0
"""Seconds for which the use of the processors is measured."""

MEMORY = 3 * 1024
"""MiB of free memory for the default stack's first machine and the host's programs."""


def findings(
    paths: LabPaths, cache: Cache, cluster: Callable[[], Cluster], stack: str
) -> Iterator[Check]:
    """Run every check, in the order in which ``up`` would meet the obstacles. Changes nothing."""
    yield _system()
    yield _root()
    yield _python()
    yield _guarded("stack", lambda: _stack(cluster))
    on_virtualbox = _of_virtualbox(cluster)
    yield _packages(packages_for_machines() if on_virtualbox is None else PACKAGES_FOR_VIRTUALBOX)
    yield _go()
    yield from _tools(paths, stack)
    yield from _disk(paths, cache)
    yield _guarded("memory", _memory)
    yield _guarded("machines", lambda: _machines(cluster))
    if on_virtualbox is not None:
        yield from map(_seen, virtualbox.checks(on_virtualbox))
        yield _guarded("endpoint", lambda: _endpoint(cluster, None))
        return
    yield _virtualisation()
    yield _guarded("processors", lambda: _processors(cluster, paths))
    connection = None
    try:
        connection = libvirt.find(paths)
        yield _libvirt(paths, connection)
    except Problem as problem:
        yield Check("libvirt", Verdict.PROBLEM, problem.what, problem.remedy)
    yield _guarded("network", lambda: _network(cluster, connection))
    yield _guarded("way out", lambda: _way_out(cluster, connection, paths))
    yield _guarded("endpoint", lambda: _endpoint(cluster, connection))
    yield _guarded("mirror port", lambda: _mirror(paths, connection))


def _guarded(subject: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Problem as problem:
        return Check(subject, Verdict.PROBLEM, problem.what, problem.remedy)


def _of_virtualbox(cluster: Callable[[], Cluster]) -> Cluster | None:
    """The spec, if it is known and VirtualBox makes its machines."""
    try:
        spec = cluster()
    except Problem:
        return None
    return spec if spec.machines_on(VirtualBox) else None


def _seen(seen: virtualbox.HostCheck) -> Check:
    verdict = Verdict.PROBLEM if seen.remedy else Verdict.GOOD
    return Check(seen.subject, verdict, seen.text, seen.remedy)


def _system() -> Check:
    name = packages.operating_system()
    if packages.supported_system():
        return Check("system", Verdict.GOOD, f"{name}, {platform.machine()}")
    return Check(
        "system", Verdict.PROBLEM, f"{name} is not supported", "use Debian 12 or Ubuntu 24.04"
    )


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("user", Verdict.GOOD, "root")
    return Check("user", Verdict.PROBLEM, "not root", "run it with sudo")


def _python() -> Check:
    return Check("Python", Verdict.GOOD, ".".join(map(str, sys.version_info[:3])))


def _stack(cluster: Callable[[], Cluster]) -> Check:
    value = cluster()
    return Check("stack", Verdict.GOOD, f"{value.name}: {', '.join(value.machines)}")


def _packages(wanted: Iterable[str]) -> Check:
    lacking = packages.missing(wanted)
    if not lacking:
        return Check("packages", Verdict.GOOD, "all are installed")
    return Check("packages", Verdict.DONE_BY_UP, f"to be installed: {', '.join(lacking)}")


def _go() -> Check:
    go, description = gobuild.installed_go()
    if go is not None:
        return Check("Go", Verdict.GOOD, description)
    return Check(
        "Go", Verdict.DONE_BY_UP, f"{description}; {gobuild.GO_PACKAGE} is fetched if needed"
    )


def _tools(paths: LabPaths, stack: str) -> Iterator[Check]:
    folder, description = toolchain.installed_cli()
    verdict = Verdict.GOOD if folder else Verdict.DONE_BY_UP
    yield Check(
        "Pulumi", verdict, description if folder else f"{description}; fetched or built once"
    )
    made = _made_with(paths, stack)
    for name, version in toolchain.PLUGINS.items():
        installed = toolchain.installed_plugin(name, version)
        seen = f"{version} is installed" if installed else f"{version} is fetched or built once"
        remedy = ""
        if name in made and (made[name] == "installed") != bool(installed):
            origin = (
                "an installed one" if made[name] == "installed" else f"one that was {made[name]}"
            )
            seen += f"; the state of {stack} was written by {origin}"
            remedy = "see in ./hardway preview --live whether steps run again"
        verdict = Verdict.GOOD if installed else Verdict.DONE_BY_UP
        yield Check(f"plugin {name}", verdict, seen, remedy)


def _made_with(paths: LabPaths, stack: str) -> dict[str, str]:
    """Plugin to its origin, for the plugins that last wrote a stack's state; may be empty."""
    try:
        made: dict[str, str] = json.loads(plugins_path(paths, stack).read_text())
    except (OSError, ValueError):
        return {}
    return made


def _disk(paths: LabPaths, cache: Cache) -> Iterator[Check]:
    warm = (cache.root / "receipts").is_dir()
    for subject, folder in (("cache", cache.root), ("state", paths.state)):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free // 2**20
        needed = WARM_DISK if warm or subject == "state" else COLD_DISK
        seen = f"{folder}: {free // 1024} GiB free"
        if free >= needed:
            yield Check(f"disk ({subject})", Verdict.GOOD, seen)
        else:
            variable = "XDG_CACHE_HOME" if subject == "cache" else "XDG_STATE_HOME"
            yield Check(
                f"disk ({subject})",
                Verdict.PROBLEM,
                f"{seen}, {needed // 1024} GiB are needed",
                f"free some space, or set {variable} to a directory on a larger disk",
            )


def _mebibytes(fact: str) -> int:
    """The value of a line in /proc/meminfo, in MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{fact}:")) // 1024


def _machines(cluster: Callable[[], Cluster]) -> Check:
    """Check that this host has enough memory for all the stack's machines, if they run here.

    Only memory can lack: machines keep the memory that they have once used. They share the
    processors, and their disk files grow only as they fill.
    """
    spec = cluster()
    if not any(map(spec.is_made, spec.machines)):
        return Check("machines", Verdict.GOOD, f"{len(spec.machines)} that exist already")
    sizes = [spec.machines[name] for name in spec.in_lab or filter(spec.is_made, spec.machines)]
    memory, disk = sum(machine.memory for machine in sizes), sum(machine.disk for machine in sizes)
    together = f"{len(sizes)} with {memory} MiB of memory and up to {disk} GiB of disks together"
    if not spec.in_lab and not (spec.hypervisor and spec.hypervisor.is_here):
        return Check("machines", Verdict.GOOD, f"{together}, elsewhere")
    total = _mebibytes("MemTotal")
    if memory + OWN_MEMORY <= total:
        return Check("machines", Verdict.GOOD, f"{together}; this host has {total} MiB of memory")
    return Check(
        "machines",
        Verdict.PROBLEM,
        f"{together}, where this host has {total} MiB of memory",
        "write less memory for machines, fewer machines, or use a larger host",
    )


def _memory() -> Check:
    free = _mebibytes("MemAvailable")
    if free >= MEMORY:
        return Check("memory", Verdict.GOOD, f"{free} MiB available")
    return Check(
        "memory",
        Verdict.PROBLEM,
        f"{free} MiB available, {MEMORY} are needed",
        "end other programs, or use a larger machine",
    )


def _virtualisation() -> Check:
    kind, reason = libvirt.domain_type()
    return Check("virtualisation", Verdict.GOOD, f"{kind}: {reason}")


def _processors(cluster: Callable[[], Cluster], paths: LabPaths) -> Check:
    """Check that running machines get the processors they ask for, and that others have room."""
    spec = cluster()
    if not any(map(spec.is_made, spec.machines)):
        return Check("processors", Verdict.GOOD, "of machines that exist already")
    if not spec.in_lab:
        return Check("processors", Verdict.GOOD, "of machines elsewhere")
    running = qemu.machines(spec.name, spec.in_lab, paths.libvirt)
    asked = sum(spec.machines[name].cpus for name in spec.in_lab if name not in running)
    shares = processors.measured(running, MEASURED)
    lacking = [
        *([sentence] if (sentence := processors.starved(shares)) else []),
        *([sentence] if (sentence := processors.crowded(shares, asked)) else []),
    ]
    if lacking:
        return Check(
            "processors",
            Verdict.SLOW,
            "; ".join(lacking),
            "nothing, if time does not matter; else end or pause what takes most",
        )
    load = f"load {os.getloadavg()[0]:.1f}"
    return Check("processors", Verdict.GOOD, f"{processors.room(shares)}, {load}")


def _libvirt(paths: LabPaths, connection: libvirt.LibvirtConnection | None) -> Check:
    if connection is None:
        return Check(
            "libvirt", Verdict.DONE_BY_UP, f"a private one is started in {paths.namespace}"
        )
    kind = "the lab's private one" if connection.private else "the system's"
    return Check("libvirt", Verdict.GOOD, f"{kind} answers at {connection.uri}")


def _network(cluster: Callable[[], Cluster], connection: libvirt.LibvirtConnection | None) -> Check:
    value = cluster()
    if value.networks.routed and value.in_lab:
        libvirt.demand_routers(connection)
    if connection is not None:
        for name, subnet in value.networks_in_lab.items():
            libvirt.check_network(subnet, name, connection)
    subnets = value.networks_in_lab.values()
    if not subnets:
        return Check("network", Verdict.GOOD, "of machines elsewhere")
    are = "is" if len(subnets) == 1 else "are"
    return Check("network", Verdict.GOOD, f"{listed(subnets, 'and')} {are} free")


def _way_out(
    cluster: Callable[[], Cluster],
    connection: libvirt.LibvirtConnection | None,
    paths: LabPaths,
) -> Check:
    spec = cluster()
    if not spec.in_lab:
        return Check("way out", Verdict.GOOD, "machines have that of their own network")
    if connection is not None and not connection.private:
        through, servers = "the system's libvirt", resolvers.reachable()
    elif way_out.is_wanted(paths, spec.networks.outside):
        through, servers = way_out.PROGRAM, resolvers.listed()
    else:
        return Check("way out", Verdict.GOOD, "none: machines reach this computer only")
    servers = spec.networks.name_servers or servers
    if not servers:
        return Check(
            "way out",
            Verdict.PROBLEM,
            f"{through}, but machines cannot ask what /etc/resolv.conf lists",
            "write networks.name_servers into the stack's file",
        )
    return Check("way out", Verdict.GOOD, f"{through}; names: {', '.join(map(str, servers))}")


def _endpoint(
    cluster: Callable[[], Cluster], connection: libvirt.LibvirtConnection | None
) -> Check:
    seen = endpoint.demand_known(cluster(), libvirt.enter(connection) if connection else ())
    return Check("endpoint", Verdict.GOOD, seen)


def _mirror(paths: LabPaths, connection: libvirt.LibvirtConnection | None) -> Check:
    if mirror.find(paths) is not None:
        return Check("mirror port", Verdict.GOOD, f"the mirror runs on {mirror.PORT}")
    if connection is not None and not connection.private:
        with socket.socket() as probe:
            probe.bind(("", mirror.PORT))
    return Check("mirror port", Verdict.GOOD, f"{mirror.PORT} is free")
