"""Units of the distribution that must not run; unmasked when that is over, but not started."""

from collections.abc import Iterator

from plan.item import Item, Kind
from plan.model import Material, Step
from plan.records import record
from plan.things.kind import ThingKind, named


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    if step.masked:
        yield record("masked", *step.masked)


def _items(step: Step) -> Iterator[Item]:
    for name in step.masked:
        yield Item(kind=Kind.MASKED, name=name, wanted="masked, stopped", step=step.name)


KIND = ThingKind(label="masked service", records=_records, read=named("masked"), items=_items)
