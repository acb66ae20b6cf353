"""Places base images in the storage pools of libvirts."""

import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hypervisors.libvirt import virsh as any_libvirt
from lab.cache import linked
from lab.image import DiskImage
from lab.libvirt import LibvirtConnection, virsh
from lab.problem import Problem, full_disk_told
from lab.progress import Progress
from spec.hypervisor import Libvirt


@dataclass(frozen=True)
class Placed:
    """An image in a libvirt storage pool."""

    volume: str
    kernel: Path | None
    initrd: Path | None


def provide(libvirt: LibvirtConnection, image: DiskImage) -> Placed:
    """Put an image into the lab's storage pool under a name with its digest, if it is not there.

    A private libvirt gets hard links to the cache's blobs where both are on one file system. The
    system's libvirt gets copies, since it changes the owner of the files that it uses.
    """
    name = f"base-{image.digest[:16]}"
    pairs = [(image.disk, f"{name}.{image.format}")]
    if image.kernel and image.initrd:
        pairs += [(image.kernel, f"{name}.kernel"), (image.initrd, f"{name}.initrd")]
    targets = [libvirt.disks / target for _, target in pairs]
    try:
        fresh = [_put(source, libvirt.disks / target, libvirt.private) for source, target in pairs]
    except PermissionError as error:
        raise Problem(
            f"{libvirt.disks} cannot be written to", "run the same command with sudo"
        ) from error
    if any(fresh):
        virsh(libvirt, "pool-refresh", libvirt.pool)
    volume, *direct = targets
    kernel, initrd = direct or (None, None)
    return Placed(volume.name, kernel, initrd)


def _put(source: Path, target: Path, link: bool) -> bool:
    """Link or copy ``source`` to ``target``; return False where that was done before."""
    wanted = source.stat()
    try:
        status = target.stat()
        if (status.st_size, status.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return False
    except FileNotFoundError:
        pass
    # The scratch directory is beside the pool, so that libvirt never lists a half-written volume.
    with tempfile.TemporaryDirectory(prefix=".placing-", dir=target.parent.parent) as scratch:
        made = Path(scratch) / target.name
        if not (link and linked(source, made)):
            with full_disk_told(target.parent):
                shutil.copyfile(source, made)
            made.chmod(0o444)
            os.utime(made, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        made.rename(target)
    return True


# -- libvirts of the stack's own, on any host ----------------------------------------------------

SECONDS = 60
"""For a question to a libvirt on another host."""

UPLOAD_SECONDS = 4 * 3600
"""For a base image: at 1 Mbit/s for each GiB and a half."""

COMPLETE = ".complete"
"""The end of the name of an empty volume beside a base image that has been brought as a whole."""


def bring(image: DiskImage, libvirts: Sequence[Libvirt], progress: Progress) -> str:
    """Bring an image into the pool of each libvirt, where it is not; return its volume's name.

    A second call goes on from where the first one was cut off. Raises a Problem.
    """
    name = f"base-{image.digest[:16]}.{image.format}"
    with ThreadPoolExecutor(len(libvirts)) as workers:
        list(workers.map(lambda where: _bring(image, where, name, progress), libvirts))
    return name


def _bring(image: DiskImage, where: Libvirt, name: str, progress: Progress) -> None:
    there = _volumes(where)
    if name + COMPLETE in there:
        return
    size = image.disk.stat().st_size
    with progress.task(f"base image to {where.site} ({size / 2**30:.1f} GiB)"):
        if name not in there:
            _ask(where, "vol-create-as", where.pool, name, str(size), "--format", image.format)
        # What was cut off is written again from its beginning: a name stands for the same bytes.
        _ask(where, "vol-upload", "--pool", where.pool, name, image.disk, seconds=UPLOAD_SECONDS)
        _ask(where, "pool-refresh", where.pool)  # libvirt reads the size of the disk in the image
        _ask(where, "vol-create-as", where.pool, name + COMPLETE, "0", "--format", "raw")


def remove_unused(name: str, libvirts: Sequence[Libvirt]) -> None:
    """Remove an image that ``bring`` has brought from pools where no disk is an overlay of it.

    Raises a Problem.
    """
    for where in libvirts:
        there = _volumes(where)
        if name in there and not _is_used(name, there - {name}, where):
            for volume in sorted(there & {name, name + COMPLETE}, reverse=True):
                _ask(where, "vol-delete", "--pool", where.pool, volume)


def _is_used(name: str, others: Collection[str], where: Libvirt) -> bool:
    path = _ask(where, "vol-path", "--pool", where.pool, name).strip()
    described = (_ask(where, "vol-dumpxml", "--pool", where.pool, volume) for volume in others)
    return any(f"<path>{path}</path>" in text for text in described)


def _volumes(where: Libvirt) -> set[str]:
    """The names of the volumes in the pool of a libvirt."""
    _ask(where, "pool-refresh", where.pool)
    lines = _ask(where, "vol-list", where.pool).splitlines()
    return {line.split()[0] for line in lines if line.strip()}


def _ask(where: Libvirt, *arguments: str | Path, seconds: float = SECONDS) -> str:
    """What virsh prints. Raises a Problem."""
    done = any_libvirt.ask(where.uri, *arguments, timeout=seconds)
    if done is None or done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] if done else f"no answer in {seconds} s"
        raise Problem(
            f"the pool {where.pool} of {where.site} cannot take the base image ({reason})",
            "see that its virsh works from here, and run the same again; or write the image that "
            "is there into hypervisor.image",
        )
    return done.stdout
