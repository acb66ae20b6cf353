"""Directories: removed once nobody else has put anything into them."""

from collections.abc import Iterator, Mapping, Sequence

from plan.item import Item, Kind
from plan.model import Material, Step
from plan.records import Record, record
from plan.things.kind import ThingKind, of_kind


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for directory in step.directories:
        yield record("directory", f"{directory.mode:04o}", directory.owner, directory.path)


def _read(records: Sequence[Record]) -> Mapping[str, str]:
    """Path to mode and owner."""
    return {path: f"{mode} {owner}" for (mode, owner, path), _ in of_kind("directory", records)}


def _items(step: Step) -> Iterator[Item]:
    for directory in step.directories:
        wanted = f"{directory.mode:04o} {directory.owner}"
        yield Item(kind=Kind.DIRECTORY, name=directory.path, wanted=wanted, step=step.name)


KIND = ThingKind(label="directory", records=_records, read=_read, items=_items)
