"""Artifacts of the catalogue with the digests that identify their bytes in a machine's store."""

from collections.abc import Iterable, Iterator
from functools import cache

from plan.model import Archive, Artifact
from spec.artifacts import ArtifactRow, artifact_row, image_reference, needed
from spec.cluster import Cluster, SpecError
from spec.downloads import Download, downloads
from spec.refusal import Refusal


def artifact(spec: Cluster, name: str) -> Artifact:
    """The program or image archive of this name in the version that the cluster's stack has.

    The digest comes from the first of these sources that has one: ``artifacts.digests`` of the
    spec, the official digest of the file itself, the official digest of the archive that contains
    the file. Raises SpecError where none of them has a digest.
    """
    row = artifact_row(name)
    version = row.version(spec.versions)
    official = _official(spec.architecture).get((name, row.family, version))
    digest = spec.artifacts.digests.get(f"{name}-{version}") or _own_digest(row, official)
    archive = _archive(row, official) if digest is None else None
    if digest is None and archive is None:
        raise SpecError(str(_no_digest(row, version)))
    return Artifact(
        name=name,
        version=version,
        kind=row.kind,
        sha256=digest,
        urls=_urls(spec, row, digest, official) if digest else (),
        archive=archive,
        reference=reference(spec, name) if row.image else None,
    )


def reference(spec: Cluster, name: str) -> str:
    """The reference of the image of this name in a container runtime; needs no digest."""
    return image_reference(name, artifact_row(name).version(spec.versions))


def artifacts(spec: Cluster, names: Iterable[str]) -> tuple[Artifact, ...]:
    """The programs and image archives of these names. Raises SpecError as ``artifact`` does."""
    return tuple(artifact(spec, name) for name in names)


def missing_digests(spec: Cluster) -> list[str]:
    """A sentence for each artifact that the machines need and that has no known digest."""
    return [str(_no_digest(row, row.version(spec.versions))) for row in _unknown(spec)]


def unknown_digests(spec: Cluster) -> tuple[str, ...]:
    """The same artifacts by their keys in ``artifacts.digests``: ``<name>-<version>``."""
    return tuple(f"{row.name}-{row.version(spec.versions)}" for row in _unknown(spec))


def _unknown(spec: Cluster) -> Iterator[ArtifactRow]:
    for name in needed(spec.runtime, spec.addons.enabled):
        try:
            artifact(spec, name)
        except SpecError:
            yield artifact_row(name)


def _own_digest(row: ArtifactRow, official: Download | None) -> str | None:
    """The official digest where the official file is the program itself."""
    if official is None or official.members or row.image:
        return None
    return official.sha256


def _archive(row: ArtifactRow, official: Download | None) -> Archive | None:
    # Nobody publishes the image archives: the official release of coredns contains the program.
    if official is None or row.image or row.name not in official.members:
        return None
    digest = f"sha256:{official.sha256}" if official.sha256 else f"sha512:{official.sha512}"
    return Archive(url=official.url, digest=digest, member=official.members[row.name])


def _urls(
    spec: Cluster, row: ArtifactRow, digest: str, official: Download | None
) -> tuple[str, ...]:
    """The URL in the site's mirror, then the official one where its file has these bytes."""
    mirror = spec.artifacts.mirror
    mirrored = (f"{mirror}/sha256/{digest}",) if mirror else ()
    same = official is not None and _own_digest(row, official) == digest
    return (*mirrored, official.url) if official is not None and same else mirrored


def _no_digest(row: ArtifactRow, version: str) -> Refusal:
    key = f"{row.name}-{version}"
    return Refusal(
        "artifacts.digests",
        f"has no {key} and no official digest of it is known",
        "machines could not tell its bytes from others",
        "run this through ./hardway, which knows what its store has, or write the file's sha256 to "
        f"artifacts.digests.{key}",
    )


@cache
def _official(architecture: str) -> dict[tuple[str, str, str], Download]:
    """Program, family and version to the official download that contains the program."""
    return {
        (program, row.family, row.version): row
        for row in downloads()
        if row.arch == architecture
        for program in row.programs
    }
