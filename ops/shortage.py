"""Reports whether machines get the processors that they ask for while an update works on them.

There is a message before the machines run where this computer is busy, a message each time the
shortage changes while they run, and a note beside each step that failed. The note matters because a
time-out on a starving machine does not mean that the machine is faulty.
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
"""Duration in seconds of the first measurement, which finds out whether machines have room."""

INTERVAL = 15.0
"""Duration in seconds of each further measurement."""

SILENCE = 60.0
"""Least number of seconds between two messages of ``Shortage.next``."""


@dataclass(frozen=True)
class _Window:
    begin: float
    end: float
    machines: Mapping[str, Got]


class Shortage:
    """Measures the processors that the machines of an update get and ask for."""

    def __init__(
        self,
        processors_of: Mapping[str, int],
        find: Callable[[], Mapping[str, int]],
        say: Callable[[str], None],
        *,
        look: Callable[[Mapping[str, int]], Look] = processors.look,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the first measurement.

        ``processors_of`` is machine name to its number of processors. ``find`` returns machine name
        to PID for the machines that run. ``clock`` must be the clock of the engine's events.
        """
        self._processors_of = processors_of
        self._find = find
        self._say = say
        self._look = look
        self._clock = clock
        self._windows: list[_Window] = []
        self._told: float | None = None
        """The share of their demand that the machines got at the last message of ``next``.

        None before the first message, and where the last message said that all is well again.
        """
        self._told_at = float("-inf")
        self._begin()

    def _begin(self) -> None:
        self._machines = dict(self._find())
        self._before = self._look(self._machines)
        self._began = self._clock()

    def _measure(self) -> Shares:
        """Compute the shares since the last measurement, keep them, and begin the next one."""
        shares = processors.between(
            self._before, self._look(self._machines), self._machines.values()
        )
        self._windows.append(_Window(self._began, self._clock(), shares.machines))
        self._begin()
        return shares

    def watched(self) -> AbstractContextManager[None]:
        """Measure in a separate thread while the context lasts."""
        return acting(chain([(BEGINS, self.first)], repeat((INTERVAL, self.next))))

    def first(self) -> None:
        """Print a message where this computer lacks room for the machines that do not run yet."""
        asked = sum(n for name, n in self._processors_of.items() if name not in self._machines)
        if reason := processors.crowded(self._measure(), asked):
            self._say(f"This computer is busy: {reason}. The update works and takes longer.")

    def next(self) -> None:
        """Print a message where the machines begin or cease to starve, or get another share."""
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
        """A phrase where a machine starved between two times, else the empty string.

        Where ``machine`` is None, the phrase is about all machines together.
        """
        got = asked = seconds = 0.0
        for window in self._windows:
            part = min(end, window.end) - max(begin, window.begin)
            if part <= 0:
                continue
            seconds += part
            for name, share in window.machines.items():
                if machine in (None, name):
                    got += share.got * part
                    asked += share.asked * part
        whole = Got(got / seconds, asked / seconds) if seconds else Got(0, 0)
        who, asker = (machine, "it") if machine else ("the machines", "they")
        return f"{who} got {whole} that {asker} asked for" if whole.starves else ""
