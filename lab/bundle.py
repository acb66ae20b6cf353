"""The bundle: all artifacts of a stack in one file, for a computer without a network.

A bundle is an uncompressed tar file. Its first member, ``manifest/<sha256 of itself>.json``, lists
the files; then each file follows as ``sha256/<digest>``. So the manifest's digest covers every byte
that the import puts into a store. The export prints that digest, and a user who gives it to the
import knows that nobody has changed the bundle in between.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from lab.artifacts import Store, key_of
from lab.cache import Cache, Receipt, digest_of
from lab.manifest import ManifestArtifact, Origin, artifacts, downloads_key, manifest
from lab.problem import Problem, full_disk_told
from lab.progress import Progress
from lab.published import downloads_in, note
from spec.artifacts import DEFAULT_ADDONS, Runtime
from spec.downloads import Architecture, downloads_of
from spec.versions import Versions

BLOCK = 2**20
LARGEST_MANIFEST = 2**24

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class BundledReceipt(BaseModel):
    """A receipt from the store of the export."""

    model_config = _FROZEN

    key: Digest
    files: Mapping[Name, Digest]
    origin: Origin
    source: str
    seconds: float
    facts: Mapping[str, str]


class BundleManifest(BaseModel):
    """The first member of a bundle."""

    model_config = _FROZEN

    format: Literal[1] = 1
    architecture: Architecture
    receipts: tuple[BundledReceipt, ...]
    sizes: Mapping[Digest, int]
    """The sha256 of each file that follows, in order, to its length in bytes."""

    def content(self) -> bytes:
        """The bytes of the manifest in the tar file."""
        return self.model_dump_json(indent=1).encode()

    @property
    def digest(self) -> str:
        """The sha256 of the manifest; it covers all files of the bundle."""
        return hashlib.sha256(self.content()).hexdigest()

    def named(self, digest: str) -> str:
        """Name and version of the file with this digest; the digest where it has no name."""
        names = (
            f"{name} {receipt.facts.get('version', '')}".strip()
            for receipt in self.receipts
            for name, file_digest in receipt.files.items()
            if file_digest == digest
        )
        return next(names, digest)


# -- export ------------------------------------------------------------------------------------


def export(
    path: Path,
    store: Store,
    versions: Versions,
    progress: Progress,
    runtime: Runtime,
    addons: Collection[str] = DEFAULT_ADDONS,
) -> BundleManifest:
    """Write a stack's artifacts to ``path``, which appears only once it is complete.

    Artifacts that the store lacks are fetched or built first.
    """
    store.fetch(versions, runtime, addons)
    receipts = {
        receipt.key: BundledReceipt.model_validate(vars(receipt))
        for artifact in artifacts(versions, store.architecture, runtime, addons)
        if (receipt := store.recorded(artifact))
    }
    digests = {digest for receipt in receipts.values() for digest in receipt.files.values()}
    bundle = BundleManifest(
        architecture=store.architecture,
        receipts=tuple(receipts[key] for key in sorted(receipts)),
        sizes={digest: store.cache.blob(digest).stat().st_size for digest in sorted(digests)},
    )
    part = path.with_name(f".{path.name}.part")
    lock = f"export-{digest_of(str(path.absolute()))}"
    with store.cache.lock(lock), progress.task(f"writing {path}") as task, full_disk_told(path):
        try:
            with part.open("wb") as output:
                with tarfile.open(
                    fileobj=output, mode="w:", format=tarfile.USTAR_FORMAT
                ) as archive:
                    content = bundle.content()
                    name = f"manifest/{bundle.digest}.json"
                    _add(archive, name, io.BytesIO(content), len(content))
                    for digest, size in bundle.sizes.items():
                        task.note(bundle.named(digest))
                        with store.cache.blob(digest).open("rb") as stream:
                            _add(archive, f"sha256/{digest}", stream, size)
                output.flush()
                os.fsync(output.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return bundle


def _add(archive: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    archive.addfile(member, stream)


# -- import ------------------------------------------------------------------------------------


def import_bundle(
    path: Path, store: Store, progress: Progress, *, digest: str | None
) -> BundleManifest:
    """Check every byte of a bundle and then put its artifacts into the store.

    ``digest`` is the digest that the export printed. Where it is None, nothing vouches for programs
    that were built, since their digests are recorded nowhere else; official programs have pinned
    digests. Digests that the other checkout recorded in its pins.yaml are written to this
    checkout's pins.yaml too.

    Raises a Problem and imports nothing where an artifact is damaged (the message names it), or
    where the bundle has another digest, is for another architecture, was made by a Hardway with
    other sources, or has another digest than this checkout's pins.yaml.
    """
    cache = store.cache
    with (
        progress.task(f"checking {path}") as task,
        full_disk_told(cache.root),
        cache.work() as scratch,
        _opened(path) as archive,
    ):
        bundle = _manifest(archive, path, digest)
        known = _known(bundle, path, store)
        cache.room(sum(bundle.sizes.values()) // 2**20 + 1, f"importing {path}")
        for digest in bundle.sizes:
            task.note(bundle.named(digest))
            _take(archive, digest, scratch / digest, bundle, path)
        if _next(archive) is not None:
            raise _damaged(path, "its end", "something follows the last artifact")
        for receipt in bundle.receipts:
            note(downloads_in(receipt.facts, store.architecture), cache, progress)
        _enter(bundle, known, scratch, cache)
    return bundle


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except tarfile.TarError as error:
        raise Problem(f"{path} is no bundle ({error})", _EXPORT) from error
    except OSError as error:
        raise Problem(f"{path} cannot be read ({error.strerror})", "give another file") from error


def _manifest(archive: tarfile.TarFile, path: Path, digest: str | None) -> BundleManifest:
    member = _next(archive)
    folder, _, name = (member.name if member else "").partition("/")
    if member is None or folder != "manifest" or member.size > LARGEST_MANIFEST:
        raise Problem(f"{path} is no bundle", _EXPORT)
    content = b"".join(_blocks(archive, member))
    actual = hashlib.sha256(content).hexdigest()
    if name != f"{actual}.json":
        raise _damaged(path, "its manifest", "its bytes are not those of its digest")
    if digest is not None and digest != actual:
        raise Problem(
            f"{path} is another bundle than the one with the digest {digest}: it has {actual}, and "
            "nothing was imported",
            "bring the file that was exported, or the digest that its export printed",
        )
    try:
        return BundleManifest.model_validate_json(content)
    except ValidationError as error:
        raise Problem(f"{path} has a manifest that this Hardway does not know", _EXPORT) from error


def _known(bundle: BundleManifest, path: Path, store: Store) -> Mapping[str, ManifestArtifact]:
    """Receipt key to an artifact of this checkout, for all receipts of the bundle.

    Raises a Problem where the bundle is for another architecture or this checkout does not know one
    of the keys.
    """
    if bundle.architecture != store.architecture:
        raise Problem(
            f"{path} is for {bundle.architecture} and this machine is {store.architecture}",
            f"export it on a machine with {store.architecture}",
        )
    by_key = {
        key: artifact
        for artifact in manifest()
        if artifact.architecture == store.architecture
        for key in store.keys(artifact)
    } | {
        key_of(artifact, downloads_key(rows)): artifact
        for receipt in bundle.receipts
        if (rows := downloads_in(receipt.facts, store.architecture))
        for artifact in manifest()
        if (artifact.family, artifact.version, artifact.architecture)
        == (rows[0].family, rows[0].version, store.architecture)
    }
    known = {}
    for receipt in bundle.receipts:
        if receipt.key not in by_key:
            names = ", ".join(receipt.files)
            raise Problem(f"{path} has {names} from a source that is not in this checkout", _EXPORT)
        known[receipt.key] = by_key[receipt.key]
        _check_files(receipt, by_key[receipt.key], bundle, path)
    return known


def _check_files(
    receipt: BundledReceipt, artifact: ManifestArtifact, bundle: BundleManifest, path: Path
) -> None:
    """Raise a Problem if the bundle lacks a file, or an official program differs from its pin."""
    for name, digest in receipt.files.items():
        if digest not in bundle.sizes:
            raise _damaged(path, name, "it is listed and not there")
    if receipt.origin == "official" and artifact.kind == "binary":
        for row in downloads_of(artifact.family, artifact.version, artifact.architecture):
            actual = receipt.files.get(row.name)
            if not row.members and row.sha256 and actual != row.sha256:
                raise _damaged(path, str(row.name), "it is not the official file")


def _take(
    archive: tarfile.TarFile,
    digest: str,
    target: Path,
    bundle: BundleManifest,
    path: Path,
) -> None:
    """Copy the next member to ``target``. Raises a Problem if it is not the file of this digest."""
    name = bundle.named(digest)
    member = _next(archive)
    if member is None or not member.isreg() or member.name != f"sha256/{digest}":
        raise _damaged(path, name, "it is cut off or not there")
    if member.size != bundle.sizes[digest]:
        raise _damaged(path, name, "its length is wrong")
    actual = hashlib.sha256()
    with target.open("wb") as output:
        for block in _blocks(archive, member):
            actual.update(block)
            output.write(block)
    if target.stat().st_size != member.size:
        raise _damaged(path, name, "it is cut off")
    if actual.hexdigest() != digest:
        raise _damaged(path, name, "its bytes are not those of its digest")


def _enter(
    bundle: BundleManifest, known: Mapping[str, ManifestArtifact], scratch: Path, cache: Cache
) -> None:
    """Move the checked files into the store, and only then write their receipts."""
    for receipt in bundle.receipts:
        for digest in receipt.files.values():
            file = scratch / digest
            if file.exists() and not cache.intact(digest):
                cache.add(file, executable=known[receipt.key].kind == "binary")
    for receipt in bundle.receipts:
        cache.record(Receipt(**receipt.model_dump()))


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except (tarfile.TarError, OSError):
        return None


def _blocks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The bytes of a member in blocks, up to the first read error."""
    stream = archive.extractfile(member)
    while stream is not None:
        try:
            block = stream.read(BLOCK)
        except (tarfile.TarError, OSError):
            return
        if not block:
            return
        yield block


def _damaged(path: Path, name: str, reason: str) -> Problem:
    return Problem(
        f"the bundle {path} is damaged at {name} ({reason}); nothing was imported",
        "copy it again from where it was exported, or export it again",
    )


_EXPORT = "export one with this version of Hardway: ./hardway artifacts export FILE"
