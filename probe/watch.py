"""Waiting until a cluster's conditions hold, one after the other."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from plan.condition import Condition
from plan.limits import HARD
from probe import pace
from probe.access import Access
from probe.conditions import Doors, ask, doors
from probe.failure import Unmet

Say = Callable[[str], None]

FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.5, 1.5, 3.0
"""The first and the longest pause between two checks of a condition, in seconds, and the factor by
which each pause grows."""

MOMENT = 1.0
"""Seconds: a wait that ends earlier is not announced."""

REMINDER = 15.0
"""Seconds between two reports of why a condition does not hold yet, and between two measurements of
how slow the machines are."""

ANSWER = 90.0
"""Seconds after which a check counts as unanswered, whatever it waits for; multiplied by how many
times slower the slowest machine is, at most by ``HARD``."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of the wait for a condition."""

    name: str
    holds: bool
    seconds: float
    """The time from the first check of the condition to the answer that decided."""
    error: str | None = None
    """Why the condition did not hold at the last check: one sentence without its full stop."""
    wholly: bool = False
    """Whether nothing that the condition requires is there, for example no node at all is Ready."""
    hard: bool = False
    """Whether the wait lasted until the hard limit, since new reasons appeared until then."""
    news: str = ""
    """Where the wait was in vain: for how long no new reason appeared, how slow machines are."""


def run_watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """``watch`` for a thread that has no event loop."""
    return asyncio.run(watch(conditions, access, say=say, limit=limit))


async def watch(
    conditions: Sequence[Condition], access: Access, *, say: Say, limit: float | None = None
) -> tuple[Outcome, ...]:
    """Wait for each condition in turn; after the first that fails, check the others once.

    Without a limit, the wait for a condition ends where no new reason for its failure appears for
    as long as its deadline. The deadline counts seconds of a quiet emulated machine and is longer
    in proportion where machines are slow. By this computer's clock, each wait ends after ``HARD``
    times the deadline in any case. ``limit`` is the time for all waits together, in seconds by this
    computer's clock. Each condition is checked at least once. ``say`` receives what the function
    waits for, why that does not hold yet, and when it holds. Raises ApiError for a kubeconfig that
    cannot be used.
    """
    end = None if limit is None else monotonic() + limit
    outcomes: list[Outcome] = []
    async with doors(access) as through:
        slowest_pace = 1.0
        for condition in conditions:
            wait = _Wait(condition, say, end=end, pace=slowest_pace)
            outcomes.append(await wait.outcome(through))
            slowest_pace = wait.pace
            if not outcomes[-1].holds:
                break
        now = monotonic()
        rest = (
            _Wait(condition_left, _silent, end=now, pace=slowest_pace).outcome(through)
            for condition_left in conditions[len(outcomes) :]
        )
        outcomes += await asyncio.gather(*rest)
    return tuple(outcomes)


def _silent(text: str) -> None:
    del text


@dataclass
class _Wait:
    """The wait for one condition."""

    condition: Condition
    say: Say
    end: float | None
    """When the wait ends by this computer's clock; None where the condition's deadline decides."""
    pace: float
    """How many times slower than a quiet emulated machine the slowest machine is."""
    began: float = field(default_factory=lambda: monotonic())
    reported: str | None = None
    reported_at: float = field(default_factory=lambda: monotonic())
    measured_at: float | None = None
    moment: float = 0.0
    """The time since the last new reason, in seconds of a quiet machine."""
    news_at: float = field(default_factory=lambda: monotonic())
    looked_at: float = field(default_factory=lambda: monotonic())
    reasons: set[str] = field(default_factory=set)
    """The reasons that have appeared so far, without digits."""

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
        # Digits are left out, since they may be times. A reason that appeared before is not new: a
        # service that fails repeatedly may give the same few reasons in turn.
        if (pattern := re.sub(r"\d", "", reason)) not in self.reasons:
            if self.reasons:
                self.moment, self.news_at = 0.0, now
            self.reasons.add(pattern)
        return min((self.condition.deadline - self.moment) * self.pace, self._hard_end - now)

    @property
    def _hard_end(self) -> float:
        return self.began + HARD * self.condition.deadline

    @property
    def _news(self) -> str:
        """For how long no new reason has appeared, and how slow the machines are."""
        slow = pace.slowness(self.pace)
        return f"no news for {monotonic() - self.news_at:.0f} s{slow and f', {slow}'}"

    def _remind(self, error: str) -> None:
        now = monotonic()
        if now - self.reported_at >= REMINDER and error != self.reported:
            news = "" if self.end is not None else f" ({self._news})"
            self.say(f"{self.condition.name}: not yet, {error}{news}")
            self.reported, self.reported_at = error, now

    async def _answer(self, through: Doors) -> Unmet | None:
        seconds = ANSWER * min(self.pace, HARD)
        try:
            async with asyncio.timeout(seconds):
                return await ask(self.condition.check, through)
        except TimeoutError:
            return Unmet(f"no answer within {seconds:.0f} s", wholly=True)
