"""Observes the objects that the API must have, through the API."""

import asyncio
from collections.abc import Iterable
from itertools import chain

from plan.declared import DeclaredObject, differences
from plan.held import Difference
from probe.api import Api

AT_ONCE = 4
"""Requests that are under way together: a handshake costs an emulated machine most of a second."""


async def differing(kubeconfig: str, declared: Iterable[DeclaredObject]) -> tuple[Difference, ...]:
    """What differs in the API. Raises ApiError where it cannot be asked."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with Api(kubeconfig) as api:

        async def look_at(wanted: DeclaredObject) -> tuple[Difference, ...]:
            async with turn:
                return differences(wanted, await api.object_at(wanted.path))

        looks = await asyncio.gather(*map(look_at, declared))
    return tuple(chain.from_iterable(looks))
