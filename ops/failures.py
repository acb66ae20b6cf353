"""Describes each failure of an update in a sentence: the resource, the reason and the time."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ops.critical_path import DONE, FAILED, Span, spans
from preview import kinds
from preview.urn import of_machine
from spec.resource_names import machine_of, part_of


def _unknown(machine: str | None, begin: float, end: float) -> str:
    del machine, begin, end
    return ""


def failures(
    events: Iterable[Mapping[str, Any]],
    machines: Collection[str],
    shortage: Callable[[str | None, float, float], str] = _unknown,
) -> tuple[str, ...]:
    """A sentence for each failure, the earliest first, from an update's events (``ops.events``).

    The seconds are by this computer's clock, since a machine's clock may be wrong. A resource that
    failed and succeeded later, when the update was repeated, is not a failure. ``shortage`` returns
    a phrase about the processors that a machine, or all machines, lacked between two times of the
    events; it may be empty.
    """
    every = tuple(events)
    first = float(every[0]["timestamp"]) if every else 0.0

    def lacked(span: Span) -> str:
        phrase = shortage(_machine(span, machines), first + span.start, first + span.end)
        return f"; {phrase}" if phrase else ""

    done = spans(every, DONE)
    failed = [
        span
        for urn, span in spans(every, FAILED).items()
        if urn not in done or done[urn].end < span.end
    ]
    messages = {error["urn"]: str(error["message"]) for error in _errors(every)}
    return tuple(
        f"{_place(span, machines)}: {messages.get(span.urn, 'failed')} "
        f"(after {span.seconds:.0f} s by this computer's clock{lacked(span)})"
        for span in sorted(failed, key=lambda span: span.end)
    )


def _errors(events: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (event["diagnosticEvent"] for event in events if "diagnosticEvent" in event)


def _place(span: Span, machines: Collection[str]) -> str:
    """A readable name of a resource: its machine's name first, if it belongs to a machine."""
    machine = _machine(span, machines)
    if machine is None:
        return span.name
    part = part_of(span.name, machine)
    return f"{machine}, step {part}" if span.kind == kinds.COMMAND else f"{machine}, {part}"


def _machine(span: Span, machines: Collection[str]) -> str | None:
    """The machine that a resource belongs to, or None."""
    return (
        machine_of(span.name, machines)
        if span.kind == kinds.COMMAND or of_machine(span.urn)
        else None
    )
