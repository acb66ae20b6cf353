"""Programs and image archives in the machine's content-addressed store.

They stay there: nothing runs them by their path in the store but links and units, which go.
"""

from collections.abc import Iterator, Mapping, Sequence

from plan.item import AS_VERIFIED, Item, Kind, described
from plan.model import Artifact, Material, Step
from plan.records import Record, record
from plan.things.kind import ThingKind, of_kind


def _records(step: Step, _material: Material | None) -> Iterator[str]:
    for artifact in step.artifacts:
        mode = f"{artifact.mode:04o}"
        if artifact.sha256:
            yield record("artifact", artifact.name, artifact.sha256, mode, *artifact.urls)
            continue
        assert artifact.archive is not None
        archive = artifact.archive
        yield record("archived", artifact.name, archive.digest, archive.member, mode, archive.url)
    if any(artifact.sha256 is None for artifact in step.artifacts):
        yield record("unpacked")


def _read(records: Sequence[Record]) -> Mapping[str, str]:
    """Name to digest, prefixed with the digest's algorithm."""
    return {name: f"sha256:{digest}" for (name, digest, *_), _ in of_kind("artifact", records)} | {
        name: digest for (name, digest, *_), _ in of_kind("archived", records)
    }


def _items(step: Step) -> Iterator[Item]:
    for artifact in step.artifacts:
        content = f"sha256:{artifact.sha256}" if artifact.sha256 else AS_VERIFIED
        yield Item(
            kind=Kind.ARTIFACT,
            name=f"{artifact.name} {artifact.version}",
            wanted=described(content, artifact.mode, "root:root"),
            step=step.name,
            path=artifact.store_path,
            mark=_mark(artifact),
        )


def _mark(artifact: Artifact) -> str:
    """The name of the note in the store's directory ``verified`` (``scripts/prelude.sh``)."""
    if artifact.sha256:
        return artifact.sha256
    assert artifact.archive is not None
    return f"{artifact.archive.digest.partition(':')[2]}.{artifact.name}"


KIND = ThingKind(label="artifact", records=_records, read=_read, items=_items)
