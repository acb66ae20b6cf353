"""Checks whether machines' disks have room left."""

import asyncio

from plan.condition import Room
from probe.failure import demand
from probe.machines import Machines, Unreachable
from probe.pods import script

SECONDS = 60
"""Time limit of the question."""


async def demand_room(check: Room, machines: Machines) -> None:
    """Raises Unmet where a disk is too full or a machine does not answer."""
    answers = await asyncio.gather(*(_fault(check, machines, name) for name in check.machines))
    demand(filter(None, answers))


async def _fault(check: Room, machines: Machines, name: str) -> str | None:
    """A sentence about a machine whose disk is too full; None where it has room."""
    try:
        done = await machines.run(name, script("room"), check.folder, timeout=SECONDS)
        used, left = map(int, done.stdout.split())
    except Unreachable as error:
        return str(error)
    except ValueError:
        return f"{name} does not say how full its disk is ({done.reason})"
    if used <= check.percent:
        return None
    return (
        f"the disk with {check.folder} on {name} is {used} % full, with {left} MiB left; delete "
        f"claims or images that nobody needs, or write more for machines.{name}.disk"
    )
