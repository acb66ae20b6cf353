"""Reads image archives and prepares them for the container runtimes of machines.

An archive is an OCI image layout 1.x in a tar file (as of ``podman save --format oci-archive``) or
Docker's format (``docker save``), or both in one file. containerd names the images of a layout
after annotations that many programs leave out, and Debian's Docker reads only Docker's format. So
an archive is streamed with a new table of contents in front, with full names and in both formats.
"""

import bz2
import gzip
import io
import json
import lzma
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lab.oci import add_file
from lab.problem import Problem
from ops.image_reference import BadReference, full_reference
from spec.refusal import listed

CHUNK = 256 * 1024
"""Bytes that are read at once."""

MAGIC: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""First bytes of compressed files (file(1)); Python 3.11 does not read the last kind."""

INDEX, MANIFEST, LAYOUT = "index.json", "manifest.json", "oci-layout"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONTAINERD_NAME, OCI_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"
LARGEST_DOCUMENT = 16 * 1024**2
"""Bytes that a JSON document of an archive may have; those of real images have some kilobytes."""


@dataclass(frozen=True, kw_only=True)
class ArchivedImage:
    """An image of an archive."""

    name: str
    """The full reference, such as ``docker.io/library/nginx:1.29``."""
    digest: str | None
    """The digest by which containerd knows it; None in Docker's format, as containerd makes it."""
    identifier: str
    """The digest of its configuration, by which Docker knows it."""


@dataclass(frozen=True, kw_only=True)
class ImageArchive:
    """A checked archive."""

    path: Path
    images: tuple[ArchivedImage, ...]
    size: int
    """The bytes that ``chunks`` yields."""
    _contents: bytes
    _left_out: tuple[tuple[int, int], ...]
    """Beginnings and ends of what is replaced, in bytes of the unpacked tar file."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes of a tar file without compression, for both container runtimes."""
        yield self._contents
        with _unpacked(self.path) as stream:
            at = 0
            for begin, end in self._left_out:
                yield from _parts(stream, begin - at)
                stream.seek(end)
                at = end
            yield from _parts(stream, None)


def _parts(stream: IO[bytes], count: int | None) -> Iterator[bytes]:
    """The next ``count`` bytes of a file, or all that it still has."""
    while count is None or count > 0:
        part = stream.read(CHUNK if count is None else min(CHUNK, count))
        if not part:
            return
        if count is not None:
            count -= len(part)
        yield part


def read(path: Path, architecture: str, name: str | None = None) -> ImageArchive:
    """Check an archive for machines with this processor.

    ``name`` replaces the name of the only image. Raises a Problem where the file is no archive of
    images, is cut off, has no image for the platform or has one without a name.
    """
    try:
        with _unpacked(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            return _Reader(path, stream, tar, architecture).archive(name)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise _none(path, f"it is no whole tar file: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _none(path, "its table of contents cannot be read") from error


def _none(path: Path, why: str) -> Problem:
    return Problem(
        f"{path} is no image archive ({why})",
        "write one with docker save --output FILE IMAGE or podman save --format oci-archive",
    )


def _unpacked(path: Path) -> IO[bytes]:
    """The file without its compression. Raises a Problem where that cannot be read."""
    if not path.is_file():
        raise Problem(f"there is no file {path}", "name an image archive")
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(ZSTANDARD):
        raise Problem(f"{path} is compressed with Zstandard", f"unpack it with unzstd {path}")
    for begins, opened in MAGIC.items():
        if magic.startswith(begins):
            stream: IO[bytes] = opened(path, "rb")
            return stream
    return path.open("rb")


@dataclass(frozen=True)
class _Entry:
    """An image for the right platform, with all that a table of contents says of it."""

    names: tuple[str, ...]
    descriptor: Mapping[str, Any] | None
    """Its entry in the index; None in Docker's format."""
    identifier: str
    config: str
    layers: tuple[str, ...]
    """Paths in the archive, as ``config``."""


class _Reader:
    """Reads one archive."""

    def __init__(
        self, path: Path, stream: IO[bytes], tar: tarfile.TarFile, architecture: str
    ) -> None:
        self._path, self._stream, self._tar = path, stream, tar
        self._architecture = architecture
        self._members = {posixpath.normpath(member.name): member for member in tar.getmembers()}
        self._platforms: set[str] = set()
        """Those of images that are for other machines."""

    def archive(self, name: str | None) -> ImageArchive:
        entries = list(self._entries())
        if not entries:
            if not self._platforms:
                raise _none(self._path, "it holds no image")
            raise Problem(
                f"the images of {self._path} are for {listed(sorted(self._platforms), 'and')}, and "
                f"the machines are linux/{self._architecture}",
                f"save the image again for the platform linux/{self._architecture}",
            )
        for entry in entries:
            self._demand(entry.config, *entry.layers)
        named = self._renamed(entries, name) if name else self._named(entries)
        contents = _contents(named)
        left_out = tuple(sorted(self._left_out()))
        return ImageArchive(
            path=self._path,
            images=tuple(
                ArchivedImage(
                    name=name,
                    digest=entry.descriptor["digest"] if entry.descriptor else None,
                    identifier=entry.identifier,
                )
                for entry in named
                for name in entry.names
            ),
            size=len(contents) + self._length() - sum(end - begin for begin, end in left_out),
            _contents=contents,
            _left_out=left_out,
        )

    # -- names -------------------------------------------------------------------------------------

    def _renamed(self, entries: Sequence[_Entry], name: str) -> list[_Entry]:
        if len(entries) > 1:
            raise Problem(
                f"{self._path} holds {len(entries)} images, and --name names one",
                "leave --name out, or save them one by one",
            )
        (entry,) = entries
        return [replace(entry, names=(_full(name),))]

    def _named(self, entries: Sequence[_Entry]) -> list[_Entry]:
        for entry in entries:
            if not entry.names:
                raise Problem(
                    f"an image of {self._path} has no name ({entry.identifier[:19]})",
                    "give it one with --name, such as --name example.com/shop:1",
                )
        return [
            replace(entry, names=tuple(_full(name) for name in entry.names)) for entry in entries
        ]

    # -- the table of contents ---------------------------------------------------------------------

    def _entries(self) -> Iterator[_Entry]:
        docker = self._json(MANIFEST) if MANIFEST in self._members else []
        if LAYOUT in self._members and INDEX in self._members:
            tags = {posixpath.basename(image["Config"]): image.get("RepoTags") for image in docker}
            for descriptor in self._json(INDEX)["manifests"]:
                yield from self._of_layout(descriptor, tags)
            return
        if MANIFEST not in self._members:
            raise _none(self._path, f"it has neither {INDEX} nor {MANIFEST}")
        for image in docker:
            yield from self._of_docker(image)

    def _of_layout(
        self, descriptor: Mapping[str, Any], tags: Mapping[str, Sequence[str] | None]
    ) -> Iterator[_Entry]:
        manifest = self._manifest(descriptor)
        if manifest is None:
            return
        identifier = manifest["config"]["digest"]
        notes = descriptor.get("annotations") or {}
        name = notes.get(CONTAINERD_NAME) or notes.get(OCI_NAME) or ""
        # The specification wants no more than a tag there.
        whole = CONTAINERD_NAME in notes or ":" in name or "/" in name
        docker_names = tags.get(identifier.partition(":")[2]) or ()
        yield _Entry(
            (name,) if name and whole else tuple(docker_names),
            descriptor,
            identifier,
            _blob(identifier),
            tuple(_blob(layer["digest"]) for layer in manifest["layers"]),
        )

    def _manifest(self, descriptor: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The manifest for the machines' platform, also out of an index; None without any."""
        document: Mapping[str, Any] = self._json(_blob(descriptor["digest"]))
        if descriptor.get("mediaType", document.get("mediaType")) in INDEX_TYPES:
            fitting = (
                self._manifest(entry)
                for entry in document["manifests"]
                if self._fits(entry.get("platform")) and _blob(entry["digest"]) in self._members
            )
            return next((manifest for manifest in fitting if manifest is not None), None)
        if "config" not in document or "layers" not in document:
            return None
        return document if self._fits(self._json(_blob(document["config"]["digest"]))) else None

    def _of_docker(self, image: Mapping[str, Any]) -> Iterator[_Entry]:
        path = posixpath.normpath(image["Config"])
        if self._fits(self._json(path)):
            digest = posixpath.basename(path).removesuffix(".json")
            layers = tuple(posixpath.normpath(layer) for layer in image["Layers"])
            tags = tuple(image.get("RepoTags") or ())
            yield _Entry(tags, None, f"sha256:{digest}", path, layers)

    def _fits(self, platform: Mapping[str, Any] | None) -> bool:
        """Whether a platform, or a configuration that has one, is that of the machines."""
        if platform is None:
            return True
        system, architecture = platform.get("os"), platform.get("architecture")
        if (system, architecture) == ("linux", self._architecture):
            return True
        if system and system != "unknown":  # where builders keep what they say of an image
            self._platforms.add(f"{system}/{architecture}")
        return False

    # -- the tar file ------------------------------------------------------------------------------

    def _json(self, path: str) -> Any:
        self._demand(path)
        member = self._members[path]
        file = self._tar.extractfile(member)
        if file is None or member.size > LARGEST_DOCUMENT:
            raise _none(self._path, f"{path} is no document")
        return json.loads(file.read())

    def _demand(self, *paths: str) -> None:
        for path in paths:
            if path not in self._members:
                raise _none(self._path, f"it lacks {path}")

    def _left_out(self) -> Iterator[tuple[int, int]]:
        for member in self._tar.getmembers():
            if posixpath.normpath(member.name) in (INDEX, MANIFEST):
                yield member.offset, member.offset_data + _padded(member.size)

    def _length(self) -> int:
        """The bytes of the unpacked file. Raises ReadError where a member is cut off."""
        length = self._stream.seek(0, io.SEEK_END)
        if any(file.isreg() and file.offset_data + file.size > length for file in self._tar):
            raise tarfile.ReadError("its end is missing")
        return length


def _full(name: str) -> str:
    try:
        return full_reference(name)
    except BadReference as error:
        raise Problem(str(error), "give it another with --name, such as shop:1") from error


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _contents(entries: Sequence[_Entry]) -> bytes:
    """The beginning of a tar file, with both tables of contents or with Docker's alone."""
    docker = [
        {"Config": entry.config, "RepoTags": list(entry.names), "Layers": list(entry.layers)}
        for entry in entries
    ]
    documents: dict[str, Any] = {MANIFEST: docker}
    if any(entry.descriptor for entry in entries):
        documents[INDEX] = {
            "schemaVersion": 2,
            "manifests": [
                {**entry.descriptor, "annotations": {CONTAINERD_NAME: name}}
                for entry in entries
                if entry.descriptor
                for name in entry.names
            ],
        }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for name, value in documents.items():
            content = json.dumps(value).encode()
            add_file(tar, name, io.BytesIO(content), len(content))
        end = tar.offset
    return file.getvalue()[:end]
