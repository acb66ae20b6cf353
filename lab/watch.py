"""Watching machines through their first boot: a machine that hangs is reset, once, and said aloud.

Seen under emulation: a machine that stops in the middle of its first boot and comes up well after a
reset. It hangs when for a while neither its serial console nor its disks show anything and SSH does
not answer. That its processor is busy proves nothing: a hanging kernel spins. A machine that says
on its console that its clock is wrong is reset too: a kernel measures its processor at its start.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.cache import write_atomically
from lab.connection import LibvirtConnection, ask, virsh
from lab.consoles import Consoles
from lab.namespace import enter
from lab.paths import LabPaths
from lab.problem import Problem
from lab.progress import Progress

QUIET_SECONDS = {"kvm": 45.0, "qemu": 120.0}
"""How long a machine may show nothing, by domain type."""

INTERVAL = 3.0
"""Seconds between two looks."""

RUNNING, PAUSED = 1, 3
"""Of libvirt's ``virDomainState``."""


@dataclass(frozen=True)
class Sighting:
    """What a look at a machine shows."""

    uuid: str
    state: int
    """Of libvirt's ``virDomainState``."""
    signs: str
    """Any change of it is a sign of life."""
    wrong_clock: str = ""
    """What the machine says of its clock, where that is wrong."""


class WatchedMachines(Protocol):
    """The machines as the watch sees and touches them."""

    def look(self, domain: str) -> Sighting | None:
        """Where a machine stands, or nothing if there is none or nothing answers."""

    def answers(self, address: str) -> bool:
        """Whether an SSH server presents itself at the address."""

    def reset(self, domain: str, state: int) -> None:
        """Push the machine's reset button."""


@dataclass
class _Quiet:
    signs: str
    since: float
    told: bool = False


class FirstBootWatch:
    """Resets a machine that hangs in its first boot, at most once in the life of its UUID."""

    def __init__(
        self,
        machines: WatchedMachines,
        domains: Mapping[str, str],
        record: Path,
        say: Callable[[str], None],
        *,
        quiet_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch ``domains`` (name to address); ``record`` keeps what was done to which UUID."""
        self._machines = machines
        self._domains = domains
        self._record = record
        self._say = say
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._quiet: dict[str, _Quiet] = {}
        self._done = self._read()

    @staticmethod
    @contextmanager
    def running(
        paths: LabPaths,
        libvirt: LibvirtConnection,
        domains: Mapping[str, str],
        progress: Progress,
        *,
        quiet_seconds: float | None = None,
    ) -> Iterator[None]:
        """Watch in a thread of its own while the context lasts."""
        watch = FirstBootWatch(
            LibvirtMachines(libvirt, paths.state / "console", domains),
            domains,
            paths.run / "first-boot.json",
            progress.say,
            quiet_seconds=quiet_seconds or QUIET_SECONDS[libvirt.domain_type],
        )
        ended = threading.Event()

        def keep_looking() -> None:
            try:
                enter(libvirt.namespace)
            except OSError as error:
                progress.say(f"first boots are not watched: {error.strerror}")
                return
            while not ended.wait(INTERVAL):
                with suppress(Problem, OSError):  # a watch that fails must not stop the work
                    watch.look()

        thread = threading.Thread(target=keep_looking, name="first-boot-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=10 * INTERVAL)

    def look(self) -> None:
        """Look at each machine once, and reset those that hang."""
        for domain, address in self._domains.items():
            seen = self._machines.look(domain)
            if seen is None or self._done.get(seen.uuid) == "ready":
                continue
            quiet = self._is_quiet(seen)
            if seen.wrong_clock:
                self._wake(domain, seen, f"the clock of {domain} {seen.wrong_clock}")
            elif quiet and not self._answered(seen, address):
                self._wake(domain, seen, self._silence(domain))

    def _is_quiet(self, seen: Sighting) -> bool:
        now = self._clock()
        quiet = self._quiet.setdefault(seen.uuid, _Quiet(seen.signs, now))
        if quiet.signs != seen.signs or seen.state not in (RUNNING, PAUSED):
            quiet.signs, quiet.since = seen.signs, now
        return now - quiet.since >= self._quiet_seconds

    def _answered(self, seen: Sighting, address: str) -> bool:
        if seen.state != RUNNING or not self._machines.answers(address):
            return False
        self._note(seen.uuid, "ready")
        return True

    def _silence(self, domain: str) -> str:
        return f"{domain} has shown nothing for {self._quiet_seconds:.0f} s in its first boot"

    def _wake(self, domain: str, seen: Sighting, why: str) -> None:
        quiet = self._quiet[seen.uuid]
        if self._done.get(seen.uuid) is None:
            # Noted before it is done: a watch that is killed in between must not reset it again.
            self._note(seen.uuid, "reset")
            self._say(f"{why}: resetting it (once)")
            self._machines.reset(domain, seen.state)
            quiet.since = self._clock()
        elif not quiet.told:
            quiet.told = True
            self._say(f"{why}, and was reset before: look at its console (./hardway status)")

    def _note(self, uuid: str, what: str) -> None:
        self._done[uuid] = what
        write_atomically(self._record, json.dumps(self._done, indent=1).encode())

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return {str(uuid): str(what) for uuid, what in found.items()}


class LibvirtMachines:
    """Machines of a libvirt, whose serial consoles are written to ``<consoles>/<domain>.log``.

    ``answers`` has to be called from inside the machines' network namespace.
    """

    def __init__(self, libvirt: LibvirtConnection, folder: Path, domains: Iterable[str]) -> None:
        self._libvirt = libvirt
        self._folder = folder
        self._consoles = Consoles(folder, domains)

    def look(self, domain: str) -> Sighting | None:
        """The domain's state, its console's length and time, and what its disks have done."""
        found = ask(
            self._libvirt.uri, "domstats", "--raw", "--state", "--block", domain, timeout=15
        )
        uuid = ask(self._libvirt.uri, "domuuid", domain, timeout=15)
        if found is None or uuid is None or found.returncode or uuid.returncode:
            return None
        facts = dict(
            line.strip().split("=", 1) for line in found.stdout.splitlines() if "=" in line
        )
        disks = [f"{key}={facts[key]}" for key in sorted(facts) if key.endswith(".reqs")]
        console = ""
        with suppress(OSError):
            entry = (self._folder / f"{domain}.log").stat()
            console = f"{entry.st_size} {entry.st_mtime_ns}"
        return Sighting(
            uuid.stdout.strip(),
            int(facts.get("state.state", 0)),
            " ".join([console, *disks]),
            self._consoles.wrong_clock(domain),
        )

    def answers(self, address: str) -> bool:
        """Whether the first bytes from port 22 are those of an SSH server (RFC 4253, 4.2)."""
        try:
            with socket.create_connection((address, 22), timeout=3) as connection:
                connection.settimeout(15)  # under emulation the server takes seconds to start
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def reset(self, domain: str, state: int) -> None:
        """``virsh reset``, and resume a machine that was paused."""
        self._consoles.forget(domain)
        virsh(self._libvirt, "reset", domain)
        if state == PAUSED:
            virsh(self._libvirt, "resume", domain)
