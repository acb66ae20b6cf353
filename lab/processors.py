"""Measures who uses this computer's processors: its virtual machines and all other programs.

Every figure is the difference between two readings of the kernel's counters. For each thread of a
machine the kernel counts the time that the thread ran and the time that the thread was ready to run
but waited for a processor (/proc/<pid>/task/<tid>/schedstat). The machine got the first and asked
for the sum of both. For each program the kernel counts the time that it ran (/proc/<pid>/stat), and
for each control group with a quota how often the quota stopped the group (cpu.stat).
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""The unit, in seconds, in which the kernel counts the processor time of programs."""

SHOWN = 3
"""The largest number of programs that a message names."""
WORTH_NAMING = 0.1
"""A message names a program only if the program uses at least this many processors."""
WORTH_ASKING = 0.5
"""A demand for fewer processors than this never counts as starving."""


@dataclass(frozen=True)
class Program:
    """A process at the time of one reading; times in seconds."""

    name: str
    parent: int
    started: str
    own: float
    """Processor time of the process itself."""
    children: float
    """Processor time of its children that have ended and been waited for, and of theirs."""


@dataclass(frozen=True)
class Look:
    """One reading of the kernel's counters."""

    at: float
    """Time of the reading, by the monotonic clock."""
    idle: float
    """Seconds without work, summed over all processors."""
    stolen: float
    """Seconds in which the hypervisor that runs this computer kept back a processor with work."""
    periods: Mapping[str, tuple[int, int]]
    """Control group with a quota to its number of periods, and of periods that the quota cut."""
    programs: Mapping[int, Program]
    """PID to process."""
    machines: Mapping[str, Mapping[int, tuple[float, float]]]
    """Machine to thread number to the seconds that the thread ran and waited for a processor."""


@dataclass(frozen=True)
class Got:
    """The processors that one or more machines got and asked for."""

    got: float
    asked: float

    @property
    def starves(self) -> bool:
        """Whether the demand is at least ``WORTH_ASKING`` and less than half of it was met."""
        return self.asked >= WORTH_ASKING and self.got < self.asked / 2

    def __str__(self) -> str:
        return f"{self.got:.1f} of the {self.asked:.1f} processors"


@dataclass(frozen=True)
class Taker:
    """A program that is not part of a machine, or the hypervisor, and the processors it uses."""

    name: str
    processors: float

    def __str__(self) -> str:
        return f"{self.name} {self.processors:.1f}"


@dataclass(frozen=True)
class Shares:
    """How the processors were shared between two readings."""

    seconds: float
    """Time between the two readings."""
    free: float
    """Processors without work."""
    machines: Mapping[str, Got]
    takers: tuple[Taker, ...]
    """The largest first."""
    own: float
    """Processors that this process and its descendants used."""
    quota: str
    """A phrase about a control group whose quota is used up; empty where there is none."""

    @property
    def together(self) -> Got:
        """The sum over all machines."""
        every = self.machines.values()
        return Got(sum(share.got for share in every), sum(share.asked for share in every))

    @property
    def taken(self) -> str:
        """The largest takers and the used-up quota as the end of a sentence; may be empty."""
        named = [str(taker) for taker in self.takers if taker.processors >= WORTH_NAMING][:SHOWN]
        parts = [f"most is taken by {', '.join(named)}"] if named else []
        return "; ".join([*parts, *([self.quota] if self.quota else [])])


def look(machines: Mapping[str, int] | None = None) -> Look:
    """Read all counters now; ``machines`` is machine name to PID."""
    # user nice system idle iowait irq softirq steal
    (line,) = (line for line in _lines(PROC / "stat") if line.startswith("cpu "))
    ticks = [int(number) for number in line.split()[1:]]
    programs = {int(name): _program(name) for name in os.listdir(PROC) if name.isdigit()}
    return Look(
        at=time.monotonic(),
        idle=(ticks[3] + ticks[4]) * TICK,
        stolen=(ticks[7] if len(ticks) > 7 else 0) * TICK,
        periods=dict(_periods()),
        programs={pid: program for pid, program in programs.items() if program},
        machines={name: dict(_threads(pid)) for name, pid in (machines or {}).items()},
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _program(pid: str) -> Program | None:
    """The process with this PID, from /proc/<pid>/stat (proc_pid_stat(5)); None where it ended."""
    text = "\n".join(_lines(PROC / pid / "stat"))
    before, _, after = text.rpartition(")")
    fields = after.split()
    if len(fields) < 20:
        return None
    own, children = (sum(map(int, fields[at : at + 2])) * TICK for at in (11, 13))
    return Program(before.partition("(")[2], int(fields[1]), fields[19], own, children)


def _threads(pid: int) -> Iterator[tuple[int, tuple[float, float]]]:
    with suppress(OSError):
        for name in os.listdir(PROC / str(pid) / "task"):
            for line in _lines(PROC / str(pid) / "task" / name / "schedstat"):
                ran, waited, _ = map(int, line.split())
                yield int(name), (ran / 1e9, waited / 1e9)


def _periods() -> Iterator[tuple[str, tuple[int, int]]]:
    """The period counters of this process's control groups and their parents that have a quota."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = Path("/sys/fs/cgroup", controllers)
        for folder in (home / group[1:], *(home / group[1:]).parents):
            facts = dict(line.split()[:2] for line in _lines(folder / "cpu.stat"))
            if int(facts.get("nr_periods", 0)):
                yield str(folder), (int(facts["nr_periods"]), int(facts["nr_throttled"]))
            if folder == home:
                break


def between(
    before: Look, after: Look, but: Collection[int] = (), *, own: int | None = None
) -> Shares:
    """Compute how the processors were shared between two readings.

    The processes ``but`` and ``own`` (default: this process) and their descendants do not count as
    takers.
    """
    seconds = max(after.at - before.at, TICK)
    machines = {
        name: _got(before.machines.get(name, {}), threads, seconds)
        for name, threads in after.machines.items()
    }
    used = {pid: time / seconds for pid, time in _used(before, after).items()}
    root = os.getpid() if own is None else own
    mine = {pid for pid in used if _is_of(pid, after.programs, {root})}
    takers = [
        Taker(f"{after.programs[pid].name} ({pid})", share)
        for pid, share in used.items()
        if share > 0 and pid not in mine and not _is_of(pid, after.programs, but)
    ]
    if (stolen := (after.stolen - before.stolen) / seconds) > 0:
        takers.append(Taker("the hypervisor of this computer (steal)", stolen))
    return Shares(
        seconds=seconds,
        free=max(0.0, after.idle - before.idle) / seconds,
        machines=machines,
        takers=tuple(sorted(takers, key=lambda taker: -taker.processors)),
        own=sum(used[pid] for pid in mine),
        quota=_quota(before, after),
    )


def _got(
    before: Mapping[int, tuple[float, float]],
    after: Mapping[int, tuple[float, float]],
    seconds: float,
) -> Got:
    ran, waited = (
        sum(now[at] - before.get(thread, (0.0, 0.0))[at] for thread, now in after.items()) / seconds
        for at in (0, 1)
    )
    return Got(ran, ran + waited)


def _used(before: Look, after: Look) -> dict[int, float]:
    """PID to the seconds that a program used between two readings, with its ended children.

    Short-lived programs such as compilers appear in neither reading. The kernel adds their time to
    the process that waited for them.
    """
    ended: dict[int, float] = {}
    for pid, program in before.programs.items():
        if _same(before, after, pid):
            continue
        above = program.parent
        while above in before.programs and not _same(before, after, above):
            above = before.programs[above].parent
        ended[above] = ended.get(above, 0.0) + program.own + program.children
    used = {}
    for pid, program in after.programs.items():
        was = before.programs[pid] if _same(before, after, pid) else None
        own = program.own - (was.own if was else 0.0)
        children = program.children - (was.children if was else 0.0) - ended.get(pid, 0.0)
        used[pid] = own + max(0.0, children)
    return used


def _same(before: Look, after: Look, pid: int) -> bool:
    """Whether a PID means the same process in both readings; the kernel reuses PIDs."""
    now, then = after.programs.get(pid), before.programs.get(pid)
    return now is not None and then is not None and now.started == then.started


def _is_of(pid: int, programs: Mapping[int, Program], roots: Collection[int]) -> bool:
    """Whether a process is one of ``roots`` or a descendant of one of them."""
    while pid in programs:
        if pid in roots:
            return True
        pid = programs[pid].parent
    return False


def _quota(before: Look, after: Look) -> str:
    for group, (periods, stopped) in after.periods.items():
        periods_before, stopped_before = before.periods.get(group, (0, 0))
        if (new := periods - periods_before) > 0 and (held := stopped - stopped_before) * 2 > new:
            return f"the quota of the control group {group} is used up {held / new:.0%} of the time"
    return ""


def measured(machines: Mapping[str, int], seconds: float) -> Shares:
    """Measure for ``seconds`` from now how the processors are shared."""
    before = look(machines)
    time.sleep(seconds)
    return between(before, look(machines), machines.values())


def crowded(shares: Shares, asked: int) -> str:
    """A sentence that says that machines lack room, or the empty string.

    ``asked`` is the number of processors of the machines that do not run yet. They lack room where
    fewer than half of that number (or of all processors, if these are fewer) are free. Processors
    that this process and its descendants use count as free.
    """
    processors = os.cpu_count() or 1
    if shares.free + shares.own >= min(asked, processors) / 2:
        return ""
    sentence = f"{room(shares)}, and the machines ask for {asked}"
    return f"{sentence}; {shares.taken}" if shares.taken else sentence


def room(shares: Shares) -> str:
    """A sentence that says how many processors are free."""
    return f"{shares.free + shares.own:.1f} of this computer's {os.cpu_count()} processors are free"


def starved(shares: Shares) -> str:
    """A sentence where the machines together get less than half of what they ask for, else ""."""
    together = shares.together
    if not together.starves:
        return ""
    others = shares.taken or f"nobody else uses this computer's {os.cpu_count()}"
    return f"the machines get {together} that they ask for; {others}"
