"""Files with secrets: overwritten before they are removed.

A step's secret files get their places together, since a service may read a key and its certificate
at any moment.
"""

from collections.abc import Iterator, Mapping, Sequence

from certs.encryption import TURNED
from plan.item import AS_KEPT, Item, Kind, described
from plan.model import AllEncryptionKeys, Encryption, Material, SecretFile, Step
from plan.records import Record, content, record
from plan.things.file import file_record, texts
from plan.things.kind import Text, ThingKind


def _records(step: Step, material: Material | None) -> Iterator[str]:
    turning = []
    for secret in step.secret_files:
        if material is None:
            raise ValueError(f"the step {step.name} needs keys to be rendered")
        if step.encryption and secret.path == step.encryption.path:
            whole = material(AllEncryptionKeys())
            if TURNED.match(whole):
                turning.append(_encrypts(step.encryption, secret, whole))
                continue
        yield file_record("secret", secret, material(secret.source))
    if step.secret_files:
        yield record("in_place")
    yield from turning


def _encrypts(encryption: Encryption, secret: SecretFile, text: str) -> str:
    """The record of a file that changes only together with those of other machines."""
    fields = (
        *("encrypts", f"{secret.mode:04o}", secret.owner, secret.path),
        *(encryption.unit, encryption.name, encryption.api, *encryption.api_trust),
        *(encryption.program, ",".join(encryption.etcd), *encryption.etcd_trust),
    )
    return record(*fields, *encryption.planes) + content(text)


def _items(step: Step) -> Iterator[Item]:
    for secret in step.secret_files:
        wanted = described(AS_KEPT, secret.mode, secret.owner)
        yield Item(kind=Kind.FILE, name=secret.path, wanted=wanted, step=step.name)


def _read_files(records: Sequence[Record]) -> Mapping[str, Text]:
    turning = [(fields[:4], text) for fields, text in records if fields[0] == "encrypts"]
    return {**texts("secret", records), **texts("encrypts", turning)}


KIND = ThingKind(label="secret file", records=_records, items=_items, read_files=_read_files)
