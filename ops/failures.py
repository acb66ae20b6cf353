"""What failed in an update, in a sentence each: where, why, and after how long."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ops.critical_path import DONE, FAILED, Span, spans
from preview import kinds
from preview.urn import of_machine


def failures(events: Iterable[Mapping[str, Any]], machines: Collection[str]) -> tuple[str, ...]:
    """The sentences, the earliest first, from an update's kept events (``ops.events``).

    The seconds are those of this computer's clock: a machine's own may be wrong. What was done
    after all, as the update was begun again, has not failed.
    """
    every = tuple(events)
    done = spans(every, DONE)
    failed = [
        span
        for urn, span in spans(every, FAILED).items()
        if urn not in done or done[urn].end < span.end
    ]
    said = {one["urn"]: str(one["message"]) for one in _errors(every)}
    return tuple(
        f"{_place(span, machines)}: {said.get(span.urn, 'failed')} "
        f"(after {span.seconds:.0f} s by this computer's clock)"
        for span in sorted(failed, key=lambda span: span.end)
    )


def _errors(events: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (event["diagnosticEvent"] for event in events if "diagnosticEvent" in event)


def _place(span: Span, machines: Collection[str]) -> str:
    """A resource as people call it: what belongs to a machine bears its name first."""
    step = span.kind == kinds.COMMAND
    own = [name for name in machines if span.name.startswith(f"{name}-")]
    if not own or not (step or of_machine(span.urn)):
        return span.name
    machine = max(own, key=len)
    part = span.name.removeprefix(f"{machine}-")
    return f"{machine}, step {part}" if step else f"{machine}, {part}"
