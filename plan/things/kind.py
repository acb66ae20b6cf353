"""What the program knows of a kind of thing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from plan.item import Item
from plan.model import Material, Step
from plan.records import Record


@dataclass(frozen=True)
class Text:
    """A file as previews compare it."""

    content: str
    mode: str
    """Mode and owner, such as ``0600 root:root``."""


def unseen(_step: Step) -> Iterator[Item]:
    """``items`` for things that are not observed."""
    yield from ()


def nothing(_records: Sequence[Record]) -> Mapping[str, str]:
    """``read`` for things that are files, which ``read_files`` reads."""
    return {}


def no_files(_records: Sequence[Record]) -> Mapping[str, Text]:
    """``read_files`` for things that are no files."""
    return {}


@dataclass(frozen=True, kw_only=True)
class ThingKind:
    """A kind of thing that steps bring to machines."""

    label: str
    """The name of the kind in previews."""
    records: Callable[[Step, Material | None], Iterator[str]]
    """The records that bring about a step's things of this kind.

    Raises ValueError where a thing needs keys and no material is given.
    """
    items: Callable[[Step], Iterator[Item]] = unseen
    """What a machine must hold of a step's things of this kind, as far as it can be observed."""
    read: Callable[[Sequence[Record]], Mapping[str, str]] = nothing
    """The reverse of ``records``: the things that are no files, by name, each with what a preview
    shows of it."""
    read_files: Callable[[Sequence[Record]], Mapping[str, Text]] = no_files
    """The same for things that are files, by path; a preview shows their lines."""


def of_kind(kind: str, records: Sequence[Record]) -> Iterator[Record]:
    """The records of a kind, without the field that says so."""
    return ((fields[1:], text) for fields, text in records if fields[0] == kind)


def named(kind: str) -> Callable[[Sequence[Record]], Mapping[str, str]]:
    """``read`` for records that have nothing but names."""
    return lambda records: {name: "" for names, _ in of_kind(kind, records) for name in names}
