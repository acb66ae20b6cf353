"""The critical path of an update: the chain of resources that determined its duration."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preview.urn import kind_of, name_of

GROUPS = ("hardway:", "pulumi:pulumi:Stack")
"""Prefixes of the types of resources that only group others.

They are ignored: the stack itself ends after all other resources and has no dependencies by name.
"""


@dataclass(frozen=True)
class Span:
    """The time in which a resource was created, changed or deleted.

    Times are in seconds since the update began.
    """

    urn: str
    start: float
    end: float

    @property
    def name(self) -> str:
        return name_of(self.urn)

    @property
    def kind(self) -> str:
        """The type token; needed since a machine may have the same name as another resource."""
        return kind_of(self.urn)

    @property
    def seconds(self) -> float:
        return self.end - self.start


NO_CHANGE = frozenset({"same", "refresh", "replace", "delete-replaced"})
"""Operations of the engine that do not bring a resource to its new state. Of those that replace a
resource, the creation alone does."""

DONE, FAILED = "resOutputsEvent", "resOpFailedEvent"
"""The engine's events at the end of an operation on a resource: success and failure."""


def spans(events: Iterable[Mapping[str, Any]], ended: str = DONE) -> dict[str, Span]:
    """URN to time span, from the engine's event log (``--event-log``).

    Has only the resources that changed and whose operation ended with the event ``ended``. The
    times in the log are whole seconds.
    """
    started: dict[str, float] = {}
    ended_spans: dict[str, Span] = {}
    first: float | None = None
    for event in events:
        at = float(event["timestamp"])
        first = at if first is None else first
        before = event.get("resourcePreEvent", {}).get("metadata")
        after = event.get(ended, {}).get("metadata")
        if before and before["op"] not in NO_CHANGE and not before["type"].startswith(GROUPS):
            started[before["urn"]] = at - first
        if after and after["op"] not in NO_CHANGE and after["urn"] in started:
            urn = after["urn"]
            ended_spans[urn] = Span(urn, started[urn], at - first)
    return ended_spans


def critical_path(
    spans_by_urn: Mapping[str, Span], dependencies: Mapping[str, Iterable[str]]
) -> tuple[Span, ...]:
    """The chain of dependencies, in order of time, that ends with the resource that ended last.

    Each member of the chain is the dependency of the next one that ended last. ``dependencies`` has
    the resources that are left. The engine deletes others once all that changes is done.
    """
    path: list[Span] = []
    urn = max(spans_by_urn, key=lambda name: spans_by_urn[name].end, default=None)
    while urn is not None:
        path.insert(0, spans_by_urn[urn])
        began = spans_by_urn[urn].start
        before = [
            name
            for name in dependencies.get(urn, dependencies)
            if name in spans_by_urn and spans_by_urn[name].end <= began
        ]
        urn = max(before, key=lambda name: spans_by_urn[name].end, default=None)
    return tuple(path)


def rows(path: Sequence[Span]) -> list[tuple[str, ...]]:
    """A table row for each span: name, seconds, share of the whole, start and end."""
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
    """The events of a log, up to a last line that an interrupted run may have left incomplete."""
    events = []
    for line in log.read_text().splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def dependencies(state: Mapping[str, Any]) -> dict[str, list[str]]:
    """URN to the URNs of its dependencies, from ``pulumi stack export``."""
    resources = state["deployment"].get("resources") or []
    return {resource["urn"]: resource.get("dependencies", []) for resource in resources}
