"""The artifact store: the programs and image archives in the cache.

Each artifact comes from the first of these sources that has it: the store itself, the official
download with its pinned digest, a build from the recipe. The store checks every byte of an artifact
before use. It reports a damaged artifact and makes it anew.
"""

import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lab import oci
from lab.architecture import architecture
from lab.cache import Cache, Receipt, digest_of, sha256_of
from lab.download import Damaged, SourceUnreachable, fetch, part_of
from lab.gobuild import build
from lab.manifest import ManifestArtifact, artifacts, downloads_key, official_downloads, recipe_of
from lab.problem import Problem, full_disk_told
from lab.progress import Progress
from lab.published import FACT, fact_of, note, published_of, said_downloads
from lab.wheel import fetch_wheel
from spec.artifacts import DEFAULT_ADDONS, Runtime
from spec.downloads import Architecture, Download, downloads_of
from spec.versions import Versions


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact in the store."""

    name: str
    version: str
    architecture: str
    digest: str
    path: Path
    origin: str
    source: str


@dataclass(frozen=True)
class StoreFinding:
    """A file in the store that is missing, damaged or unreadable."""

    name: str
    belongs_to: str
    fault: str
    """``missing``, ``damaged`` or ``unreadable`` (a record)."""

    def __str__(self) -> str:
        return f"{self.name} ({self.belongs_to}) is {self.fault}"


@dataclass(frozen=True)
class Verification:
    """The result of a check of every byte in the store."""

    files: int
    size: int
    findings: tuple[StoreFinding, ...]


def _own_architecture() -> Architecture:
    return "arm64" if architecture() == "arm64" else "amd64"


def source_keys(family: str, version: str) -> list[str]:
    """The receipt keys under which the store may have a family's programs, preferred one first."""
    rows = official_downloads(family, version, architecture())
    recipe = recipe_of(family, version)
    return [
        *([downloads_key(rows)] if rows else []),
        *([recipe.key(architecture())] if recipe else []),
    ]


def key_of(artifact: ManifestArtifact, source_key: str) -> str:
    """The receipt key of an artifact; ``source_key`` is the key of its family's receipt.

    An image archive has its own receipt, which depends on that of its program.
    """
    if not artifact.image:
        return source_key
    image = artifact.image
    more = [part for part in (image.stop_signal, image.root) if part]
    return digest_of(["image", oci.FORMAT, artifact.reference, image.user, *more, source_key])


def obtain(family: str, version: str, cache: Cache, progress: Progress, logs: Path) -> Receipt:
    """A family of programs for this host's architecture, from the first source that has it.

    Safe when several runs call it at once and when a run is killed. Raises a Problem where no
    source is known, no source is reachable (SourceUnreachable), a download is Damaged, its
    publisher states another digest than pins.yaml, or the disk is full. After a damaged download
    the function does not go on silently with the next source.
    """
    title = f"{family} {version}"
    for key in source_keys(family, version):
        if receipt := cache.usable(key, title, progress.say):
            return receipt
    rows = downloads_of(family, version, architecture())
    published = published_of(family, version, architecture())
    recipe = recipe_of(family, version)
    if rows or published:
        try:
            rows = rows or said_downloads(published, cache, progress)
            receipt = _download(rows, title, cache, progress, logs)
        except SourceUnreachable as problem:
            if recipe is None:
                raise SourceUnreachable(
                    f"{title} cannot be downloaded and there is no recipe for it: {problem.what}",
                    "check the network and its proxy, or import a bundle that was exported "
                    "elsewhere (./hardway artifacts import FILE)",
                ) from problem
            for row in rows:
                part_of(_place(cache, row)).unlink(missing_ok=True)
            progress.say(f"{title}: {problem.what}; taking the next source")
        else:
            if published:
                note(rows, cache, progress)
            return receipt
    if recipe:
        return build(recipe, cache, progress, logs)
    raise Problem(
        f"no source is known for {title} on {architecture()}",
        "add a download to spec/official.yaml or a recipe to lab/recipes/recipes.yaml",
    )


class Store:
    """The artifacts for this host's architecture."""

    def __init__(self, cache: Cache, progress: Progress, logs: Path) -> None:
        self.cache = cache
        self.architecture: Architecture = _own_architecture()
        self._progress = progress
        self._logs = logs

    def recorded(self, artifact: ManifestArtifact) -> Receipt | None:
        """The artifact's receipt if the store has the artifact, else None; reads no bytes of it."""
        for key in self.keys(artifact):
            receipt = self.cache.receipt(key)
            if receipt and self.cache.blob(receipt.files.get(artifact.name, "-")).is_file():
                return receipt
        return None

    def find(self, artifact: ManifestArtifact) -> StoredArtifact | None:
        """The artifact if the store has it, else None; does not read its bytes."""
        receipt = self.recorded(artifact)
        return self._stored(artifact, receipt) if receipt else None

    def resolve(self, artifact: ManifestArtifact) -> StoredArtifact:
        """The artifact with every byte checked; fetched or built where the store lacks it."""
        return self._gather((artifact,))[0]

    def fetch(
        self,
        versions: Versions,
        runtime: Runtime = "containerd",
        addons: Collection[str] = DEFAULT_ADDONS,
    ) -> tuple[StoredArtifact, ...]:
        """All artifacts that this runtime and these add-ons need, with every byte checked.

        Fetches or builds those that the store lacks.
        """
        return self._gather(artifacts(versions, self.architecture, runtime, addons))

    def has(
        self,
        versions: Versions,
        runtime: Runtime = "containerd",
        addons: Collection[str] = DEFAULT_ADDONS,
    ) -> bool:
        """Whether the store has all artifacts that ``fetch`` returns; does not read their bytes."""
        wanted = artifacts(versions, self.architecture, runtime, addons)
        return all(self.find(artifact) for artifact in wanted)

    def _gather(self, wanted: Iterable[ManifestArtifact]) -> tuple[StoredArtifact, ...]:
        """Resolve artifacts; the programs of one family are obtained together."""
        families: dict[tuple[str, str], Receipt] = {}
        stored = []
        for artifact in wanted:
            if artifact.image:
                receipt = self._image(artifact)
            else:
                family = artifact.family, artifact.version
                if family not in families:
                    families[family] = self._obtain(artifact)
                receipt = self._with(artifact, families[family])
            stored.append(self._stored(artifact, receipt))
        return tuple(stored)

    def keys(self, artifact: ManifestArtifact) -> list[str]:
        """The receipt keys under which the store may have the artifact, preferred one first."""
        return [key_of(artifact, key) for key in source_keys(artifact.family, artifact.version)]

    def verify(self) -> Verification:
        """Read every byte of the store, toolchain included; report damaged and missing files."""
        cache = self.cache
        blobs = sorted((cache.root / "blobs").glob("??/*"))
        whole: dict[str, bool] = {}
        size = 0
        with self._progress.task("checking every byte of the store") as task:
            for number, blob in enumerate(blobs, 1):
                task.note(f"{number} of {len(blobs)} files, {size // 2**20} MiB")
                whole[blob.name] = sha256_of(blob) == blob.name
                size += blob.stat().st_size
        recorded: set[str] = set()
        findings = []
        for receipt in cache.receipts():
            recorded.update(receipt.files.values())
            for name, digest in receipt.files.items():
                if not whole.get(digest, False):
                    fault = "damaged" if digest in whole else "missing"
                    findings.append(StoreFinding(name, receipt.source, fault))
        for digest in whole.keys() - recorded:
            if not whole[digest]:
                findings.append(StoreFinding(digest, "no record", "damaged"))
        for record in sorted((cache.root / "receipts").glob("*.json")):
            if cache.receipt(record.stem) is None:
                findings.append(StoreFinding(record.name, "a record", "unreadable"))
        return Verification(len(blobs), size, tuple(findings))

    # -- one artifact --------------------------------------------------------------------------

    def _obtain(self, artifact: ManifestArtifact) -> Receipt:
        family, version = artifact.family, artifact.version
        return obtain(family, version, self.cache, self._progress, self._logs)

    @staticmethod
    def _with(artifact: ManifestArtifact, receipt: Receipt) -> Receipt:
        if artifact.name not in receipt.files:
            raise Problem(
                f"{receipt.source} gives no {artifact.name}",
                "correct its programs in lab/recipes/recipes.yaml or spec/official.yaml",
            )
        return receipt

    def _image(self, artifact: ManifestArtifact) -> Receipt:
        cache, title = self.cache, f"image archive {artifact}"
        for key in self.keys(artifact):
            if receipt := cache.usable(key, title, self._progress.say):
                return receipt
        assert artifact.image is not None
        program = self._with(artifact, self._obtain(artifact))
        key = key_of(artifact, program.key)
        with cache.lock(key), full_disk_told(cache.root), cache.work() as scratch:
            archive = scratch / artifact.name
            oci.write_archive(
                cache.blob(program.files[artifact.name]),
                archive,
                name=artifact.name,
                reference=artifact.reference,
                architecture=artifact.architecture,
                user=artifact.image.user,
                stop_signal=artifact.image.stop_signal,
                environment=artifact.image.root,
            )
            receipt = Receipt(
                key=key,
                files={artifact.name: cache.add(archive)},
                origin=program.origin,
                source=f"image archive of {program.source}",
                facts={"family": artifact.family, "version": artifact.version}
                | {name: value for name, value in program.facts.items() if name == FACT},
            )
            cache.record(receipt)
        return receipt

    def _stored(self, artifact: ManifestArtifact, receipt: Receipt) -> StoredArtifact:
        digest = receipt.files[artifact.name]
        return StoredArtifact(
            name=artifact.name,
            version=artifact.version,
            architecture=artifact.architecture,
            digest=digest,
            path=self.cache.blob(digest),
            origin=receipt.origin,
            source=receipt.source,
        )


# -- official downloads ------------------------------------------------------------------------


def _download(
    rows: tuple[Download, ...], title: str, cache: Cache, progress: Progress, logs: Path
) -> Receipt:
    """Fetch and open a family's downloads. Raises SourceUnreachable or Damaged."""
    key = downloads_key(rows)
    with (
        cache.lock(key, lambda: progress.say(f"another run fetches {title}: waiting for it")),
        full_disk_told(cache.root),
    ):
        if receipt := cache.usable(key, title, progress.say):
            return receipt
        cache.room(1000, f"downloading {title}")
        files: dict[str, str] = {}
        for row in rows:
            if not row.members and row.sha256 and cache.intact(row.sha256):
                files[row.name] = row.sha256  # from a run that was interrupted at a later row
                continue
            download = _place(cache, row)
            with progress.task(f"downloading {row.name} {row.version}") as task:
                if row.requirement:
                    fetch_wheel(row, download, log=logs / "pip.log", task=task)
                else:
                    fetch(row.url, download, sha256=row.sha256, sha512=row.sha512, task=task)
            with cache.work() as scratch:
                for program, file in _opened(row, download, scratch):
                    files[program] = cache.add(file, executable=True)
            download.unlink(missing_ok=True)
        receipt = Receipt(
            key=key,
            files=files,
            origin="official",
            source=rows[0].url if len(rows) == 1 else posixpath.dirname(rows[0].url),
            facts={"family": rows[0].family, "version": rows[0].version, **fact_of(rows)},
        )
        cache.record(receipt)
        return receipt


def _place(cache: Cache, row: Download) -> Path:
    """The path of a download. It depends only on the digest, so the next run resumes there."""
    return cache.root / "downloads" / (row.sha256 or row.sha512 or "")


def _opened(row: Download, file: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each program in a download: the file itself, or the row's archive members.

    Only the bytes of regular files are read from an archive. So names, links and modes in an
    archive have no effect. Raises Damaged where the archive cannot be opened or lacks a member.
    """
    if not row.members:
        yield row.name, file
        return
    wanted = {posixpath.normpath(path): program for program, path in row.members.items()}
    try:
        for path, stream in _wheel(file) if row.requirement else _archive(file):
            program = wanted.pop(path, None)
            if program is not None:
                with (scratch / program).open("wb") as output:
                    shutil.copyfileobj(stream, output)
                yield program, scratch / program
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise Damaged(f"{row.url} is no archive that can be opened", _CORRECT) from error
    if wanted:
        raise Damaged(f"{row.url} has no {' and no '.join(wanted)} in it", _CORRECT)


def _archive(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The path and the content of each regular file in a tar archive."""
    with tarfile.open(file) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is not None:
                yield posixpath.normpath(member.name), stream


def _wheel(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The path and the content of each file in a wheel."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                yield posixpath.normpath(member.filename), stream


_CORRECT = "correct its row in spec/official.yaml or lab/published.yaml"
