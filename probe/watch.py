"""Waiting until a cluster's conditions hold, one after the other."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from plan.conditions import Condition
from probe.access import Access
from probe.conditions import Doors, ask, doors
from probe.failure import Unmet

Say = Callable[[str], None]

FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.5, 1.5, 3.0
"""Seconds between two questions, and their growth."""

MOMENT = 1.0
"""Seconds that nobody needs to be told of."""

REMINDER = 15.0
"""Seconds after which a new last error is told."""

ANSWER = 90.0
"""Seconds after which a question counts as unanswered, whatever it waits for."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a condition."""

    name: str
    holds: bool
    seconds: float
    """From its first question to the answer that counted."""
    error: str | None = None
    """The last thing that was not so: one sentence without its full stop."""
    wholly: bool = False
    """Whether nothing of what it asks for is there, as when no node at all is Ready."""


def run_watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """``watch`` for a thread that has no event loop."""
    return asyncio.run(watch(conditions, access, say=say, limit=limit))


async def watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """Wait for each condition in turn; after the first that fails, ask the others once.

    A condition is waited for until its deadline or, where there is a limit, for what is left of
    these seconds; each is asked at least once. ``say`` is told what is waited for, why it does not
    hold yet, and when it does. Raises ApiError for a kubeconfig that cannot be used.
    """
    end = None if limit is None else monotonic() + limit
    outcomes: list[Outcome] = []
    async with doors(access) as through:
        for condition in conditions:
            patience = float(condition.deadline) if end is None else end - monotonic()
            outcomes.append(await _Wait(condition, patience, say).outcome(through))
            if not outcomes[-1].holds:
                break
        rest = (_Wait(one, 0, _silent).outcome(through) for one in conditions[len(outcomes) :])
        outcomes += await asyncio.gather(*rest)
    return tuple(outcomes)


def _silent(text: str) -> None:
    del text


@dataclass
class _Wait:
    """One condition that is waited for."""

    condition: Condition
    patience: float
    say: Say
    began: float = field(default_factory=lambda: monotonic())
    told: str | None = None
    told_at: float = field(default_factory=lambda: monotonic())

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    async def outcome(self, through: Doors) -> Outcome:
        loop = asyncio.get_running_loop()
        sentence = f"waiting until {self.condition.waits_for}"
        announcement = loop.call_later(MOMENT, self.say, sentence)
        pause = FIRST_PAUSE
        try:
            while (unmet := await _answer(self.condition, through)) is not None:
                left = self.patience - self.seconds
                if left <= 0:
                    break
                self._remind(str(unmet))
                await asyncio.sleep(min(pause, left))
                pause = min(pause * GROWTH, LONGEST_PAUSE)
        finally:
            announcement.cancel()
        seconds = self.seconds
        if unmet is None:
            self.say(f"{self.condition.name}: {self.condition.waits_for} ({seconds:.1f} s)")
        return Outcome(
            name=self.condition.name,
            holds=unmet is None,
            seconds=seconds,
            error=None if unmet is None else str(unmet),
            wholly=unmet is not None and unmet.wholly,
        )

    def _remind(self, error: str) -> None:
        now = monotonic()
        if now - self.told_at >= REMINDER and error != self.told:
            self.say(f"{self.condition.name}: not yet, {error}")
            self.told, self.told_at = error, now


async def _answer(condition: Condition, through: Doors) -> Unmet | None:
    try:
        async with asyncio.timeout(ANSWER):
            return await ask(condition.check, through)
    except TimeoutError:
        return Unmet(f"no answer within {ANSWER:.0f} s", wholly=True)
