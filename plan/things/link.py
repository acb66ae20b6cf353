"""Symbolic links, such as those to programs in the store."""

from collections.abc import Iterator, Mapping, Sequence

from plan.item import Item, Kind
from plan.model import Material, Step
from plan.records import Record, record
from plan.things.kind import ThingKind, of_kind


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for link in step.links:
        yield record("link", link.path, link.target)


def _read(records: Sequence[Record]) -> Mapping[str, str]:
    """Path to target."""
    return {path: target for (path, target), _ in of_kind("link", records)}


def _items(step: Step) -> Iterator[Item]:
    for link in step.links:
        yield Item(kind=Kind.LINK, name=link.path, wanted=f"-> {link.target}", step=step.name)


KIND = ThingKind(label="link", records=_records, read=_read, items=_items)
