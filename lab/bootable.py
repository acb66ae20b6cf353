"""The base image with a boot loader of its own, for hypervisors that boot no kernel directly.

It has the same file system as the built image (``image.py``), in a partition behind GRUB for BIOS.
Everything is written into a file: nothing is mounted, and no loop device is needed.
"""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab import initrd
from lab.cache import Cache, Receipt, digest_of, sha256_of
from lab.debian_root import beside
from lab.image import (
    FAILURE,
    SIZE,
    DiskImage,
    NodeArtifact,
    compact,
    file_system,
    fill,
    in_order,
    inputs,
    kept,
)
from lab.process import run
from lab.progress import Progress, Task
from lab.stamped import record

FORMAT = 1
"""Increase this with every change of this module that changes the image."""

PACKAGES = ("cloud-guest-utils", "fdisk")
"""They grow the partition to the disk's size."""

OWN = Path(__file__).with_name("bios")
"""The first program of the RAM disk, and the loader's configuration."""

DRIVERS = ("virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "isofs")

GRUB = Path("/usr/lib/grub/i386-pc")
MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "boot", "serial")
"""All that the loader needs is in its core image, which lies before the partition."""

SECTOR, START = 512, 2048
"""Bytes of a sector, and the first sector of the partition."""


def bootable_image(
    cache: Cache,
    artifacts: Iterable[NodeArtifact],
    progress: Progress,
    *,
    logs: Path,
    packages: Iterable[str] = (),
) -> DiskImage:
    """The image with these artifacts inside, as ``image.base_image`` makes it without a loader."""
    wanted = in_order(artifacts)
    more = beside([*packages, *PACKAGES])
    own = [(path.name, sha256_of(path)) for path in sorted(OWN.iterdir())]
    key = digest_of(["bootable", FORMAT, own, inputs(wanted, more)])
    receipt = kept(
        cache,
        key,
        more,
        progress,
        logs,
        lambda archive, task: _build(cache, key, archive, wanted, task, logs / "image.log"),
    )
    digest = receipt.files["disk"]
    return DiskImage(digest, cache.blob(digest), "qcow2", None, None)


def _build(
    cache: Cache, key: str, archive: Path, artifacts: list[NodeArtifact], task: Task, log: Path
) -> Receipt:
    with cache.work() as scratch:
        root, raw, disk = scratch / "root", scratch / "raw", scratch / "disk"
        fill(root, archive, artifacts, scratch, task, log)
        modules = initrd.initrd_for(root, scratch, OWN / "init", DRIVERS)
        shutil.copyfile(initrd.kernel(root, scratch), root / "boot/kernel")
        shutil.copyfile(modules, root / "boot/initrd")
        (root / "boot/grub").mkdir(exist_ok=True)
        shutil.copyfile(OWN / "grub.cfg", root / "boot/grub/grub.cfg")
        task.note("making the disk")
        _disk(root, raw, scratch, log)
        compact(raw, disk, log)
        files = {"disk": cache.add(disk)}
    source = f"Debian with {len(artifacts)} artifacts and GRUB"
    return record(cache, Receipt(key, files, "built", source))


def _disk(root: Path, raw: Path, scratch: Path, log: Path) -> None:
    """Write a disk with one partition and the loader before it."""
    size = int(SIZE.removesuffix("G")) * 2**20
    with raw.open("wb") as stream:
        stream.truncate(size * 1024)
    subprocess.run(
        ["sfdisk", "--quiet", raw],
        input=f"start={START}, type=83, bootable\n",
        text=True,
        check=True,
        capture_output=True,
    )
    start = START * SECTOR
    file_system(root, raw, f"{size - start // 1024}k", log, offset=start)
    core = scratch / "core.img"
    run(
        ["grub-mkimage", "-O", "i386-pc", "-d", GRUB, "-p", "(hd0,msdos1)/boot/grub", "-o", core]
        + list(MODULES),
        log=log,
        timeout=120,
        failure=FAILURE,
    )
    assert core.stat().st_size < (START - 1) * SECTOR
    with raw.open("r+b") as stream:
        # The rest of the first sector is the partition table.
        stream.write((GRUB / "boot.img").read_bytes()[:440])
        stream.seek(SECTOR)
        stream.write(core.read_bytes())
