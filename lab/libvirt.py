"""The libvirt that runs the machines: the system's if it answers, else a private one of the lab.

The private libvirt runs in the lab's network namespace and in its own mount namespace
(private-libvirt.sh), so it does not touch the host's configuration, addresses, firewall and
libvirt. Its socket is an ordinary path, so virsh and Pulumi's provider reach it from anywhere on
the host. Only connections to the machines must start inside the network namespace (``enter``).
"""

import os
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lab import namespace, way_out
from lab.address_range import check_network, demand_routers
from lab.cache import locked, write_atomically
from lab.connection import LibvirtConnection, ask, choose_domain_type, domain_type, enter, virsh
from lab.namespace import Process, namespace_path, processes
from lab.paths import LabPaths
from lab.problem import Problem
from lab.process import run
from lab.progress import Progress

__all__ = [
    "LibvirtConnection",
    "Process",
    "check_network",
    "choose_domain_type",
    "demand_routers",
    "domain_type",
    "enter",
    "find",
    "processes",
    "set_going",
    "start",
    "stop",
    "virsh",
]

SYSTEM = "qemu:///system"
SYSTEM_SOCKET = Path("/run/libvirt/libvirt-sock")
SYSTEM_IMAGES = Path("/var/lib/libvirt/images")
"""A directory that the system's QEMU may read as its own user and under AppArmor."""

LAUNCHER = Path(__file__).with_name("private-libvirt.sh")
HOOK = Path(__file__).with_name("machines-yield.sh")
DAEMONS = ("virtlogd", "libvirtd")

CONFIGURATION = {
    # Without systemd there are no cgroups to use, and there is no other user against whom the
    # machines need protection.
    "qemu.conf": """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
""",
    "libvirtd.conf": """\
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
""",
    "virtlogd.conf": """\
log_outputs = "3:file:/var/log/libvirt/virtlogd.log"
""",
}


# -- which libvirt -------------------------------------------------------------------------------


def find(paths: LabPaths) -> LibvirtConnection | None:
    """The libvirt of this lab if it answers, else None.

    It is the private libvirt where the lab's network namespace exists, else the system's. Raises a
    Problem if the system's libvirt runs and refuses this user.
    """
    if shutil.which("virsh") is None:
        return None
    if namespace.exists(paths):
        libvirt = _private(paths)
        return libvirt if _answers(libvirt.uri, 15) else None
    return _system(paths) if SYSTEM_SOCKET.exists() and _answers(SYSTEM, 5) else None


def _answers(uri: str, timeout: float) -> bool:
    done = ask(uri, "uri", timeout=timeout)
    if done is not None and done.returncode != 0 and uri == SYSTEM:
        refused_by(done.stderr, SYSTEM_SOCKET)
    return done is not None and done.returncode == 0


def refused_by(message: str, socket: Path) -> None:
    """Raise a Problem if libvirt's ``message`` means that it refuses this user."""
    if not any(phrase in message for phrase in ("Permission denied", "authentication", "polkit")):
        return
    group = "libvirt"
    try:
        status = socket.stat()
        if status.st_gid != 0 and status.st_mode & stat.S_IWGRP:
            group = socket.group()
    except (OSError, KeyError):
        pass
    raise Problem(
        f"the system's libvirt refuses this user at {socket}",
        f"run it with sudo, or join the group (sudo adduser $USER {group}) and log in again",
    )


def _private(paths: LabPaths) -> LibvirtConnection:
    socket = paths.libvirt / "libvirt-sock"
    kind, reason = domain_type()
    return LibvirtConnection(
        uri=f"qemu+unix:///system?socket={socket}",
        private=True,
        namespace=namespace_path(paths),
        domain_type=kind,
        reason=reason,
        pool=paths.namespace,
        disks=paths.pool,
    )


def _system(paths: LabPaths) -> LibvirtConnection:
    kind, reason = domain_type()
    return LibvirtConnection(
        uri=SYSTEM,
        private=False,
        namespace=None,
        domain_type=kind,
        reason=reason,
        pool=paths.namespace,
        disks=SYSTEM_IMAGES / paths.namespace,
    )


# -- start and stop ------------------------------------------------------------------------------


def start(paths: LabPaths, progress: Progress) -> LibvirtConnection:
    """Start the libvirt of this lab if it does not run, and activate the lab's storage pool.

    A new private libvirt takes over machines that still run after the death of the previous one. If
    a private libvirt does not come up, its daemons and namespace are removed again unless machines
    run.
    """
    with locked(_lock(paths), lambda: progress.say("another run starts or stops it; waiting")):
        _refuse_another_state(paths)
        libvirt = find(paths)
        if libvirt is None or (libvirt.private and not _running(paths, "virtlogd")):
            libvirt = _start_private(paths, progress)
        location = (
            f"private, in network namespace {paths.namespace}" if libvirt.private else "system"
        )
        progress.say(f"libvirt: {location} ({libvirt.uri}); {libvirt.reason}")
        _activate_pool(libvirt)
        return libvirt


def stop(paths: LabPaths, progress: Progress) -> None:
    """End what ``start`` started: machines, daemons, dnsmasq, namespace, mounts, run directory.

    The way out of the namespace ends with it.

    Also ends the processes of the lab's ``pulumi``. No other process is ended: another process in
    the namespace is reported and left alone. Disks and definitions stay in the lab's state. In a
    system libvirt only the definition of the lab's storage pool is removed.
    """
    with locked(_lock(paths), lambda: progress.say("another run starts or stops it; waiting")):
        namespace.end(paths, [process for process in processes(paths) if process.of_engine])
        if not namespace.exists(paths) and not _ours(paths):
            libvirt = find(paths)
            if libvirt is not None and libvirt.pool in _pools(libvirt, "--all"):
                ask(libvirt.uri, "pool-destroy", libvirt.pool, timeout=60)
                virsh(libvirt, "pool-undefine", libvirt.pool)
        _end(paths)
        for process in processes(paths):
            progress.say(f"left alone: {process.command} (process {process.pid}), not of the lab")
        way_out.stop(paths)
        namespace.remove(paths)
        shutil.rmtree(paths.run, ignore_errors=True)


def set_going(libvirt: LibvirtConnection, domains: Iterable[str], progress: Progress) -> None:
    """Start the machines that are off, and resume those that are paused (as by a full disk).

    Otherwise an update would wait in vain for them. A machine that cannot be started is reported
    and left alone.
    """
    ours = set(domains)
    for state, verb in (("shutoff", "start"), ("paused", "resume")):
        waiting = ours & set(virsh(libvirt, "list", f"--state-{state}", "--name").split())
        for domain in sorted(waiting):
            try:
                virsh(libvirt, verb, domain)
                progress.say(f"the machine {domain} was {state}: {verb}")
            except Problem as problem:
                progress.say(f"the machine {domain} is {state}: {problem}")


def _lock(paths: LabPaths) -> Path:
    return paths.state / "libvirt.lock"


def _owner(paths: LabPaths) -> Path:
    return paths.run / "state"


def _refuse_another_state(paths: LabPaths) -> None:
    """Raise a Problem if a lab of this name runs with another state directory."""
    with suppress(OSError):
        state = _owner(paths).read_text().strip()
        if state != str(paths.state) and _ours(paths):
            raise Problem(
                f"the lab '{paths.name}' runs already, with its state in {state}",
                "choose another name with HARDWAY_LAB, or end that one with ./hardway down and "
                "the same XDG_STATE_HOME",
            )


def _ours(paths: LabPaths) -> list[Process]:
    return [process for process in processes(paths) if process.started_by_lab]


def _running(paths: LabPaths, program: str) -> list[Process]:
    """The lab's processes whose program's file name starts with ``program``."""
    return [p for p in _ours(paths) if Path(p.command.split()[0]).name.startswith(program)]


def _end(paths: LabPaths) -> None:
    # A daemon can start a program while it is being ended: repeat until no process is left.
    for _ in range(5):
        if not (processes := _ours(paths)):
            return
        namespace.end(paths, processes)
    left = ", ".join(str(process.pid) for process in _ours(paths))
    if left:
        raise Problem(f"processes {left} of the lab do not end", "see what blocks them in ps")


def _start_private(paths: LabPaths, progress: Progress) -> LibvirtConnection:
    if os.geteuid() != 0:
        raise Problem(
            "no system libvirt answers and a private one needs root",
            "run the same command with sudo, or start libvirt (sudo systemctl start libvirtd)",
        )
    for program, package in (
        ("libvirtd", "libvirt-daemon-system"),
        ("virtlogd", "libvirt-daemon-system"),
        ("unshare", "util-linux"),
    ):
        if shutil.which(program) is None:
            raise Problem(f"the program {program} is missing", f"install the package {package}")
    libvirt = _private(paths)
    with progress.task("starting a private libvirt") as task:
        # A libvirtd that runs and does not answer is of no use. Its machines survive its end.
        namespace.end(paths, _running(paths, "libvirtd"), patience=5)
        _forget_what_ended(paths)
        namespace.make(paths)
        try:
            _directories(paths)
            for daemon in DAEMONS:
                if not _running(paths, daemon):
                    _launch(paths, daemon)
            task.note("waiting for its answer")
            _await_answer(paths, libvirt)
        except BaseException:
            if not _running(paths, "qemu-system"):  # else the next start takes the machines over
                _end(paths)
                way_out.stop(paths)
                namespace.remove(paths)
            raise
    return libvirt


def _forget_what_ended(paths: LabPaths) -> None:
    """Remove what a killed lab has left in its run directory, and its namespace.

    A new libvirt would believe the old status files, and so would take networks and disks of the
    killed lab for active ones. The run directory stays while a process of the private libvirt
    runs, and the namespace while any process in it runs.
    """
    if not _ours(paths):
        shutil.rmtree(paths.run, ignore_errors=True)
    if not processes(paths):
        way_out.stop(paths)
        namespace.remove(paths)  # with the bridges in it


def _directories(paths: LabPaths) -> None:
    paths.libvirt.mkdir(parents=True, exist_ok=True)
    _owner(paths).write_text(f"{paths.state}\n")
    for name in ("etc", "lib", "cache", "log", "run"):
        (paths.state / "libvirt" / name).mkdir(parents=True, exist_ok=True)
    paths.pool.mkdir(parents=True, exist_ok=True)
    for name, text in CONFIGURATION.items():
        write_atomically(paths.state / "libvirt" / "etc" / name, text.encode(), 0o600)
    hooks = paths.state / "libvirt" / "etc" / "hooks"
    hooks.mkdir(exist_ok=True)
    write_atomically(hooks / "qemu", HOOK.read_bytes(), 0o700)


def _launch(paths: LabPaths, daemon: str) -> None:
    for socket in paths.libvirt.glob(f"{daemon.removesuffix('d')}*-sock*"):
        socket.unlink()  # left over from a daemon that was killed
    own = ["unshare", "--mount", "--propagation", "slave"]
    directories = [str(paths.run), str(paths.state / "libvirt")]
    run(
        ["nsenter", f"--net={namespace_path(paths)}", *own]
        + ["sh", str(LAUNCHER), paths.namespace, *directories, daemon, "--daemon"],
        log=paths.logs / "libvirt.log",
        directory=Path("/"),
        timeout=60,
        failure=f"{daemon} did not start",
    )


def _await_answer(paths: LabPaths, libvirt: LibvirtConnection, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _answers(libvirt.uri, 30):
            return
        if not _running(paths, "libvirtd"):
            break
        time.sleep(0.1)
    log = paths.state / "libvirt" / "log" / "libvirtd.log"
    lines = log.read_text(errors="replace").splitlines()[-3:] if log.is_file() else []
    raise Problem(
        f"the private libvirt does not come up ({' / '.join(lines) or 'it logged nothing'})",
        f"look into {log}",
    )


# -- the storage pool ----------------------------------------------------------------------------


def _activate_pool(libvirt: LibvirtConnection) -> None:
    """Define and start the storage pool for the lab's disks, as far as needed."""
    if libvirt.pool not in _pools(libvirt, "--all"):
        virsh(libvirt, "pool-define-as", libvirt.pool, "dir", "--target", libvirt.disks)
    if libvirt.pool not in _pools(libvirt):
        if not libvirt.disks.is_dir():
            virsh(libvirt, "pool-build", libvirt.pool)
        virsh(libvirt, "pool-start", libvirt.pool)


def _pools(libvirt: LibvirtConnection, *options: str) -> list[str]:
    return virsh(libvirt, "pool-list", "--name", *options).split()
