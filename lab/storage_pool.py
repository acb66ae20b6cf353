"""Places base images in the storage pool of a libvirt."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.cache import linked
from lab.image import DiskImage
from lab.libvirt import LibvirtConnection, virsh
from lab.problem import Problem, full_disk_told


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
