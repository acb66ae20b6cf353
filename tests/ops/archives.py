"""Image archives as programs of all kinds write them."""

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.oci import write_archive

NAME = "docker.io/library/shop:1"
Documents = dict[str, bytes]
"""The files of an archive by their paths."""


def archive(path: Path, name: str = NAME, architecture: str = "amd64", size: int = 10_000) -> Path:
    """An OCI layout with Docker's list beside, as Docker writes it since version 25."""
    program = path.with_name("program")
    program.write_bytes(hashlib.sha256(name.encode()).digest() * (size // 32))
    write_archive(
        program, path, name="program", reference=name, architecture=architecture, user="1:1"
    )
    return path


def changed(path: Path, change: Callable[[Documents], None]) -> Path:
    """The archive with other files in it."""
    with tarfile.open(path) as tar:
        documents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    change(documents)
    with tarfile.open(path, "w") as tar:
        for name, content in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def without(*names: str) -> Callable[[Documents], None]:
    def change(documents: Documents) -> None:
        for name in names:
            del documents[name]

    return change


def of_docker(documents: Documents) -> None:
    """As Docker wrote it before: no layout, other paths."""
    (image,) = json.loads(documents["manifest.json"])
    config, (layer,) = documents[image["Config"]], image["Layers"]
    digest = posixpath.basename(image["Config"])
    content = documents[layer]
    documents.clear()
    documents[f"{digest}.json"] = config
    documents["abc/layer.tar"] = content
    listed = {"Config": f"{digest}.json", "RepoTags": ["shop:1"], "Layers": ["abc/layer.tar"]}
    documents["manifest.json"] = json.dumps([listed]).encode()


def named(annotations: Mapping[str, str]) -> Callable[[Documents], None]:
    """A layout alone, whose image has these annotations."""

    def change(documents: Documents) -> None:
        del documents["manifest.json"]
        index = json.loads(documents["index.json"])
        index["manifests"][0]["annotations"] = dict(annotations)
        documents["index.json"] = json.dumps(index).encode()

    return change


def with_platforms(foreign: Path) -> Callable[[Documents], None]:
    """An image for two platforms, with what its builder says of it, as buildx writes it."""

    def change(documents: Documents) -> None:
        with tarfile.open(foreign) as tar:
            more = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        attestation = json.dumps({"mediaType": MANIFEST_TYPE, "layers": []}).encode()
        inner = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [
                *json.loads(more["index.json"])["manifests"],
                *json.loads(documents["index.json"])["manifests"],
                descriptor(attestation, platform={"os": "unknown", "architecture": "unknown"}),
            ],
        }
        content = json.dumps(inner).encode()
        top = descriptor(
            content, INDEX_TYPE, annotations={"org.opencontainers.image.ref.name": "shop:2"}
        )
        documents.update({name: blob for name, blob in more.items() if name.startswith("blobs/")})
        for blob in (attestation, content):
            documents[f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"] = blob
        documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
        del documents["manifest.json"]

    return change


MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def descriptor(content: bytes, kind: str = MANIFEST_TYPE, **more: Any) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": kind, "digest": digest, "size": len(content), **more}
