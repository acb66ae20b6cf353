"""Waiting until a cluster's conditions hold, one after the other."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from plan.conditions import Condition
from plan.limits import HARD
from probe import pace
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
"""Seconds after which a question counts as unanswered, whatever it waits for; a slow machine has as
many more."""


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
    hard: bool = False
    """Whether it was waited for until the hard limit, since it said new things until then."""
    news: str = ""
    """Where it was waited for in vain: since when nothing was new, and how slow machines are."""


def run_watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """``watch`` for a thread that has no event loop."""
    return asyncio.run(watch(conditions, access, say=say, limit=limit))


async def watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """Wait for each condition in turn; after the first that fails, ask the others once.

    Without a limit, a condition is waited for until nothing new was said of it for its deadline, in
    seconds of a quiet emulated machine. Slow machines have as many more, and after ``HARD`` times
    its deadline by this computer's clock it is over in any case. A limit is how long somebody wants
    to wait in all, by the clock. Each condition is asked at least once. ``say`` is told what is
    waited for, why it does not hold yet, and when it does. Raises ApiError for a kubeconfig that
    cannot be used.
    """
    end = None if limit is None else monotonic() + limit
    outcomes: list[Outcome] = []
    async with doors(access) as through:
        found = 1.0
        for condition in conditions:
            wait = _Wait(condition, say, end=end, pace=found)
            outcomes.append(await wait.outcome(through))
            found = wait.pace
            if not outcomes[-1].holds:
                break
        now = monotonic()
        rest = (
            _Wait(one, _silent, end=now, pace=found).outcome(through)
            for one in conditions[len(outcomes) :]
        )
        outcomes += await asyncio.gather(*rest)
    return tuple(outcomes)


def _silent(text: str) -> None:
    del text


@dataclass
class _Wait:
    """One condition that is waited for."""

    condition: Condition
    say: Say
    end: float | None
    """When it is over by this computer's clock; None where the condition's deadline says that."""
    pace: float
    """How many times slower than a quiet emulated machine the slowest machine is."""
    began: float = field(default_factory=lambda: monotonic())
    told: str | None = None
    told_at: float = field(default_factory=lambda: monotonic())
    measured_at: float | None = None
    moment: float = 0.0
    """The seconds that a quiet machine had since the last thing that was new."""
    news_at: float = field(default_factory=lambda: monotonic())
    looked_at: float = field(default_factory=lambda: monotonic())
    reasons: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    async def outcome(self, through: Doors) -> Outcome:
        loop = asyncio.get_running_loop()
        sentence = f"waiting until {self.condition.waits_for}"
        announcement = loop.call_later(MOMENT, self.say, sentence)
        pause = FIRST_PAUSE
        try:
            while (unmet := await self._answer(through)) is not None:
                if (left := await self._left(str(unmet), through)) <= 0:
                    break
                self._remind(str(unmet))
                await asyncio.sleep(min(pause, left))
                pause = min(pause * GROWTH, LONGEST_PAUSE)
        finally:
            announcement.cancel()
        seconds = self.seconds
        in_vain = unmet is not None and self.end is None
        if unmet is None:
            self.say(f"{self.condition.name}: {self.condition.waits_for} ({seconds:.1f} s)")
        return Outcome(
            name=self.condition.name,
            holds=unmet is None,
            seconds=seconds,
            error=None if unmet is None else str(unmet),
            wholly=unmet is not None and unmet.wholly,
            hard=in_vain and self.moment < self.condition.deadline,
            news=self._news if in_vain else "",
        )

    async def _left(self, reason: str, through: Doors) -> float:
        """The seconds that are left, by this computer's clock."""
        if self.end is not None:
            return self.end - monotonic()
        now = monotonic()
        if self.measured_at is None or now - self.measured_at >= REMINDER:
            self.pace = await pace.slowest(through.machines, self.pace)
            through.slow_by(min(self.pace, HARD))
            self.measured_at = now = monotonic()
        self.moment += (now - self.looked_at) / self.pace
        self.looked_at = now
        # Numbers may be times. What was said before is no news: something may go round in circles.
        if (words := re.sub(r"\d", "", reason)) not in self.reasons:
            if self.reasons:
                self.moment, self.news_at = 0.0, now
            self.reasons.add(words)
        return min((self.condition.deadline - self.moment) * self.pace, self._hard_end - now)

    @property
    def _hard_end(self) -> float:
        return self.began + HARD * self.condition.deadline

    @property
    def _news(self) -> str:
        """Since when nothing was new, and how slow the machines are."""
        slow = pace.slowness(self.pace)
        return f"no news for {monotonic() - self.news_at:.0f} s{slow and f', {slow}'}"

    def _remind(self, error: str) -> None:
        now = monotonic()
        if now - self.told_at >= REMINDER and error != self.told:
            news = "" if self.end is not None else f" ({self._news})"
            self.say(f"{self.condition.name}: not yet, {error}{news}")
            self.told, self.told_at = error, now

    async def _answer(self, through: Doors) -> Unmet | None:
        seconds = ANSWER * min(self.pace, HARD)
        try:
            async with asyncio.timeout(seconds):
                return await ask(self.condition.check, through)
        except TimeoutError:
            return Unmet(f"no answer within {seconds:.0f} s", wholly=True)
