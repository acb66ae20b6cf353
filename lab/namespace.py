"""The lab's network namespace, and the processes in it.

This module signals a process only through a pidfd. It opens the pidfd first and then checks that
the process belongs to the lab, so a signal never reaches another process that got a reused PID.
"""

import ctypes
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.paths import LabPaths
from lab.problem import Problem
from lab.process import parent_of, run

NAMESPACES = Path("/run/netns")

CLONE_NEWNET = 0x40000000
"""Constant of the kernel's sched.h."""

ENGINE_VARIABLE = "HARDWAY_ENGINE"
"""Environment variable with the lab's state directory, for each ``pulumi`` that the lab runs.

All processes that ``pulumi`` starts inherit the variable, and this module recognizes them by it.
"""


@dataclass(frozen=True)
class Process:
    """A process in the lab's network namespace, of its private libvirt or of its ``pulumi``."""

    pid: int
    command: str
    started_by_lab: bool
    """Whether it belongs to the private libvirt."""
    of_engine: bool = False
    """Whether it is a ``pulumi`` of the lab or started by one: language host, plugin, program."""


def namespace_path(paths: LabPaths) -> Path:
    """The file that names the lab's network namespace, for ``nsenter --net=``."""
    return NAMESPACES / paths.namespace


def exists(paths: LabPaths) -> bool:
    """Whether the namespace exists; a left-over file with its name does not count."""
    try:
        # All namespace files have the device number of the same nsfs file system.
        own = os.stat("/proc/self/ns/net").st_dev
        return os.stat(namespace_path(paths)).st_dev == own
    except OSError:
        return False


def inside(namespace: Path) -> bool:
    """Whether this process is in a network namespace."""
    try:
        return namespace.samefile("/proc/self/ns/net")
    except OSError:
        return False


def make(paths: LabPaths) -> None:
    """Make the namespace if it does not exist, and bring its loopback interface up."""
    if not exists(paths):
        namespace_path(paths).unlink(missing_ok=True)  # survives a reboot where /run is on a disk
        _ip(["netns", "add", paths.namespace], paths)
    _ip(["-n", paths.namespace, "link", "set", "lo", "up"], paths)


def remove(paths: LabPaths) -> None:
    """Remove the namespace's name; the kernel frees the namespace when its last process ends."""
    if exists(paths):
        _ip(["netns", "delete", paths.namespace], paths)
    namespace_path(paths).unlink(missing_ok=True)


def enter(namespace: Path | None) -> None:
    """Move the calling thread, and no other, into a network namespace. Raises OSError."""
    if namespace is None:
        return
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Python has os.setns only from 3.12 on.
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def _ip(arguments: list[str], paths: LabPaths) -> None:
    if shutil.which("ip") is None:
        raise Problem("the program ip is missing", "install the package iproute2")
    try:
        run(
            ["ip", *arguments],
            log=paths.logs / "namespace.log",
            timeout=30,
            failure="the kernel refuses a network namespace",
        )
    except Problem as problem:
        raise Problem(
            problem.what,
            "run as root on a machine (or in a container) that allows CAP_SYS_ADMIN and "
            f"CAP_NET_ADMIN; {problem.remedy}",
        ) from problem


def processes(paths: LabPaths) -> list[Process]:
    """The processes that run in the namespace or belong to the lab, sorted by PID.

    The processes of its private libvirt belong to the lab, and so do each ``pulumi`` that the lab
    runs and the processes that such a ``pulumi`` starts.
    """
    inode = None
    with suppress(OSError):
        inode = os.stat(namespace_path(paths)).st_ino if exists(paths) else None
    looks = (_look(int(name), paths, inode) for name in os.listdir("/proc") if name.isdigit())
    return sorted((process for process in looks if process), key=lambda process: process.pid)


def _look(pid: int, paths: LabPaths, inode: int | None) -> Process | None:
    home = Path("/proc") / str(pid)
    try:
        inside = inode is not None and os.stat(home / "ns/net").st_ino == inode
        ours = _sealed(home, paths)
        engine = _of_engine(home, paths)
        if not (inside or ours or engine):
            return None
        arguments = (home / "cmdline").read_bytes().split(b"\0")
    except OSError:  # the process ended, or belongs to another user
        return None
    command = b" ".join(filter(None, arguments)).decode(errors="replace")
    # A zombie has no command line.
    return Process(pid, command, ours, engine) if command else None


def _of_engine(home: Path, paths: LabPaths) -> bool:
    """Whether the process has the environment variable that the lab sets only for ``pulumi``."""
    mark = f"{ENGINE_VARIABLE}={paths.state}".encode()
    return mark in (home / "environ").read_bytes().split(b"\0")


def orphans(paths: LabPaths) -> list[Process]:
    """The processes of a ``pulumi`` of the lab that was killed and left them behind.

    The topmost ancestor of such a process that has ``ENGINE_VARIABLE`` is no ``pulumi``.
    """
    started = {process.pid: process for process in processes(paths) if process.of_engine}

    def engine(process: Process) -> Process:
        parent = started.get(parent_of(process.pid) or 0)
        return engine(parent) if parent else process

    return [
        process
        for process in started.values()
        if Path(engine(process).command.split()[0]).name != "pulumi"
    ]


def _sealed(home: Path, paths: LabPaths) -> bool:
    """Whether the process is in the mount namespace that private-libvirt.sh made for this lab."""
    for line in (home / "mountinfo").read_text(errors="replace").splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[4] == "/run" and rest.split()[:2] == ["tmpfs", paths.namespace]:
            return True
    return False


def end(paths: LabPaths, processes: Iterable[Process], *, patience: float = 10.0) -> None:
    """End processes of the lab: with SIGTERM, and after ``patience`` seconds with SIGKILL.

    Leaves a process alone that the lab did not start, even where ``processes`` contains it.
    """
    descriptors = {}
    for process in processes:
        with suppress(ProcessLookupError):
            descriptors[process.pid] = os.pidfd_open(process.pid)
    try:
        for pid in list(descriptors):
            now = _look(pid, paths, None)
            if now is None or not (now.started_by_lab or now.of_engine):
                os.close(descriptors.pop(pid))
        _signal(descriptors.values(), signal.SIGTERM, patience)
        _signal(descriptors.values(), signal.SIGKILL, patience)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _signal(descriptors: Iterable[int], number: signal.Signals, patience: float) -> None:
    """Send a signal and wait until all processes have ended, at most ``patience`` seconds."""
    waiting = set(descriptors)
    for descriptor in waiting:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    deadline = time.monotonic() + patience
    while waiting and (left := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(waiting, [], [], left)
        waiting.difference_update(ended)
