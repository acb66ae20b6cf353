"""Files with secrets: overwritten before they are removed.

A step's secret files get their places together, since a service may read a key and its certificate
at any moment.
"""

from collections.abc import Iterator, Mapping, Sequence

from certs.encryption import TURNED
from plan.item import AS_KEPT, Item, Kind, described
from plan.model import (
    AllEncryptionKeys,
    AllServiceAccountPairs,
    Material,
    SecretFile,
    Step,
    Walk,
)
from plan.records import Record, content, record
from plan.things.file import file_record, texts
from plan.things.kind import Text, ThingKind


def _records(step: Step, material: Material | None) -> Iterator[str]:
    if step.secret_files and material is None:
        raise ValueError(f"the step {step.name} needs keys to be rendered")
    turning = dict(_turning(step, material)) if material else {}
    walking = {path for paths in turning for path in paths}
    for secret in step.secret_files:
        if material and secret.path not in walking:
            yield file_record("secret", secret, material(secret.source))
    if step.secret_files:
        yield record("in_place")
    if step.walk and turning:
        yield _walks(step.walk)
        yield from turning.values()


def _turning(step: Step, material: Material) -> Iterator[tuple[tuple[str, ...], str]]:
    """The paths of files that change only together with those of other machines, and their record.

    Nothing for keys that have not turned over yet.
    """
    walk = step.walk
    if walk is None:
        return
    files = {file.path: file for file in step.secret_files}
    for kind, paths, source, rest in (
        ("encrypts", (walk.encryption,), AllEncryptionKeys(), (walk.api, *walk.api_trust)),
        ("signs", (walk.signing, walk.checking), AllServiceAccountPairs(), (str(walk.replaced),)),
    ):
        if TURNED.match(text := material(source)):
            places = (field for path in paths for field in _place(files[path]))
            yield paths, record(kind, *places, *rest) + content(text)


def _place(file: SecretFile) -> tuple[str, str, str]:
    return f"{file.mode:04o}", file.owner, file.path


def _walks(walk: Walk) -> str:
    """The record with what all keys that turn over have in common."""
    etcd = (walk.program, ",".join(walk.etcd), *walk.etcd_trust)
    return record("walks", walk.unit, walk.name, *etcd, *walk.planes)


def _items(step: Step) -> Iterator[Item]:
    for secret in step.secret_files:
        wanted = described(AS_KEPT, secret.mode, secret.owner)
        yield Item(kind=Kind.FILE, name=secret.path, wanted=wanted, step=step.name)


def _read_files(records: Sequence[Record]) -> Mapping[str, Text]:
    files = {"encrypts": (slice(1, 4),), "signs": (slice(1, 4), slice(4, 7))}
    turning = [
        (["turning", *fields[file]], text)
        for fields, text in records
        for file in files.get(fields[0], ())
    ]
    return {**texts("secret", records), **texts("turning", turning)}


KIND = ThingKind(label="secret file", records=_records, items=_items, read_files=_read_files)
