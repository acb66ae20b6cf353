"""Debian packages: installed where they are missing, and left on the machine."""

from collections.abc import Iterator

from plan.item import Item, Kind
from plan.model import Material, Step
from plan.records import record
from plan.things.kind import ThingKind, named


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    if step.packages:
        yield record("packages", *step.packages)


def _items(step: Step) -> Iterator[Item]:
    for name in step.packages:
        yield Item(kind=Kind.PACKAGE, name=name, wanted="installed", step=step.name)


KIND = ThingKind(label="package", records=_records, read=named("packages"), items=_items)
