"""Shows the progress of an update: which steps are done and which are under way.

At a terminal Pulumi's own tree shows every resource, and this module adds one summary line. It
appears in the window's title and beside the stack's row, where the Pulumi program puts it. Anywhere
else Pulumi would print a line for each message; this module prints a line for each step that has
ended instead.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from lab.cache import write_atomically
from lab.process import acting
from lab.stack import Stack, offer_path
from ops.critical_path import DONE, FAILED, read_events, spans
from plan.cluster import outcomes
from preview.kinds import COMMAND, COPY, READY
from preview.urn import kind_of, name_of
from spec import resource_names
from spec.cluster import Cluster, SpecError
from spec.offer import STATUS_VARIABLE, read_offer, with_offer

COUNTED = frozenset({"create", "update", "same", "create-replacement"})
"""The engine's operations that count as a step."""

WIDTH = 100
"""Most characters of the summary line."""

REMINDER = 30.0
"""Seconds without output after which the summary line is printed."""

SAID = 40
"""Most characters of a step's message in the summary line."""

TREE_BEGINS = re.compile(r"\S.*ing \(.*\):")
TREE_LINE = re.compile(r"[ @]|$")
SECTION = re.compile(r"\S.*:")
"""Patterns of Pulumi's output: the line before its tree, a line of the tree, the line after it."""

PUBLISHED_DIAL = re.compile(r"Dial.* \d+/\w+ failed: retrying")
"""Message of the published command plugin while a machine boots (its remote/connection.go)."""


class Steps:
    """The condition of each step of an update, kept up to date from the engine's events."""

    def __init__(
        self,
        outcomes: Mapping[str, str],
        *,
        before: float | None,
        ended: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow the steps of ``outcomes``, which is resource name to a phrase for its result.

        ``before`` is the number of seconds that the last update took that changed something.
        ``ended`` is called with a line of text for each step that changed something or failed.
        """
        self._outcomes = outcomes
        self._before = before
        self._ended = ended
        self._clock = clock
        self._lock = threading.Lock()
        self._restart()

    def _restart(self) -> None:
        self._began = self._clock()
        self._since: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._done: set[str] = set()

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in an event of the engine; a prelude event resets all steps."""
        with self._lock:
            if "preludeEvent" in event:
                self._restart()
            elif diagnostic := event.get("diagnosticEvent"):
                # Output of a dynamic resource has no URN; the last step is a dynamic resource.
                self._hear(
                    self._name(diagnostic["urn"])
                    if diagnostic.get("urn")
                    else resource_names.READY,
                    diagnostic["message"],
                )
            for kind in ("resourcePreEvent", DONE, FAILED):
                metadata = event.get(kind, {}).get("metadata", {})
                if metadata.get("op") in COUNTED and (name := self._name(metadata["urn"])):
                    self._change(kind, name, metadata["op"])

    def _name(self, urn: str) -> str:
        # A machine may have the same name as the last step, so the resource type decides.
        kinds = (READY,) if (name := name_of(urn)) == resource_names.READY else (COMMAND, COPY)
        return name if name in self._outcomes and kind_of(urn) in kinds else ""

    def _hear(self, name: str, message: str) -> None:
        lines = re.sub(r"<\{%.*?%\}>", "", message).strip().splitlines()
        if name in self._since and lines:
            line = PUBLISHED_DIAL.sub("boots, no SSH yet", lines[0]).removeprefix("waiting ")
            self._said[name] = line if len(line) <= SAID else f"{line[: SAID - 1]}…"

    def _change(self, kind: str, name: str, operation: str) -> None:
        now = self._clock()
        if kind == "resourcePreEvent":
            self._since[name] = now
            return
        seconds = now - self._since.pop(name, now)
        if kind == FAILED:
            self._ended(f"{self._count()}  {name} failed after {seconds:.0f} s")
            return
        self._done.add(name)
        if operation != "same":
            outcome = self._outcomes[name]
            self._ended(f"{self._count()}  {name}: {outcome or 'done'} ({seconds:.0f} s)")

    def _count(self) -> str:
        total = len(self._outcomes)
        return f"{len(self._done):{len(str(total))}} of {total}"

    def line(self) -> str:
        """The summary line: the number of steps done, the seconds so far, the steps under way."""
        with self._lock:
            now = self._clock()
            text = f"{self._count().lstrip()} steps, {now - self._began:.0f} s"
            if self._before is not None:
                text += f" (last time {self._before:.0f} s)"
            waiting = sorted(self._since, key=self._since.__getitem__)
            for number, name in enumerate(waiting):
                output = f", {self._said[name]}" if not number and name in self._said else ""
                more = f"{name} ({now - self._since[name]:.0f} s{output})"
                joined = f"{text}{', ' if number else ', waiting for '}{more}"
                left = len(waiting) - number
                if len(joined) > WIDTH - (len(f" and {left} more") if left > 1 else 0):
                    return f"{text} and {left} more" if number else joined[:WIDTH]
                text = joined
            return text


@dataclass(frozen=True)
class Shown:
    """The functions that show an update while it runs, and how to call ``pulumi`` for that."""

    stack: Stack
    """The stack to run ``pulumi`` on; at a terminal with one more environment variable."""
    see: Callable[[Mapping[str, Any]], None]
    """Takes each of the engine's events."""
    line: Callable[[], str]
    """Returns the summary line."""
    options: tuple[str, ...] = ()
    """Options for ``pulumi up``."""
    each_line: Callable[[str], None] | None = None
    """Takes each line that ``pulumi`` prints; where it is None, they go to the terminal."""


@contextmanager
def shown(stack: Stack, cluster: Cluster, events: Path) -> Iterator[Shown]:
    """Show the progress of an update while the context lasts.

    ``events`` is the path of the event log. If the log of the previous update is there, it is moved
    aside where that update changed something and succeeded, to compare later updates with it. Else
    it is removed.
    """
    earlier = events.with_suffix(".changed.json")
    if events.is_file():
        if _whole(read_events(events)):
            events.replace(earlier)
        else:
            events.unlink()
    named = _outcomes(stack, cluster)
    took = _took(earlier)
    if is_terminal():
        status = stack.paths.state / f"status-{stack.name}"
        stack = replace(stack, extra={**(stack.extra or {}), STATUS_VARIABLE: str(status)})
        steps = Steps(named, before=took, ended=_unsaid)
        with _titled(steps, stack.name, status):
            yield Shown(stack, steps.see, steps.line)
        return
    lines = Lines()
    steps = Steps(named, before=took, ended=lines.tell)
    with acting(repeat((1.0, lambda: lines.remind(steps.line)))):
        yield Shown(stack, steps.see, steps.line, ("--non-interactive",), lines.pass_on)


def _outcomes(stack: Stack, cluster: Cluster) -> dict[str, str]:
    """Resource name to a phrase for the step's result.

    Has only the last step where the Pulumi program would refuse the cluster.
    """
    offer = offer_path(stack.paths, stack.name)
    named = {resource_names.READY: "all conditions hold"}
    with suppress(SpecError):
        named |= outcomes(with_offer(cluster, read_offer(offer) if offer.is_file() else None))
    return named


def _unsaid(line: str) -> None:
    """Print nothing: Pulumi's tree shows each step that has ended."""
    del line


def _whole(events: list[dict[str, Any]]) -> bool:
    """Whether an update changed something, had no failures and ran to its end.

    The last resource to end is the stack itself.
    """
    ends = [event[DONE]["metadata"]["type"] for event in events if DONE in event]
    return "pulumi:pulumi:Stack" in ends and bool(spans(events)) and not spans(events, FAILED)


def _took(earlier: Path) -> float | None:
    """The duration of an earlier update in seconds, from its event log; None without a log."""
    if not earlier.is_file():
        return None
    return max((span.end for span in spans(read_events(earlier)).values()), default=None)


@contextmanager
def _titled(steps: Steps, stack: str, status: Path) -> Iterator[None]:
    """Write the summary line to the window's title and to ``status`` each second.

    The Pulumi program reads the file ``status``. At the end the old title is restored and the file
    is removed.
    """
    print("\x1b[22;0t", end="", flush=True)  # makes xterm save the present title
    try:
        with acting(repeat((1.0, lambda: _show(steps.line(), stack, status)))):
            yield
    finally:
        print("\x1b[23;0t", end="", flush=True)
        status.unlink(missing_ok=True)


def _show(line: str, stack: str, status: Path) -> None:
    print(f"\x1b]0;{stack}: {line}\x07", end="", flush=True)
    write_atomically(status, line.encode())


class Lines:
    """Prints the progress of an update, line by line, where there is no terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told = clock()
        self._in_tree = False
        self._lock = threading.Lock()

    def tell(self, line: str) -> None:
        """Print a line; a lock keeps lines of several threads apart."""
        with self._lock:
            self._told = self._clock()
            print(line, flush=True)

    def remind(self, line: Callable[[], str]) -> None:
        """Print the summary line where nothing was printed for ``REMINDER`` seconds."""
        if self._clock() - self._told >= REMINDER:
            self.tell(line())

    def pass_on(self, line: str) -> None:
        """Print a line of Pulumi's output unless the line belongs to Pulumi's tree."""
        if self._in_tree and TREE_LINE.match(line):
            return
        self._in_tree = bool(TREE_BEGINS.fullmatch(line)) or (
            self._in_tree and not SECTION.fullmatch(line)
        )
        self.tell(line)


def is_terminal() -> bool:
    """Whether Pulumi shows its tree: at a terminal that can draw, and not in a CI job."""
    drawn = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return drawn and not os.environ.get("CI")
