"""The base image; every machine's disk is a copy-on-write overlay of it.

There are two kinds. This module makes the *built* image: a Debian root (``debian_root.py``) that
boots quickly under emulation and contains the node's content-addressed artifact store. It is booted
directly with its kernel and a tiny RAM disk (``initrd.py``). The *official* image is a
distribution's cloud image (``official_image.py``). The cache keeps both under the digest of their
inputs, and ``storage_pool.py`` puts them into the storage pool of a libvirt.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab import initrd
from lab.architecture import architecture
from lab.cache import Cache, Receipt, digest_of, linked, sha256_of
from lab.debian_root import (
    ALONE,
    ENABLED,
    MASKED_GENERATORS,
    MASKED_UNITS,
    OWN,
    SUITE,
    beside,
    debian_root,
    root_key,
    unpacked,
)
from lab.problem import Problem, full_disk_told
from lab.process import run
from lab.progress import Progress, Task
from lab.stamped import intact, record
from spec.artifacts import artifact_row, image_reference

FORMAT = 3
"""Increase this with every change of this module that changes an image."""

SIZE = "4G"
"""The size of the image, and so the least size of a machine's disk.

Overlays are larger; their file system grows at the first boot.
"""

STORE = Path("var/lib/hardway/store")


class Stored(Protocol):
    """An artifact of the cache's store (``lab.artifacts.StoredArtifact``)."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class NodeArtifact:
    """A file in the node's store."""

    name: str
    version: str
    digest: str
    path: Path
    """The path of the file on this host."""
    executable: bool

    @property
    def image(self) -> bool:
        """Whether it is the archive of a container image."""
        return artifact_row(self.name).image is not None


@dataclass(frozen=True)
class DiskImage:
    """A disk image in the cache, with its kernel and RAM disk if it is booted directly."""

    digest: str
    """The sha256 of the disk's bytes."""
    disk: Path
    format: str
    kernel: Path | None
    """For direct boot with ``root=/dev/vda rw``; None where the image has its own boot loader."""
    initrd: Path | None


def node_store(stored: Iterable[Stored]) -> tuple[NodeArtifact, ...]:
    """The artifacts as files of a node's store, executable where the cache's file is."""
    return tuple(
        NodeArtifact(
            item.name,
            item.version,
            item.digest,
            item.path,
            bool(item.path.stat().st_mode & 0o111),
        )
        for item in stored
    )


def base_image(
    cache: Cache,
    artifacts: Iterable[NodeArtifact],
    progress: Progress,
    *,
    logs: Path,
    packages: Iterable[str] = (),
) -> DiskImage:
    """The built image with these artifacts inside, from the cache if it is there and undamaged.

    ``packages`` are Debian packages that machines need in addition to those of every image.

    Safe when several runs call it at once and when a run is killed. Raises a Problem where this
    process is not root, the disk is full, an artifact differs from its digest, or a program fails.
    """
    wanted = in_order(artifacts)
    more = beside(packages)
    key = digest_of(inputs(wanted, more))
    receipt = kept(
        cache,
        key,
        more,
        progress,
        logs,
        lambda archive, task: _build(cache, key, archive, wanted, task, logs / "image.log"),
    )
    files = {name: cache.blob(digest) for name, digest in receipt.files.items()}
    disk = receipt.files["disk"]
    return DiskImage(disk, files["disk"], "qcow2", files["kernel"], files["initrd"])


def kept(
    cache: Cache,
    key: str,
    more: tuple[str, ...],
    progress: Progress,
    logs: Path,
    build: Callable[[Path, Task], Receipt],
) -> Receipt:
    """The image with this key in the cache; where it is absent or damaged, it is built.

    ``build`` gets the archive of a Debian root with ``more`` packages.
    """
    with cache.lock(f"image-{key}", lambda: progress.say("another run builds the image; waiting")):
        receipt = intact(cache, key, "the base image", progress)
        if receipt is None:
            archive = debian_root(cache, progress, logs, more)
            cache.room(5000, "the base image")
            with progress.task("building the base image") as task, full_disk_told(cache.root):
                receipt = build(archive, task)
    return receipt


def in_order(artifacts: Iterable[NodeArtifact]) -> list[NodeArtifact]:
    """The artifacts, in an order that does not depend on who gives them."""
    return sorted(artifacts, key=lambda item: (item.name, item.version, item.digest))


def inputs(artifacts: list[NodeArtifact], more: tuple[str, ...]) -> list[object]:
    """All that a built image follows from."""
    return [
        *("image", FORMAT, root_key(more), SIZE, ENABLED, MASKED_UNITS, MASKED_GENERATORS),
        [
            (str(path.relative_to(OWN)), sha256_of(path))
            for path in sorted(OWN.rglob("*"))
            if path.is_file()
        ],
        [(item.name, item.version, item.digest, item.executable) for item in artifacts],
    ]


def fill(
    root: Path, archive: Path, artifacts: list[NodeArtifact], scratch: Path, task: Task, log: Path
) -> None:
    """Make the file system of a built image, with its artifacts, in a new folder."""
    root.mkdir()
    task.note("unpacking the Debian root")
    unpacked(archive, root, log)
    task.note(f"putting {len(artifacts)} artifacts in")
    _fill_store(root / STORE, artifacts)
    _load_images(root, scratch, artifacts, log)


def _build(
    cache: Cache, key: str, archive: Path, artifacts: list[NodeArtifact], task: Task, log: Path
) -> Receipt:
    with cache.work() as scratch:
        root, raw, disk = scratch / "root", scratch / "raw", scratch / "disk"
        fill(root, archive, artifacts, scratch, task, log)
        kernel, ram_disk = initrd.kernel(root, scratch), initrd.initrd(root, scratch)
        task.note("making the disk")
        file_system(root, raw, SIZE, log)
        compact(raw, disk, log)
        files = {
            name: cache.add(path)
            for name, path in (("disk", disk), ("kernel", kernel), ("initrd", ram_disk))
        }
    source = f"Debian {SUITE} with {len(artifacts)} artifacts"
    return record(cache, Receipt(key, files, "built", source))


FAILURE = "the disk could not be made"


def file_system(root: Path, raw: Path, size: str, log: Path, *, offset: int = 0) -> None:
    """Write the files below ``root`` as a file system of this size, from a byte of the file on."""
    options = ",".join(["lazy_itable_init=0", *([f"offset={offset}"] if offset else [])])
    run(
        ["mkfs.ext4", "-q", "-F", "-L", "hardway", "-E", options, "-d", root, raw, size],
        log=log,
        timeout=1200,
        failure=FAILURE,
    )


def compact(raw: Path, disk: Path, log: Path) -> None:
    """Make a qcow2 disk of a raw one, which goes."""
    run(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, disk],
        log=log,
        timeout=1200,
        failure=FAILURE,
    )
    raw.unlink()


def _fill_store(store: Path, artifacts: list[NodeArtifact]) -> None:
    folder, verified = store / "sha256", store / "verified"
    folder.mkdir(parents=True)
    verified.mkdir()
    for item in artifacts:
        if sha256_of(item.path) != item.digest:
            raise Problem(
                f"the artifact {item.name} {item.version} is damaged ({item.path})",
                "run ./hardway artifacts verify, which replaces it",
            )
        target, mode = folder / item.digest, 0o555 if item.executable else 0o444
        if target.exists():
            continue
        status = item.path.stat()
        as_it_is = (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (mode, 0, 0)
        if not (as_it_is and linked(item.path, target)):
            shutil.copyfile(item.path, target)
            target.chmod(mode)
        # plan/scripts/prelude.sh records size and time of each file that it has verified. The time
        # is a whole second, since not every version of mkfs.ext4 keeps fractions.
        second = int(status.st_mtime)
        os.utime(target, (second, second))
        (verified / item.digest).write_text(f"{status.st_size} {second}.000000000\n")
    rows = [{"name": a.name, "version": a.version, "digest": a.digest} for a in artifacts]
    (store / "index.json").write_text(json.dumps(rows, indent=1) + "\n")


def _load_images(root: Path, scratch: Path, artifacts: list[NodeArtifact], log: Path) -> None:
    """Unpack the container images into containerd's store in the root.

    An emulated machine would take half a minute for that, and this host takes a second. Where the
    artifacts lack containerd, as for machines with Docker, this does nothing; such machines load
    the archives themselves.
    """
    programs = {item.name: item.path for item in artifacts if item.executable}
    images = [item for item in artifacts if item.image]
    if not ({"containerd", "ctr"} <= programs.keys() and images):
        return
    folder = scratch / "containerd"
    folder.mkdir()
    (folder / "images").write_text(
        "".join(
            f"{image_reference(image.name, image.version)} {image.digest} {image.path}\n"
            for image in images
        )
    )
    run(
        [*ALONE, "sh", str(OWN / "load-images.sh"), str(root)]
        + [str(folder), str(programs["containerd"]), str(programs["ctr"])]
        + [f"linux/{architecture()}"],
        log=log,
        timeout=300,
        failure="the container images could not be unpacked",
    )
