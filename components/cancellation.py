"""Ends the waits of dynamic resources when an update is cancelled."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

CANCELLED = threading.Event()
"""Is set once the engine asks its providers to stop. The server of dynamic resources sets it
(``plugins/dynamic``), since the SDK's own server ignores the request (3.259)."""

LOOK = 0.2
"""Seconds between two looks at ``CANCELLED``."""


class Cancelled(Exception):
    """The update was cancelled."""

    def __init__(self) -> None:
        super().__init__("the update was cancelled; the same command goes on from here")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end. Raises Cancelled where the update is cancelled before."""

    async def watched() -> T:
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait({task}, timeout=LOOK))[0]:
            if CANCELLED.is_set():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                raise Cancelled
        return task.result()

    return asyncio.run(watched())


def pause(seconds: float) -> None:
    """Wait for some seconds. Raises Cancelled where the update is cancelled before."""
    if CANCELLED.wait(seconds):
        raise Cancelled
