"""Files with secrets: overwritten before they are removed.

A step's secret files get their places together, since a service may read a key and its certificate
at any moment.
"""

from collections.abc import Iterator, Mapping, Sequence

from plan.item import AS_KEPT, Item, Kind, described
from plan.model import Material, Step
from plan.records import Record, record
from plan.things.file import file_record, texts
from plan.things.kind import Text, ThingKind


def _records(step: Step, material: Material | None) -> Iterator[str]:
    for secret in step.secret_files:
        if material is None:
            raise ValueError(f"the step {step.name} needs keys to be rendered")
        yield file_record("secret", secret, material(secret.source))
    if step.secret_files:
        yield record("in_place")


def _items(step: Step) -> Iterator[Item]:
    for secret in step.secret_files:
        wanted = described(AS_KEPT, secret.mode, secret.owner)
        yield Item(kind=Kind.FILE, name=secret.path, wanted=wanted, step=step.name)


def _read_files(records: Sequence[Record]) -> Mapping[str, Text]:
    return texts("secret", records)


KIND = ThingKind(label="secret file", records=_records, items=_items, read_files=_read_files)
