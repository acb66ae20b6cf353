"""Checks whether a machine's services run, without repeated restarts."""

import asyncio
from collections.abc import Iterator

from plan.condition import Services
from probe.failure import demand
from probe.machines import Machines, Unreachable
from probe.observation import ALL, RUNNING, SECONDS, Facts, read, restarts_again
from probe.pods import script

QUESTION = "services\t\t\n"
"""The input of ``scripts/observe.sh`` for all services that steps started on the machine."""


async def demand_services(check: Services, machines: Machines) -> None:
    """Raises Unmet where a service does not run or restarts repeatedly, or a machine is silent."""
    answers = await asyncio.gather(*(_of(machines, name) for name in check.machines))
    lost = [answer for answer in answers if isinstance(answer, Unreachable)]
    failures = [
        sentence
        for name, answer in zip(check.machines, answers, strict=True)
        for sentence in (
            [str(answer)] if isinstance(answer, Unreachable) else _failures(name, answer)
        )
    ]
    demand(failures, wholly=len(lost) == len(answers))


async def _of(machines: Machines, name: str) -> Facts | Unreachable:
    try:
        done = await machines.run(name, script("observe"), timeout=SECONDS, input=QUESTION)
    except Unreachable as error:
        return error
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        return Unreachable(f"{name} does not say what runs on it ({done.reason})")
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
