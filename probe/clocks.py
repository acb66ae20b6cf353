"""Clocks of machines beside this computer's: the time that they show, and how fast they go.

An answer over SSH takes its time, seconds on a busy host. So each reading of a machine's clock lies
between two of this computer's, and a difference counts only as far as no round trip explains it.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from probe.machines import Machines, Unreachable

TOLERANCE = 60.0
"""Seconds: an API server takes a token that another one makes so long before its time (the leeway
of go-jose); certificates are made five minutes older than they are."""

SPEED = 0.1
"""Part of the speed. A time service that sets a clock gently changes it by a two thousandth."""

READINGS, PAUSE = 3, 1.0
"""How often a machine is asked, and the seconds in between. The first answer takes longer than the
others, since the connection is made for it."""

SECONDS = 20.0
"""For an answer."""

SCRIPT = "date +%s.%N; cat /proc/uptime"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What two clocks of one computer show at the same time, in seconds."""

    date: float
    """Since the epoch; people and time services set this clock."""
    uptime: float
    """Since the computer's start; nobody sets it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A machine's clocks at some time between two moments of this computer."""

    before: Moment
    there: Moment
    after: Moment

    @property
    def ahead(self) -> float:
        """Seconds by which the machine's date is certainly ahead; negative where it is behind."""
        return max(self.there.date - self.after.date, 0) - max(
            self.before.date - self.there.date, 0
        )


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How a machine's clock differs from this computer's, as far as that is certain."""

    ahead: float
    """Seconds, negative where it is behind."""
    most: float
    """It goes at most so many times as fast as this computer's."""
    least: float
    """It goes at least so many times as fast."""

    @property
    def told(self) -> str | None:
        """What is said of a clock that differs: completes "the clock of m1 ..."."""
        if self.least > 1 + SPEED:
            return f"goes at least {self.least:.1f} times as fast as this computer's"
        if self.most < 1 - SPEED:
            return f"goes at most {self.most:.2f} times as fast as this computer's"
        if abs(self.ahead) <= TOLERANCE:
            return None
        return f"is {abs(self.ahead):.0f} s {_side(self.ahead)} this computer's"

    @property
    def is_off(self) -> bool:
        """Whether it goes as fast as this computer's and shows another time."""
        return self.told is not None and self.least <= 1 + SPEED and self.most >= 1 - SPEED


def compared(readings: Sequence[Reading]) -> Clock:
    """What some readings of one machine, in their order, come to."""
    most, least = float("inf"), 0.0
    for earlier, later in combinations(readings, 2):
        there = later.there.uptime - earlier.there.uptime
        longest = later.after.uptime - earlier.before.uptime
        shortest = later.before.uptime - earlier.after.uptime
        least = max(least, there / longest)
        most = min(most, there / shortest)
    return Clock(ahead=max((one.ahead for one in readings), key=abs), most=most, least=least)


async def ask(machines: Machines, names: Iterable[str]) -> dict[str, Clock | Unreachable]:
    """The clock of each machine, or why it cannot be asked; all are asked at the same time."""

    async def one(name: str) -> Clock | Unreachable:
        try:
            readings = [await _reading(machines, name)]
            while len(readings) < READINGS:
                await asyncio.sleep(PAUSE)
                readings.append(await _reading(machines, name))
        except Unreachable as error:
            return error
        return compared(readings)

    names = tuple(names)
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


def differences(clocks: Mapping[str, Clock | Unreachable]) -> list[str]:
    """A sentence for each clock that differs, without its full stop.

    Where all machines agree with each other and not with this computer, its own clock is named.
    """
    known = {name: clock for name, clock in clocks.items() if isinstance(clock, Clock)}
    offs = [clock.ahead for clock in known.values() if clock.is_off]
    if len(offs) == len(known) > 1 and max(offs) - min(offs) <= TOLERANCE:
        by = f"{min(map(abs, offs)):.0f} s {_side(-offs[0])}"
        names = ", ".join(known)
        return [f"the clock of this computer is {by} those of {names}, which agree with each other"]
    return [f"the clock of {name} {clock.told}" for name, clock in known.items() if clock.told]


def _side(ahead: float) -> str:
    return "ahead of" if ahead > 0 else "behind"


async def _reading(machines: Machines, name: str) -> Reading:
    before = _now()
    done = await machines.run(name, SCRIPT, timeout=SECONDS)
    after = _now()
    try:
        date, uptime, *_ = done.stdout.split()
        there = Moment(date=float(date), uptime=float(uptime))
    except ValueError as error:
        raise Unreachable(f"{name} does not tell its clock ({done.said})") from error
    return Reading(before=before, there=there, after=after)


def _now() -> Moment:
    return Moment(date=time.time(), uptime=time.monotonic())
