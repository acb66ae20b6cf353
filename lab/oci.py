"""Writes container image archives: an OCI image layout in a tar file, with reproducible bytes.

The layout follows the OCI image specification 1.1; ``ctr images import`` reads it. The additional
``manifest.json`` is for ``docker load`` of a Docker that does not read OCI layouts.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lab.cache import sha256_of

FORMAT = 1
"""Increase this with every change of this module that changes the bytes of an archive."""

_MEDIA = "application/vnd.oci.image"
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Blob:
    """The type, digest and size of one part of an image, by which other parts refer to it."""

    media_type: str
    sha256: str
    size: int

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.sha256}"

    def descriptor(self, **more: Any) -> dict[str, Any]:
        return {
            "mediaType": self.media_type,
            "digest": f"sha256:{self.sha256}",
            "size": self.size,
            **more,
        }


def write_archive(
    program: Path,
    target: Path,
    *,
    name: str,
    reference: str,
    architecture: str,
    user: str,
    stop_signal: str | None = None,
    folder: str = "/",
    beneath: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write to ``target`` an image that holds ``program`` as ``<folder><name>`` and runs it.

    With an ``environment``, ``program`` is a tar file with a whole root file system instead, and
    the image runs nothing by itself.

    ``reference`` is the image's full name with its tag, ``user`` is ``<uid>:<gid>``. A runtime ends
    the program with ``stop_signal``, or with SIGTERM where none is given. ``beneath`` are tar files
    with the files that the program needs; each becomes a layer. No layer is compressed, since
    emulated machines unpack such layers faster. While it works, the function has a scratch file
    beside ``target``.
    """
    path = f"{folder}{name}"
    layer_file = target.with_name(f"{target.name}.layer")
    if environment is None:
        with tar_file(layer_file) as layer_tar, program.open("rb") as stream:
            add_file(layer_tar, path.removeprefix("/"), stream, program.stat().st_size, mode=0o755)
    files = (*beneath, program if environment is not None else layer_file)
    layers = [
        Blob(f"{_MEDIA}.layer.v1.tar", sha256_of(file), file.stat().st_size) for file in files
    ]
    config: dict[str, object] = {"User": user, "WorkingDir": "/"}
    if environment is None:
        config["Entrypoint"] = [path]
    else:
        config["Env"] = [f"{key}={value}" for key, value in sorted(environment.items())]
    if stop_signal:
        config["StopSignal"] = stop_signal
    documents = _documents(layers, config, name, reference, architecture)
    with tar_file(target) as archive:
        for member, content in documents.items():
            add_file(archive, member, io.BytesIO(content), len(content))
        for layer, file in zip(layers, files, strict=True):
            with file.open("rb") as stream:
                add_file(archive, layer.path, stream, layer.size)
    layer_file.unlink(missing_ok=True)


def _documents(
    layers: Sequence[Blob],
    settings: Mapping[str, object],
    name: str,
    reference: str,
    architecture: str,
) -> Mapping[str, bytes]:
    """Path to content of the layout's JSON files; the index refers to the manifest, that to config.

    ``manifest.json`` is Docker's own list.
    """
    history = {"created": _EPOCH, "created_by": f"hardway: {name}"}
    config_bytes = _json(
        {
            "created": _EPOCH,
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{layer.sha256}" for layer in layers],
            },
            "history": [history for _ in layers],
        }
    )
    config = _blob("config.v1+json", config_bytes)
    manifest_bytes = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
    )
    manifest = _blob("manifest.v1+json", manifest_bytes)
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.index.v1+json",
        "manifests": [
            manifest.descriptor(
                platform={"architecture": architecture, "os": "linux"},
                annotations={
                    "io.containerd.image.name": reference,
                    "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
                },
            )
        ],
    }
    paths = [layer.path for layer in layers]
    docker = [{"Config": config.path, "RepoTags": [reference], "Layers": paths}]
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json(docker),
        manifest.path: manifest_bytes,
        config.path: config_bytes,
    }


@contextmanager
def tar_file(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a new tar file for writing while the context lasts."""
    with (
        path.open("wb") as output,
        tarfile.open(fileobj=output, mode="w:", format=tarfile.USTAR_FORMAT) as archive,
    ):
        yield archive


def _blob(kind: str, content: bytes) -> Blob:
    return Blob(f"{_MEDIA}.{kind}", hashlib.sha256(content).hexdigest(), len(content))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def add_file(
    archive: tarfile.TarFile, path: str, stream: IO[bytes], size: int, mode: int = 0o644
) -> None:
    """Add a file that belongs to root and has time 0, so that the archive is reproducible."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, mode
    archive.addfile(member, stream)
