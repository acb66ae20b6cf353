"""The lab's network namespace, and the processes in it.

Whatever is done to a process is done through a pidfd that was opened before the process was looked
at, so a number that the kernel has given to another process in the meantime is never hit.
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
"""Of the kernel's sched.h."""

ENGINE_VARIABLE = "HARDWAY_ENGINE"
"""Names the lab's state to each ``pulumi`` that the lab runs, and so to all that it starts."""


@dataclass(frozen=True)
class Process:
    """A process of the lab's network namespace."""

    pid: int
    command: str
    started_by_lab: bool
    """Whether it belongs to the private libvirt; if not, it came into the namespace by itself."""
    of_engine: bool = False
    """Whether a ``pulumi`` of the lab is it or started it: language host, plugin, program."""


def namespace_path(paths: LabPaths) -> Path:
    """The file that names the lab's network namespace, for ``nsenter --net=``."""
    return NAMESPACES / paths.namespace


def exists(paths: LabPaths) -> bool:
    """Whether the namespace is there; a left-over file of its name is not a namespace."""
    try:
        # The kernel gives every nsfs object the device of the file system that holds them all.
        own = os.stat("/proc/self/ns/net").st_dev
        return os.stat(namespace_path(paths)).st_dev == own
    except OSError:
        return False


def make(paths: LabPaths) -> None:
    """Make the namespace, if it is not there, with its loopback up."""
    if not exists(paths):
        namespace_path(paths).unlink(missing_ok=True)  # left by a reboot where /run is on a disk
        _ip(["netns", "add", paths.namespace], paths)
    _ip(["-n", paths.namespace, "link", "set", "lo", "up"], paths)


def remove(paths: LabPaths) -> None:
    """Take the namespace's name away; the kernel frees it once its last process has gone."""
    if exists(paths):
        _ip(["netns", "delete", paths.namespace], paths)
    namespace_path(paths).unlink(missing_ok=True)


def enter(namespace: Path | None) -> None:
    """Move the calling thread, and no other, into a network namespace. Raises OSError."""
    if namespace is None:
        return
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # os.setns is there from Python 3.12 on.
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def _ip(words: list[str], paths: LabPaths) -> None:
    if shutil.which("ip") is None:
        raise Problem("the program ip is missing", "install the package iproute2")
    try:
        run(
            ["ip", *words],
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
    """What runs in the namespace or belongs to the lab, by process number.

    Of the lab are its private libvirt and what every ``pulumi`` starts that the lab runs.
    """
    inode = None
    with suppress(OSError):
        inode = os.stat(namespace_path(paths)).st_ino if exists(paths) else None
    found = (_look(int(name), paths, inode) for name in os.listdir("/proc") if name.isdigit())
    return sorted((process for process in found if process), key=lambda process: process.pid)


def _look(pid: int, paths: LabPaths, inode: int | None) -> Process | None:
    home = Path("/proc") / str(pid)
    try:
        inside = inode is not None and os.stat(home / "ns/net").st_ino == inode
        ours = _sealed(home, paths)
        engine = _of_engine(home, paths)
        if not (inside or ours or engine):
            return None
        words = (home / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it ended, or it is another user's
        return None
    command = b" ".join(filter(None, words)).decode(errors="replace")
    # A zombie has no command line.
    return Process(pid, command, ours, engine) if command else None


def _of_engine(home: Path, paths: LabPaths) -> bool:
    """Whether the process has the environment that the lab gives to ``pulumi`` alone."""
    mark = f"{ENGINE_VARIABLE}={paths.state}".encode()
    return mark in (home / "environ").read_bytes().split(b"\0")


def orphans(paths: LabPaths) -> list[Process]:
    """What an engine of the lab started and left behind when it was killed."""
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
    """Whether the process lives under the mounts that private-libvirt.sh made for this lab."""
    for line in (home / "mountinfo").read_text(errors="replace").splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[4] == "/run" and rest.split()[:2] == ["tmpfs", paths.namespace]:
            return True
    return False


def end(paths: LabPaths, found: Iterable[Process], *, patience: float = 10.0) -> None:
    """End processes of the lab: asked first, killed after ``patience`` seconds.

    A process that the lab did not start is left alone, also where it is among ``found``.
    """
    descriptors = {}
    for process in found:
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
    """Send a signal and wait until all have ended, at most ``patience`` seconds."""
    waiting = set(descriptors)
    for descriptor in waiting:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    deadline = time.monotonic() + patience
    while waiting and (left := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(waiting, [], [], left)
        waiting.difference_update(ended)
