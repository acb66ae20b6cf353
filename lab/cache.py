"""The content-addressed cache: one per user, shared by all checkouts.

``blobs/`` holds files; each file's name is the sha256 of its bytes. ``trees/`` holds directories of
named hard links to blobs; each directory's name is the digest of its listing. ``receipts/`` records
which inputs gave which blobs. An entry of any of the three appears by a rename; blobs and receipts
are synced to disk first. So a run that is killed leaves at worst a directory in ``work/``, which
the next run removes. Two runs at the same time wait for each other by ``flock``, and the kernel
releases that lock when a process dies.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.paths import cache_directory
from lab.problem import Problem


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """The sha256 of a value's canonical JSON; identifies a recipe or a listing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), mode)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; calls ``waiting`` once if another run holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Receipt:
    """The record of one result: its files by name, and how they were made."""

    key: str
    files: Mapping[str, str]
    """File name to sha256."""
    origin: str
    """``installed``, ``official`` or ``built``."""
    source: str
    """Where the bytes came from, for people."""
    seconds: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)


class Cache:
    """Files and directories whose names are digests of their content."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_directory()

    def lock(self, name: str, waiting: Callable[[], None] = lambda: None):  # type: ignore[no-untyped-def]
        """Hold the lock of one piece of work, named for example ``image`` or by a digest."""
        return locked(self.root / "locks" / name, waiting)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A scratch directory on the cache's file system, removed when the context ends.

        This process holds a shared lock on the directory, so that a run that removes left-over
        directories sees that this one is in use.
        """
        parent = self.root / "work"
        parent.mkdir(parents=True, exist_ok=True)
        self._sweep(parent)
        scratch = Path(tempfile.mkdtemp(dir=parent))
        descriptor = os.open(scratch, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield scratch
        finally:
            os.close(descriptor)
            shutil.rmtree(scratch, ignore_errors=True)

    @staticmethod
    def _sweep(parent: Path) -> None:
        for left in parent.iterdir():
            try:
                descriptor = os.open(left, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its owner makes the directory before it takes the lock: leave a new directory.
                if time.time() - os.fstat(descriptor).st_mtime > 60:
                    shutil.rmtree(left, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)

    # -- blobs ---------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """The path of the blob with this sha256, whether it exists or not."""
        return self.root / "blobs" / digest[:2] / digest

    def add(self, path: Path, *, executable: bool = False) -> str:
        """Move a file of the cache's own file system to the blobs and return its sha256."""
        digest = sha256_of(path)
        target = self.blob(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o555 if executable else 0o444)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.rename(target)
        return digest

    def intact(self, digest: str) -> bool:
        """Whether the blob exists and its bytes have this sha256."""
        path = self.blob(digest)
        return path.is_file() and self.sha256(path) == digest

    def sha256(self, path: Path) -> str:
        """The sha256 of a file; reads the file again only if its inode has changed."""
        status = path.stat()
        inode = [
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        ]
        note = self.root / "read" / digest_of(str(path))
        with suppress(OSError, ValueError):
            seen, digest = json.loads(note.read_text())
            if seen == inode:
                return str(digest)
        digest = sha256_of(path)
        # A later change within the same step of the file system's clock would not be seen.
        if time.time() - status.st_ctime > 1:
            with suppress(OSError):
                write_atomically(note, json.dumps([inode, digest]).encode())
        return digest

    # -- receipts ------------------------------------------------------------------------------

    def _receipt_path(self, key: str) -> Path:
        return self.root / "receipts" / f"{key}.json"

    def receipt(self, key: str) -> Receipt | None:
        """The receipt of a key; None where there is none or it cannot be read."""
        try:
            return Receipt(**json.loads(self._receipt_path(key).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def record(self, receipt: Receipt) -> None:
        """Write a receipt. Its blobs must exist already."""
        text = json.dumps(vars(receipt), indent=1, sort_keys=True)
        write_atomically(self._receipt_path(receipt.key), text.encode())

    def receipts(self) -> list[Receipt]:
        """All receipts, sorted by key."""
        keys = sorted(path.stem for path in (self.root / "receipts").glob("*.json"))
        return [receipt for key in keys if (receipt := self.receipt(key))]

    def damaged(self, receipt: Receipt) -> list[str]:
        """The names of the receipt's files that are missing or differ from their sha256."""
        return [name for name, digest in receipt.files.items() if not self.intact(digest)]

    def usable(self, key: str, title: str, say: Callable[[str], None]) -> Receipt | None:
        """The receipt of a key if all its files are undamaged, else None.

        Where a file is damaged, ``say`` gets a message and the receipt is discarded. The message
        calls the result ``title``.
        """
        receipt = self.receipt(key)
        if receipt is None:
            return None
        damaged = self.damaged(receipt)
        if not damaged:
            return receipt
        say(f"{title} in the cache is damaged ({', '.join(damaged)}): replacing it")
        self.discard(receipt)
        return None

    def discard(self, receipt: Receipt) -> None:
        """Remove a receipt and those of its blobs that are damaged."""
        self._receipt_path(receipt.key).unlink(missing_ok=True)
        for digest in receipt.files.values():
            if not self.intact(digest):
                self.blob(digest).unlink(missing_ok=True)

    # -- trees ---------------------------------------------------------------------------------

    def tree(self, files: Mapping[str, str]) -> Path:
        """A directory with a hard link to each blob under its name, made if it does not exist.

        The directory is made anew where one of its files is no longer the blob itself. That happens
        after a damaged blob was replaced.
        """
        target = self.root / "trees" / digest_of(dict(files))
        if target.is_dir():
            if all(
                (target / name).exists() and (target / name).samefile(self.blob(digest))
                for name, digest in files.items()
            ):
                return target
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.work() as scratch:
            made = scratch / "tree"
            for name, digest in files.items():
                link = made / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.blob(digest), link)
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else another run has made the same directory meanwhile
                    raise
        return target

    def room(self, megabytes: int, purpose: str) -> None:
        """Raise a Problem where the cache's disk has less free space than ``purpose`` needs."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free // 2**20
        if free < megabytes:
            raise Problem(
                f"{purpose} needs {megabytes} MiB and {self.root} has {free} MiB left",
                "free some space, or set XDG_CACHE_HOME to a directory on a larger disk",
            )


def linked(source: Path, target: Path) -> bool:
    """Make a hard link and return True; False where the file systems do not allow the link.

    Raises OSError where the link fails for another reason.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return False
    return True
