"""Watches machines during their first boot and resets a machine that hangs, once.

Under emulation some machines stop in the middle of their first boot and come up well after a reset.
A machine counts as hanging when for a while neither its serial console nor its disks show activity
and SSH does not answer. A busy processor is no sign of life: a hanging kernel may spin. A machine
that reports a wrong clock on its console is reset too, since a kernel measures the speed of its
processor only when it starts. Each reset is reported.
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
"""Domain type to the seconds without activity after which a machine counts as hanging."""

INTERVAL = 3.0
"""Seconds between two looks at the machines."""

RUNNING, PAUSED = 1, 3
"""Values of libvirt's ``virDomainState``."""


@dataclass(frozen=True)
class Sighting:
    """The condition of a machine at one look."""

    uuid: str
    state: int
    """A value of libvirt's ``virDomainState``."""
    signs: str
    """Console and disk counters; any change of this text is a sign of life."""
    wrong_clock: str = ""
    """The machine's own report that its clock is wrong; empty where it reports nothing."""


class WatchedMachines(Protocol):
    """The operations on machines that ``FirstBootWatch`` needs."""

    def look(self, domain: str) -> Sighting | None:
        """The condition of a machine; None if it does not exist or the hypervisor is silent."""

    def answers(self, address: str) -> bool:
        """Whether an SSH server answers at the address."""

    def reset(self, domain: str, state: int) -> None:
        """Reset the machine; ``state`` is its ``virDomainState`` at the last look."""


@dataclass
class _Quiet:
    signs: str
    since: float
    reported: bool = False


class FirstBootWatch:
    """Resets a machine that hangs in its first boot, at most once for each UUID."""

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
        """Watch ``domains`` (name to address).

        The file ``record`` keeps for each UUID whether the machine was reset or is ready, so that
        a later run does not reset it again.
        """
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
        """Watch the machines in a separate thread while the context lasts."""
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
                with suppress(Problem, OSError):  # a failing watch must not stop the update
                    watch.look()

        thread = threading.Thread(target=keep_looking, name="first-boot-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=10 * INTERVAL)

    def look(self) -> None:
        """Look once at each machine that is not ready yet, and reset those that hang."""
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
            # Noted before the reset: if the watch is killed in between, a later one must not
            # reset the machine a second time.
            self._note(seen.uuid, "reset")
            self._say(f"{why}: resetting it (once)")
            self._machines.reset(domain, seen.state)
            quiet.since = self._clock()
        elif not quiet.reported:
            quiet.reported = True
            self._say(f"{why}, and was reset before: look at its console (./hardway status)")

    def _note(self, uuid: str, what: str) -> None:
        self._done[uuid] = what
        write_atomically(self._record, json.dumps(self._done, indent=1).encode())

    def _read(self) -> dict[str, str]:
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return {str(uuid): str(what) for uuid, what in record.items()}


class LibvirtMachines:
    """Machines of a libvirt that writes their serial consoles to ``<folder>/<domain>.log``.

    Callers of ``answers`` must be in the machines' network namespace.
    """

    def __init__(self, libvirt: LibvirtConnection, folder: Path, domains: Iterable[str]) -> None:
        self._libvirt = libvirt
        self._folder = folder
        self._consoles = Consoles(folder, domains)

    def look(self, domain: str) -> Sighting | None:
        """The domain's state; its signs are its log's size and time and its disks' requests."""
        statistics = ask(
            self._libvirt.uri, "domstats", "--raw", "--state", "--block", domain, timeout=15
        )
        uuid = ask(self._libvirt.uri, "domuuid", domain, timeout=15)
        if statistics is None or uuid is None or statistics.returncode or uuid.returncode:
            return None
        facts = dict(
            line.strip().split("=", 1) for line in statistics.stdout.splitlines() if "=" in line
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
        """Whether port 22 sends the identification of an SSH server (RFC 4253, 4.2)."""
        try:
            with socket.create_connection((address, 22), timeout=3) as connection:
                connection.settimeout(15)  # under emulation the server takes seconds to start
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def reset(self, domain: str, state: int) -> None:
        """Run ``virsh reset``, and ``virsh resume`` where the machine was paused."""
        self._consoles.forget(domain)
        virsh(self._libvirt, "reset", domain)
        if state == PAUSED:
            virsh(self._libvirt, "resume", domain)
