"""How slow a cluster's machines are."""

import asyncio

from plan import render
from plan.limits import HARD
from probe.machines import Machines, Unreachable

TIMES = 8
"""Measurements of a machine: a single one may lie between two interruptions by its host."""

SCRIPT = (
    f"LC_ALL=C\n{render.script('pace')}\nfor _ in {{1..{TIMES}}}; do measure; done\necho $pace\n"
)

SECONDS = 10.0 * HARD
"""For an answer; the work is a tenth of a second of a quiet emulated machine."""


async def slowest(machines: Machines, before: float) -> float:
    """How many times slower than a quiet emulated machine the slowest of them is, and at least 1.

    A machine that cannot be asked is not counted; where none can, it is what it was ``before``.
    """
    told = await asyncio.gather(*(_of(machines, name) for name in machines.names))
    return max((pace for pace in told if pace is not None), default=before)


async def _of(machines: Machines, name: str) -> float | None:
    try:
        done = await machines.run(name, SCRIPT, timeout=SECONDS)
        return int(done.stdout) / 100
    except (Unreachable, ValueError):
        return None


def slowness(pace: float) -> str:
    """What is said of a machine that is slow; nothing of one that is not."""
    return f"the slowest machine is {pace:.1f} x slower than a quiet one" if pace >= 1.5 else ""
