"""Checks whether a machine's services run, without repeated restarts."""

import asyncio
from collections.abc import Iterator

from plan.conditions import Services
from probe.failure import demand
from probe.machines import Machines, Unreachable
from probe.observation import ALL, RUNNING, SECONDS, Facts, read, restarts_again
from probe.pods import script

QUESTION = "services\t\t\n"
"""The input of ``scripts/observe.sh`` for all services that steps started on the machine."""


async def demand_services(check: Services, machines: Machines) -> None:
    """Raises Unmet where a service does not run or restarts repeatedly, or a machine is silent."""
    told = await asyncio.gather(*(_of(machines, name) for name in check.machines))
    lost = [one for one in told if isinstance(one, Unreachable)]
    failures = [
        sentence
        for name, one in zip(check.machines, told, strict=True)
        for sentence in ([str(one)] if isinstance(one, Unreachable) else _failures(name, one))
    ]
    demand(failures, wholly=len(lost) == len(told))


async def _of(machines: Machines, name: str) -> Facts | Unreachable:
    try:
        done = await machines.run(name, script("observe"), timeout=SECONDS, input=QUESTION)
    except Unreachable as error:
        return error
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        return Unreachable(f"{name} does not say what runs on it ({done.said})")
    return read(done.stdout)


def _failures(machine: str, facts: Facts) -> Iterator[str]:
    for unit in facts.units:
        name = unit["Id"]
        if restarts_again(unit, facts):
            status = unit["ExecMainStatus"]
            yield (
                f"{name} of {machine} is started again and again (its last process ended with "
                f"{status}); ./hardway ssh {machine} -- journalctl -u {name} says why"
            )
        elif unit["ActiveState"] not in RUNNING and name not in facts.jobs:
            yield f"{name} of {machine} does not run ({unit['ActiveState']})"
