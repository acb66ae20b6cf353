"""Measures how slow a cluster's machines are."""

import asyncio

from plan import library
from plan.limits import HARD
from probe.machines import Machines, Unreachable

TIMES = 8
"""The number of measurements on a machine: a single one may fall between two interruptions of the
machine by its host."""

SCRIPT = (
    f"LC_ALL=C\n{library.script('pace')}\nfor _ in {{1..{TIMES}}}; do measure; done\necho $pace\n"
)

SECONDS = 10.0 * HARD
"""The time limit of an answer. The work takes a quiet emulated machine a tenth of a second."""


async def slowest(machines: Machines, before: float) -> float:
    """How many times slower than a quiet emulated machine the slowest machine is, and at least 1.

    Machines that do not answer are left out; where none answers, the result is ``before``.
    """
    paces = await asyncio.gather(*(_of(machines, name) for name in machines.names))
    return max((pace for pace in paces if pace is not None), default=before)


async def _of(machines: Machines, name: str) -> float | None:
    try:
        done = await machines.run(name, SCRIPT, timeout=SECONDS)
        return int(done.stdout) / 100
    except (Unreachable, ValueError):
        return None


def slowness(pace: float) -> str:
    """A message that names how slow the slowest machine is; empty where it is not slow."""
    return f"the slowest machine is {pace:.1f} x slower than a quiet one" if pace >= 1.5 else ""
