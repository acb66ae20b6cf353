"""Compares machines' clocks with this computer's clock: the time that they show, and their speed.

An answer over SSH takes seconds on a busy host. So this computer reads its own clock before and
after each reading of a machine's clock, and a difference counts only as far as the round trip
cannot explain it.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from probe.machines import Machines, Unreachable

TOLERANCE = 60.0
"""Seconds by which a clock may differ. An API server accepts a token of another API server up to so
many seconds before the token's time (the leeway of go-jose); certificates are dated back by five
minutes."""

SPEED = 0.1
"""The share by which a clock's speed may differ. A time service that adjusts a clock gradually
changes its speed by a two thousandth."""

READINGS, PAUSE = 3, 1.0
"""The number of readings of a machine's clock, and the seconds between two of them. The first
answer takes longer than the others, since it includes the opening of the connection."""

SECONDS = 20.0
"""The time limit of an answer."""

SCRIPT = "date +%s.%N; cat /proc/uptime"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The values of two clocks of one computer at the same time, in seconds."""

    date: float
    """Seconds since the epoch; people and time services set this clock."""
    uptime: float
    """Seconds since a fixed point such as the computer's start; nobody sets this clock."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading of a machine's clocks at some time between two moments of this computer."""

    before: Moment
    there: Moment
    after: Moment

    @property
    def ahead(self) -> float:
        """Seconds by which the machine's clock is certainly ahead; negative where it is behind."""
        return max(self.there.date - self.after.date, 0) - max(
            self.before.date - self.there.date, 0
        )


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The difference of a machine's clock from this computer's clock, as far as it is certain."""

    ahead: float
    """Seconds by which the machine's clock is ahead, negative where it is behind."""
    most: float
    """The machine's clock runs at most so many times as fast as this computer's."""
    least: float
    """The machine's clock runs at least so many times as fast as this computer's."""

    @property
    def message(self) -> str | None:
        """The message about a clock that differs, which completes "the clock of m1 ...".

        None for a clock that does not differ.
        """
        if self.least > 1 + SPEED:
            return f"goes at least {self.least:.1f} times as fast as this computer's"
        if self.most < 1 - SPEED:
            return f"goes at most {self.most:.2f} times as fast as this computer's"
        if abs(self.ahead) <= TOLERANCE:
            return None
        return f"is {abs(self.ahead):.0f} s {_side(self.ahead)} this computer's"

    @property
    def is_off(self) -> bool:
        """Whether the clock shows another time than this computer's, but runs as fast."""
        return self.message is not None and self.least <= 1 + SPEED and self.most >= 1 - SPEED


def compared(readings: Sequence[Reading]) -> Clock:
    """The difference that follows from several readings of one machine, in their order."""
    most, least = float("inf"), 0.0
    for earlier, later in combinations(readings, 2):
        there = later.there.uptime - earlier.there.uptime
        longest = later.after.uptime - earlier.before.uptime
        shortest = later.before.uptime - earlier.after.uptime
        least = max(least, there / longest)
        most = min(most, there / shortest)
    return Clock(
        ahead=max((reading.ahead for reading in readings), key=abs), most=most, least=least
    )


async def ask(machines: Machines, names: Iterable[str]) -> dict[str, Clock | Unreachable]:
    """The clock of each machine, or why it cannot be read; all are read at the same time."""

    async def of_machine(name: str) -> Clock | Unreachable:
        try:
            readings = [await _reading(machines, name)]
            while len(readings) < READINGS:
                await asyncio.sleep(PAUSE)
                readings.append(await _reading(machines, name))
        except Unreachable as error:
            return error
        return compared(readings)

    names = tuple(names)
    return dict(zip(names, await asyncio.gather(*map(of_machine, names)), strict=True))


def differences(clocks: Mapping[str, Clock | Unreachable]) -> list[str]:
    """A sentence for each clock that differs, without its full stop.

    Where all machines agree with each other but not with this computer, the only sentence is about
    this computer's clock.
    """
    known = {name: clock for name, clock in clocks.items() if isinstance(clock, Clock)}
    offs = [clock.ahead for clock in known.values() if clock.is_off]
    if len(offs) == len(known) > 1 and max(offs) - min(offs) <= TOLERANCE:
        by = f"{min(map(abs, offs)):.0f} s {_side(-offs[0])}"
        names = ", ".join(known)
        return [f"the clock of this computer is {by} those of {names}, which agree with each other"]
    return [
        f"the clock of {name} {clock.message}" for name, clock in known.items() if clock.message
    ]


def _side(ahead: float) -> str:
    return "ahead of" if ahead > 0 else "behind"


async def _reading(machines: Machines, name: str) -> Reading:
    before = now()
    done = await machines.run(name, SCRIPT, timeout=SECONDS)
    after = now()
    try:
        date, uptime, *_ = done.stdout.split()
        there = Moment(date=float(date), uptime=float(uptime))
    except ValueError as error:
        raise Unreachable(f"{name} does not tell its clock ({done.reason})") from error
    return Reading(before=before, there=there, after=after)


def now() -> Moment:
    """This computer's clocks."""
    return Moment(date=time.time(), uptime=time.monotonic())
