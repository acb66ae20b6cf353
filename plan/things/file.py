"""Files without secrets, and what all files have in common."""

from collections.abc import Iterator, Mapping, Sequence

from plan.item import Item, Kind, described, digest
from plan.model import File, Material, SecretFile, Step
from plan.records import Record, content, record
from plan.things.kind import Text, ThingKind, of_kind


def file_record(kind: str, file: File | SecretFile, text: str) -> str:
    """The record of a file with this content."""
    return record(kind, f"{file.mode:04o}", file.owner, file.path) + content(text)


def texts(kind: str, records: Sequence[Record]) -> Mapping[str, Text]:
    """Path to file, of the records of a kind."""
    return {
        path: Text(text, f"{mode} {owner}") for (mode, owner, path), text in of_kind(kind, records)
    }


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for file in step.files:
        yield file_record("file", file, file.content)


def _items(step: Step) -> Iterator[Item]:
    for file in step.files:
        wanted = described(f"sha256:{digest(file.content)}", file.mode, file.owner)
        yield Item(kind=Kind.FILE, name=file.path, wanted=wanted, step=step.name)


def _read_files(records: Sequence[Record]) -> Mapping[str, Text]:
    return texts("file", records)


KIND = ThingKind(label="file", records=_records, items=_items, read_files=_read_files)
