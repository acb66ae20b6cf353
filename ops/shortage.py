"""Whether machines get the processors that they ask for while an update works on them.

It is said before they run, once if it has changed while they do, and beside each step that failed:
a wait that gave up on a starving machine says little of the machine.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, repeat

from lab import processors
from lab.process import acting
from lab.processors import Got, Look, Shares

BEGINS = 1.0
"""Seconds of the first measurement, which says whether there is room for the machines."""

INTERVAL = 15.0
"""Seconds of each of the others."""

SILENCE = 60.0
"""Seconds between two lines."""


@dataclass(frozen=True)
class _Window:
    begin: float
    end: float
    machines: Mapping[str, Got]


class Shortage:
    """What the machines of an update get and ask for."""

    def __init__(
        self,
        processors_of: Mapping[str, int],
        find: Callable[[], Mapping[str, int]],
        say: Callable[[str], None],
        *,
        look: Callable[[Mapping[str, int]], Look] = processors.look,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Measure machines; ``processors_of`` says how many each has, ``find`` its process.

        ``clock`` is that of the engine's events.
        """
        self._processors_of = processors_of
        self._find = find
        self._say = say
        self._look = look
        self._clock = clock
        self._windows: list[_Window] = []
        self._told: float | None = None
        """The part that the machines got when it was said last; none where all was well."""
        self._told_at = float("-inf")
        self._begin()

    def _begin(self) -> None:
        self._machines = dict(self._find())
        self._before = self._look(self._machines)
        self._began = self._clock()

    def _measure(self) -> Shares:
        """What became of the processors since the last measurement."""
        shares = processors.between(
            self._before, self._look(self._machines), self._machines.values()
        )
        self._windows.append(_Window(self._began, self._clock(), shares.machines))
        self._begin()
        return shares

    def watched(self) -> AbstractContextManager[None]:
        """Measure in a thread of its own while the context lasts."""
        return acting(chain([(BEGINS, self.first)], repeat((INTERVAL, self.next))))

    def first(self) -> None:
        """Say whether this computer has room for those machines that do not run yet."""
        asked = sum(n for name, n in self._processors_of.items() if name not in self._machines)
        if said := processors.crowded(self._measure(), asked):
            self._say(f"This computer is busy: {said}. The update works and takes longer.")

    def next(self) -> None:
        """Say what the machines get, where they starve or do no longer, and that has changed."""
        shares = self._measure()
        if self._clock() - self._told_at < SILENCE:
            return
        together = shares.together
        part = round(together.got / together.asked, 1) if together.starves else None
        if part == self._told:
            return
        self._told, self._told_at = part, self._clock()
        self._say(
            f"This computer is {'busy' if shares.taken else 'small'}: {processors.starved(shares)}."
            if together.starves
            else "The machines get the processors that they ask for again."
        )

    def during(self, machine: str | None, begin: float, end: float) -> str:
        """What a machine, or all together, got in a time, where that was too little; else empty."""
        got = asked = seconds = 0.0
        for window in self._windows:
            part = min(end, window.end) - max(begin, window.begin)
            if part <= 0:
                continue
            seconds += part
            for name, one in window.machines.items():
                if machine in (None, name):
                    got += one.got * part
                    asked += one.asked * part
        whole = Got(got / seconds, asked / seconds) if seconds else Got(0, 0)
        who, asker = (machine, "it") if machine else ("the machines", "they")
        return f"{who} got {whole} that {asker} asked for" if whole.starves else ""
