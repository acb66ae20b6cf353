"""Who has this computer's processors: how much its machines ask for and get, and who has the rest.

All of it is measured between two looks. Of a machine's threads the kernel counts how long each ran
and how long it was ready and waited for a processor (/proc/<pid>/task/<tid>/schedstat); both
together are what the machine asked for. Of programs it counts how long they ran
(/proc/<pid>/stat), and of a control group with a quota how often that stopped it (cpu.stat).
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds in which the kernel counts the time of programs."""

SHOWN = 3
"""How many programs are named."""
WORTH_NAMING = 0.1
"""The part of a processor from which on a program is named."""
WORTH_ASKING = 0.5
"""What machines must ask for, in processors, before it counts that they do not get it."""


@dataclass(frozen=True)
class Program:
    """A process at a look; times in seconds."""

    name: str
    parent: int
    started: str
    own: float
    """What it has used itself."""
    children: float
    """What those of its children have used that have ended, and theirs."""


@dataclass(frozen=True)
class Look:
    """What the kernel has counted until now."""

    at: float
    """By a clock that nobody sets."""
    idle: float
    """Seconds of all processors together without work."""
    stolen: float
    """Seconds in which a hypervisor below this computer had a processor that had work."""
    periods: Mapping[str, tuple[int, int]]
    """Of each control group with a quota: its periods, and those in which the quota stopped it."""
    programs: Mapping[int, Program]
    machines: Mapping[str, Mapping[int, tuple[float, float]]]
    """Of each machine's threads: how long it ran, and how long it waited for a processor."""


@dataclass(frozen=True)
class Got:
    """What somebody got of the processors, and asked for."""

    got: float
    asked: float

    @property
    def starves(self) -> bool:
        """Less than half of a demand that is worth a word."""
        return self.asked >= WORTH_ASKING and self.got < self.asked / 2

    def __str__(self) -> str:
        return f"{self.got:.1f} of the {self.asked:.1f} processors"


@dataclass(frozen=True)
class Taker:
    """Who has processors beside the machines."""

    name: str
    processors: float

    def __str__(self) -> str:
        return f"{self.name} {self.processors:.1f}"


@dataclass(frozen=True)
class Shares:
    """What became of the processors between two looks."""

    seconds: float
    free: float
    """Processors without work."""
    machines: Mapping[str, Got]
    takers: tuple[Taker, ...]
    """The largest first."""
    own: float
    """Processors that this process has used, with all that it started."""
    quota: str
    """What a quota does to this computer's programs, if there is one that is used up."""

    @property
    def together(self) -> Got:
        """All machines."""
        every = self.machines.values()
        return Got(sum(one.got for one in every), sum(one.asked for one in every))

    @property
    def taken(self) -> str:
        """Who takes most, as the end of a sentence."""
        named = [str(one) for one in self.takers if one.processors >= WORTH_NAMING][:SHOWN]
        parts = [f"most is taken by {', '.join(named)}"] if named else []
        return "; ".join([*parts, *([self.quota] if self.quota else [])])


def look(machines: Mapping[str, int] | None = None) -> Look:
    """Look at everything now; ``machines`` are the processes of machines by name."""
    # user nice system idle iowait irq softirq steal
    (line,) = (one for one in _lines(PROC / "stat") if one.startswith("cpu "))
    ticks = [int(number) for number in line.split()[1:]]
    programs = {int(name): _program(name) for name in os.listdir(PROC) if name.isdigit()}
    return Look(
        at=time.monotonic(),
        idle=(ticks[3] + ticks[4]) * TICK,
        stolen=(ticks[7] if len(ticks) > 7 else 0) * TICK,
        periods=dict(_periods()),
        programs={pid: one for pid, one in programs.items() if one},
        machines={name: dict(_threads(pid)) for name, pid in (machines or {}).items()},
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _program(pid: str) -> Program | None:
    """A process by its number (proc_pid_stat(5)); nothing where it has ended."""
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
    """This process's control groups, each with those above it, as far as they have quotas."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = Path("/sys/fs/cgroup", controllers)
        for place in (home / group[1:], *(home / group[1:]).parents):
            facts = dict(one.split()[:2] for one in _lines(place / "cpu.stat"))
            if int(facts.get("nr_periods", 0)):
                yield str(place), (int(facts["nr_periods"]), int(facts["nr_throttled"]))
            if place == home:
                break


def between(
    before: Look, after: Look, but: Collection[int] = (), *, own: int | None = None
) -> Shares:
    """What became of the processors between two looks.

    No takers are the processes of ``but``, and ``own`` (this one), with all that they started.
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
    """Seconds that each program used, with what it started and what has ended already.

    Compilers live for less than a look: what they used is found with whoever waited for them.
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
    """Whether a process of a look lives at the other one: numbers are used again."""
    now, then = after.programs.get(pid), before.programs.get(pid)
    return now is not None and then is not None and now.started == then.started


def _is_of(pid: int, programs: Mapping[int, Program], roots: Collection[int]) -> bool:
    """Whether a process is one of these, or one of these started it."""
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
    """What becomes of the processors in the next seconds."""
    before = look(machines)
    time.sleep(seconds)
    return between(before, look(machines), machines.values())


def crowded(shares: Shares, asked: int) -> str:
    """A sentence where less than half of the processors are free that machines need, else empty.

    For machines that do not run yet and ask for so many. What this process uses counts as free.
    """
    processors = os.cpu_count() or 1
    if shares.free + shares.own >= min(asked, processors) / 2:
        return ""
    said = f"{room(shares)}, and the machines ask for {asked}"
    return f"{said}; {shares.taken}" if shares.taken else said


def room(shares: Shares) -> str:
    """How many processors are free."""
    return f"{shares.free + shares.own:.1f} of this computer's {os.cpu_count()} processors are free"


def starved(shares: Shares) -> str:
    """A sentence where machines that run get less than half of what they ask for, else empty."""
    together = shares.together
    if not together.starves:
        return ""
    others = shares.taken or f"nobody else uses this computer's {os.cpu_count()}"
    return f"the machines get {together} that they ask for; {others}"
