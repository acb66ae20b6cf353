"""Gets a distribution's cloud image, verified and unchanged; it boots with its own boot loader."""

import shutil
from hashlib import file_digest
from pathlib import Path

from lab.cache import Cache, Receipt, digest_of
from lab.download import fetch
from lab.image import DiskImage
from lab.paths import PROJECT
from lab.problem import Problem, full_disk_told
from lab.progress import Progress, Task
from lab.stamped import intact, record

QCOW2 = b"QFI\xfb"
"""The first bytes of a qcow2 file (QEMU, docs/interop/qcow2.txt)."""


def official_image(
    cache: Cache,
    source: str,
    progress: Progress,
    *,
    sha256: str | None = None,
    sha512: str | None = None,
) -> DiskImage:
    """A distribution's cloud image from a URL or a file, with a verified digest.

    A relative path is relative to the checkout, where the stack's file that names it is.

    Raises a Problem where no digest is given or the file has another digest.
    """
    if not (sha256 or sha512):
        raise Problem(f"the image {source} has no digest", "give its sha256 or sha512 as well")
    key = digest_of(["official-image", sha256, sha512])
    with cache.lock(f"image-{key}", lambda: progress.say("another run fetches the image; waiting")):
        receipt = intact(cache, key, "the official image", progress)
        if receipt is None:
            cache.room(2000, "the official image")
            # The path depends only on the digest, so a later run resumes an interrupted download.
            target = cache.root / "downloads" / key
            with progress.task(f"taking the image {source}") as task, full_disk_told(cache.root):
                _take(source, target, sha256, sha512, task)
                digest = cache.add(target)
            receipt = record(cache, Receipt(key, {"disk": digest}, "official", source))
    disk = cache.blob(receipt.files["disk"])
    return DiskImage(receipt.files["disk"], disk, _format(disk), None, None)


def _take(source: str, target: Path, sha256: str | None, sha512: str | None, task: Task) -> None:
    if "://" in source:
        fetch(source, target, sha256=sha256, sha512=sha512, task=task)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    file = PROJECT / source
    try:
        shutil.copyfile(file, target)
    except FileNotFoundError as error:
        raise Problem(f"there is no image {file}", "give the path of the file") from error
    except IsADirectoryError as error:
        raise Problem(f"{file} is a directory", "give the path of an image file in it") from error
    with target.open("rb") as stream:
        digests = {"sha256": file_digest(stream, "sha256").hexdigest()}
        stream.seek(0)
        digests["sha512"] = file_digest(stream, "sha512").hexdigest()
    for name, digest in (("sha256", sha256), ("sha512", sha512)):
        if digest and digest.lower() != digests[name]:
            target.unlink()
            raise Problem(
                f"the image {source} has the {name} {digests[name]}, not {digest}",
                "fetch it again, or give the digest that its maker publishes",
            )


def _format(disk: Path) -> str:
    with disk.open("rb") as stream:
        return "qcow2" if stream.read(4) == QCOW2 else "raw"
