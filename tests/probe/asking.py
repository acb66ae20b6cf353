"""Questions of tests to a cluster."""

import asyncio

from plan.condition import Check
from probe.access import Access
from probe.conditions import Doors, ask, doors
from probe.failure import Unmet


class Asking:
    """One event loop and one connection to each machine for all questions of a session."""

    def __init__(self, runner: asyncio.Runner, doors: Doors) -> None:
        self._runner, self._doors = runner, doors

    def __call__(self, check: Check, access: Access | None = None) -> Unmet | None:
        """What is not so; through doors of its own where the access is another one."""
        return self._runner.run(self._asked(check, access))

    async def _asked(self, check: Check, access: Access | None) -> Unmet | None:
        if access is None:
            return await ask(check, self._doors)
        async with doors(access) as through:
            return await ask(check, through)

    def sentence(self, check: Check, access: Access | None = None) -> str:
        """The sentence of what is not so, which must be there."""
        unmet = self(check, access)
        assert unmet is not None
        return str(unmet)


def asked_once(check: Check, access: Access) -> Unmet | None:
    """What is not so, through doors and an event loop for this question alone."""

    async def asked() -> Unmet | None:
        async with doors(access) as through:
            return await ask(check, through)

    return asyncio.run(asked())
