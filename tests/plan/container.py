"""Throw-away machines: the base image's Debian under its own systemd, in systemd-nspawn.

A container boots in under a second and has no network but its loopback. Everything that it writes
is in memory, in a mount namespace that ends with this process, killed or not.
"""

import ctypes
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from plan import library, records
from tests.engine.stack import PATIENCE

NAME = "hardway-test"
# Of the kernel: sched.h and inotify.h.
CLONE_NEWNET = 0x40000000
IN_MOVED_TO, IN_CREATE = 0x80, 0x100

TURN = 0.1
"""Seconds of a machine that is slowed: a part of them it runs."""

_HOLDER = """
mount -t tmpfs -o mode=0755,size=75% hardway-test "$1"
echo mounted
exec sleep infinity
"""

# The launcher joins its own control groups, mounts the overlay where only it sees it, and becomes
# systemd-nspawn. It is the first process of a namespace, which is killed as a whole with it:
# nspawn's own children outlive an nspawn that is killed.
_LAUNCHER = """
name=$1 folder=$2 lower=$3
shift 3
for group; do echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs tmpfs /run
mount -t overlay overlay "$folder/root" \
    -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work"
exec systemd-nspawn --quiet --directory "$folder/root" --machine "$name" --boot --console=pipe \
    --register=no --keep-unit --private-network --notify-ready=yes --resolv-conf=off
"""

# Read by every shell in the container that is asked to: at the n-th command it ends its whole
# process group at once, as a cut-off does. The number survives an exec, subshells have copies.
_TRAP = """
export CUT
set -T
trap '[ "$((--CUT))" -ne 0 ] || kill -KILL 0' DEBUG
"""
_COUNT = """
export CUT
set -T
trap 'printf "%s" "$((++CUT))" >/run/commands' DEBUG
"""


class Memory:
    """A file system in memory that only this process and its containers see.

    ``folder`` is an empty directory that it is mounted on, in its own mount namespace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            [*_DIES_WITH_US, "unshare", "--mount", "sh", "-euc", _HOLDER, "sh", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout
        if not self._holder.stdout.readline():
            raise RuntimeError("no file system in memory can be mounted")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._holder.kill()
        self._holder.communicate()

    @property
    def path(self) -> Path:
        """Its root as this process reaches it."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command line that sees it at ``folder``."""
        return (*_DIES_WITH_US, "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")


class Container:
    """One machine, from ``with`` to its end.

    It is a copy-on-write overlay of the directory ``debian`` in the memory, with those of ``above``
    over it; ``prepare`` gets the machine's root before it boots.
    """

    def __init__(
        self,
        memory: Memory,
        *above: Path,
        prepare: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.name = f"{NAME}-{os.getpid()}-{next(_numbers)}"
        self._memory, self._above, self._prepare = memory, above, prepare
        self._groups = [parent / self.name for parent in _control_groups()]
        self._steps: Path | None = None
        self.leader = 0
        """The process id of its systemd, as this host sees it."""

    @property
    def _folder(self) -> Path:
        return self._memory.path / self.name

    def __enter__(self) -> Self:
        for name in ("root", "upper", "work"):
            (self._folder / name).mkdir(parents=True)
            (self._folder / name).chmod(0o755)
        self._prepare(self._folder / "upper")
        _sweep()
        try:
            for group in self._groups:
                group.mkdir()
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _boot(self) -> None:
        address = f"\0{self.name}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(address)
            notified.settimeout(1)
            inside = self._memory.folder
            lower = ":".join(str(path) for path in (*self._above, inside / "debian"))
            arguments = [self.name, inside / self.name, lower, *self._groups]
            with (self._folder / "console").open("wb") as console:
                self._nspawn = subprocess.Popen(
                    [*self._memory.enter, "unshare", "--mount", "--pid", "--fork", "--mount-proc"]
                    + [
                        "--kill-child",
                        "sh",
                        "-euc",
                        _LAUNCHER,
                        "sh",
                        *(str(argument) for argument in arguments),
                    ],
                    env={
                        **os.environ,
                        "NOTIFY_SOCKET": address.replace("\0", "@"),
                        # Also on a host that gives its controllers to the old hierarchies.
                        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    start_new_session=True,
                )
            message, end = "", time.monotonic() + PATIENCE
            while "READY=1" not in message.splitlines():
                try:
                    message = notified.recv(4096).decode()
                except TimeoutError:
                    if self._nspawn.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(f"the container does not boot: {self.console}") from None
        # What nspawn tells is the number in its own namespace.
        (nspawn,) = _children(self._nspawn.pid)
        (self.leader,) = _children(nspawn)

    def _end(self) -> None:
        if self.leader:
            _signal(self.leader, signal.SIGKILL)
        if hasattr(self, "_nspawn"):
            try:
                self._nspawn.wait(60 if self.leader else 0)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        for group in self._groups:
            _remove_group(group)
        shutil.rmtree(self._folder)

    @property
    def console(self) -> str:
        return (self._folder / "console").read_text(errors="replace")

    # -- how fast it is --------------------------------------------------------------------------

    @contextmanager
    def slowed(self, share: float) -> Iterator[None]:
        """Give it this share of the time only: in between, all of its processes stand still.

        So a busy host treats a machine. Of what is started from outside that holds for what is
        started meanwhile.
        """
        (group,) = (path for path in self._groups if (path / "cgroup.freeze").exists())
        self._steps = group / "steps"
        self._steps.mkdir(exist_ok=True)
        ended = threading.Event()

        def slow() -> None:
            while not ended.is_set():
                for state, seconds in (("1", TURN * (1 - share)), ("0", TURN * share)):
                    (group / "cgroup.freeze").write_text(state)
                    time.sleep(seconds)

        thread = threading.Thread(target=slow)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._steps = None

    # -- programs in it --------------------------------------------------------------------------

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a program in the container, in a process group of its own."""
        # Not --all: the control group stays this process's, as the one of a login is not systemd's.
        enter = ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net"]
        if self._steps is not None:
            joins = f'echo $$ >{self._steps}/cgroup.procs; exec "$@"'
            enter = ["sh", "-euc", joins, "sh", *enter]
        return subprocess.Popen(
            [*enter, "--pid", "--", "env", "-i", *_PATH]
            + [f"{name}={value}" for name, value in (environment or {}).items()]
            + list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *arguments: str) -> str:
        """What a program prints. Raises where it fails."""
        child = self.start(*arguments)
        output, errors = child.communicate(timeout=PATIENCE)
        if child.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {child.returncode}: {output}{errors}")
        return output

    def begin(self, text: str, **environment: str) -> subprocess.Popen[str]:
        """Start a step, by its data, or a text for the shell, as a machine does."""
        command = _step(text) if text.startswith(f"{records.STEP}\t") else _SHELL
        child = self.start(*command, environment=environment)
        assert child.stdin
        child.stdin.write(text)
        child.stdin.close()
        child.stdin = None
        return child

    @staticmethod
    def finish(
        child: subprocess.Popen[str], *, cut: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What came of a step; after ``cut`` seconds, all of its processes are killed."""
        with child:
            try:
                output, errors = child.communicate(timeout=PATIENCE if cut is None else cut)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                output, errors = child.communicate()
                assert cut is not None, f"the step does not end:\n{output}{errors}"
        return subprocess.CompletedProcess("step", child.returncode, output, errors)

    def run(
        self, text: str, *, seconds: float | None = None, command: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a step's text to its end, or until it is cut off: after a time or at a command.

        Whose processes were killed has a negative return code.
        """
        environment = {}
        if command is not None:
            self.write("/run/cut", _TRAP if command else _COUNT)
            environment = {"BASH_ENV": "/run/cut", "CUT": str(command)}
        return self.finish(self.begin(text, **environment), cut=seconds)

    def commands(self, text: str) -> int:
        """How many commands a step's text has from where the machine is now; it is run for that."""
        done = self.run(text, command=0)
        assert done.returncode == 0, done.stderr
        return int(self.read("/run/commands"))

    # -- files in it -----------------------------------------------------------------------------

    def path(self, path: str) -> Path:
        """A path of the container as this host sees it. Absolute links in it lead astray."""
        return Path(f"/proc/{self.leader}/root{path}")

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        # A link to an absolute path leads out of the machine, into this computer.
        root = self.path("")
        for above in file.parents[: len(file.relative_to(root).parts) - 1]:
            assert not (above.is_symlink() and above.readlink().is_absolute()), f"{path}: {above}"
        if file.is_symlink():
            file.unlink()
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)

    def snapshot(self, *folders: str) -> dict[str, str]:
        """Path to kind, mode, owner and content's digest, of everything below these folders."""
        states = {}
        root = self.path("")
        for folder in folders:
            for path in sorted((self.path(folder), *self.path(folder).rglob("*"))):
                if path.is_symlink() or path.exists():
                    states[f"/{path.relative_to(root)}"] = _described(path)
        return states

    @contextmanager
    def held(self, path: str) -> Iterator[None]:
        """Hold the lock of a file."""
        with self.path(path).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextmanager
    def watched(self, *folders: str) -> Iterator[Callable[[], list[str]]]:
        """Tell the names that appeared in folders, as programs learn them that watch these."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK)

        def appeared() -> list[str]:
            names, data = [], os.read(descriptor, 1 << 16)
            while data:
                *_, length = struct.unpack_from("iIII", data)
                names.append(data[16 : 16 + length].rstrip(b"\0").decode())
                data = data[16 + length :]
            return names

        try:
            for folder in folders:
                where = bytes(self.path(folder))
                libc.inotify_add_watch(descriptor, where, IN_CREATE | IN_MOVED_TO)
            yield appeared
        finally:
            os.close(descriptor)

    # -- services in it --------------------------------------------------------------------------

    def shown(self, *units: str) -> list[dict[str, str]]:
        """What systemd says of services, in their order."""
        names = "Id,ActiveState,Job,InvocationID,MainPID,NRestarts"
        output = self.call("systemctl", "show", *units, f"--property={names}")
        return [
            dict(line.split("=", 1) for line in block.splitlines())
            for block in output.strip().split("\n\n")
        ]

    def settled(self, *units: str) -> dict[str, str]:
        """Service to a number that changes with every start, once all are up and none has a job."""
        end = time.monotonic() + PATIENCE
        while True:
            shown = self.shown(*units)
            if all(unit["ActiveState"] == "active" and not unit["Job"] for unit in shown):
                return {unit["Id"]: unit["InvocationID"] for unit in shown}
            if time.monotonic() > end:
                raise AssertionError(self.call("journalctl", "--no-pager", "--lines", "50"))
            time.sleep(0.02)

    @contextmanager
    def serving(self, folder: str, port: int) -> Iterator[None]:
        """Serve a folder of the machine by HTTP, to the machine itself."""
        process = subprocess.Popen(
            [
                *("nsenter", "--target", str(self.leader), "--net", sys.executable, "-m"),
                *("http.server", "--bind", "127.0.0.1", "--directory", str(self.path(folder))),
                str(port),
            ],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def listener(self, port: int = 0) -> socket.socket:
        """A listening socket on the container's loopback, for a server in this process."""
        made: list[socket.socket | OSError] = []

        def enter_and_listen() -> None:
            # Only this thread changes its network namespace, and it ends here.
            with open(f"/proc/{self.leader}/ns/net") as namespace:  # noqa: PTH123
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), "setns"))
                    return
            made.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=enter_and_listen)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]


_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_SHELL = ("bash", "-euo", "pipefail", "-s")
_PATH = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")


def _step(data: str) -> list[str]:
    """The command line of a step without its time limit, which would be a process group beside."""
    _, _, *scripts = data.partition("\n")[0].split("\t")
    command = shlex.split(library.command(1, scripts))
    return command[command.index("bash") :]


def _count() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


_numbers = _count()


def quiet(root: Path) -> None:
    """Make a machine's root ready at once: no first boot, no wait for a network, no generators."""
    units, generators = root / "etc/systemd/system", root / "etc/systemd/system-generators"
    for folder in (units, generators, root / "etc/cloud"):
        folder.mkdir(parents=True)
    (units / "systemd-networkd-wait-online.service").symlink_to("/dev/null")
    (root / "etc/cloud/cloud-init.disabled").touch()
    # Each reload of systemd would run them.
    for name in ("cloud-init", "systemd-debug", "systemd-fstab", "systemd-run"):
        (generators / f"{name}-generator").symlink_to("/dev/null")


def _described(path: Path) -> str:
    status = path.lstat()
    about = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if path.is_symlink():
        return f"{about} {path.readlink()}"
    if path.is_file():
        return f"{about} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return about


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


# -- control groups ------------------------------------------------------------------------------


def cable(ends: Mapping[str, Container], addresses: Mapping[str, str]) -> None:
    """Connect two containers, by their names, so that each reaches the address of the other."""
    (name, machine), (peer, there) = ends.items()
    subprocess.run(
        ["ip", "link", "add", f"to-{peer}", "netns", str(machine.leader), "type", "veth"]
        + ["peer", "name", f"to-{name}", "netns", str(there.leader)],
        check=True,
    )
    for own, container, far in ((name, machine, peer), (peer, there, name)):
        command = "ip address add {} peer {} dev {device}; ip link set {device} up"
        text = command.format(addresses[own], addresses[far], device=f"to-{far}")
        container.call("bash", "-euc", text)


def _control_groups() -> list[Path]:
    """This process's own groups in systemd's hierarchies: a container's are made below them.

    nspawn divides the group that it runs in, which therefore must be nobody else's.
    """
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        filesystem, _, options = right.split()[:3]
        if filesystem == "cgroup2" or "name=systemd" in options.split(","):
            mounts[filesystem] = Path(left.split()[4])
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind = {"": "cgroup2", "name=systemd": "cgroup"}.get(controllers)
        if kind and kind in mounts:
            groups.append(mounts[kind] / path.lstrip("/"))
    return groups


def _remove_group(group: Path) -> None:
    end = time.monotonic() + PATIENCE
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for folder in (*folders, group):
        while folder.is_dir():
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > end:  # the last process is still on its way out
                    raise
                time.sleep(0.01)


def _sweep() -> None:
    """Remove the groups of containers whose tests were killed: they are empty."""
    for parent in _control_groups():
        for group in parent.glob(f"{NAME}-*"):
            if not Path("/proc", group.name.split("-")[2]).is_dir():
                _remove_group(group)
