"""What an update waited for: the chain of resources without which it would have ended earlier."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preview.urn import kind_of, name_of

GROUPS = ("hardway:", "pulumi:pulumi:Stack")
"""How the types of resources begin that only group others: the stack itself ends after all of them
and waits for none by name."""


@dataclass(frozen=True)
class Span:
    """A resource that was created, changed or deleted, in seconds since the update began."""

    urn: str
    start: float
    end: float

    @property
    def name(self) -> str:
        return name_of(self.urn)

    @property
    def kind(self) -> str:
        """The type token: a machine may be called as any other resource is."""
        return kind_of(self.urn)

    @property
    def seconds(self) -> float:
        return self.end - self.start


DONE, FAILED = "resOutputsEvent", "resOpFailedEvent"
"""The engine's events with which what it does to a resource ends."""


def spans(events: Iterable[Mapping[str, Any]], ended: str = DONE) -> dict[str, Span]:
    """By URN, from the engine's event log (``--event-log``), whose times are whole seconds.

    Only what ended with the event ``ended``.
    """
    started: dict[str, float] = {}
    found: dict[str, Span] = {}
    first: float | None = None
    for event in events:
        at = float(event["timestamp"])
        first = at if first is None else first
        before = event.get("resourcePreEvent", {}).get("metadata")
        after = event.get(ended, {}).get("metadata")
        # What was only asked was not changed.
        asked = before and before["op"] in ("same", "refresh")
        if before and not asked and not before["type"].startswith(GROUPS):
            started[before["urn"]] = at - first
        if after and after["urn"] in started:
            urn = after["urn"]
            found[urn] = Span(urn, started[urn], at - first)
    return found


def critical_path(
    found: Mapping[str, Span], dependencies: Mapping[str, Iterable[str]]
) -> tuple[Span, ...]:
    """From the beginning to what ended last; each was started when the one before it had ended."""
    path: list[Span] = []
    urn = max(found, key=lambda one: found[one].end, default=None)
    while urn is not None:
        path.insert(0, found[urn])
        before = [one for one in dependencies.get(urn, ()) if one in found]
        urn = max(before, key=lambda one: found[one].end, default=None)
    return tuple(path)


def rows(path: Sequence[Span]) -> list[tuple[str, ...]]:
    """For people, of each: its name, its seconds, its share of the whole, and when it was."""
    whole = path[-1].end if path else 0.0
    return [
        (
            span.name,
            f"{span.seconds:.0f}",
            f"{span.seconds / whole:.0%}" if whole else "",
            f"{span.start:.0f}",
            f"{span.end:.0f}",
        )
        for span in path
    ]


def read_events(log: Path) -> list[dict[str, Any]]:
    """The events of a log, which a run that was cut off may have ended within a line."""
    events = []
    for line in log.read_text().splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def dependencies(state: Mapping[str, Any]) -> dict[str, list[str]]:
    """URN to the URNs that it waited for, from ``pulumi stack export``."""
    resources = state["deployment"].get("resources") or []
    return {one["urn"]: one.get("dependencies", []) for one in resources}
