"""System users with a group of the same name: made where they are missing, and left there."""

from collections.abc import Iterator

from plan.model import Material, Step
from plan.records import record
from plan.things.kind import ThingKind, named


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for name in step.users:
        yield record("user", name)


KIND = ThingKind(label="user", records=_records, read=named("user"))
