"""The content-addressed cache: one per user, shared by all checkouts.

``blobs/`` holds files under the sha256 of their bytes, ``trees/`` directories of named hard links
to blobs under the digest of their listing, and ``receipts/`` says which inputs gave which blobs.
All three appear by a rename after an fsync, so a run that is killed leaves at worst a directory in
``work/`` that the next run sweeps, and two runs that start at once wait for each other by
``flock``, which the kernel releases when a process dies.
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
    """The sha256 of a value's canonical JSON: the identity of a recipe or a listing."""
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
    """Hold an exclusive lock on ``path``; ``waiting`` is called once if another run has it."""
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
    """What one recipe gave: files by name, and how they were made."""

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
    """Files and directories that are named by what is in them."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_directory()

    def lock(self, name: str, waiting: Callable[[], None] = lambda: None):  # type: ignore[no-untyped-def]
        """Hold the lock of one piece of work, such as ``image`` or a recipe's digest."""
        return locked(self.root / "locks" / name, waiting)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A scratch directory on the cache's file system, gone afterwards.

        A shared lock on it tells a sweeping run that its owner is alive.
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
                # mkdtemp comes before flock: leave a directory that is only just made.
                if time.time() - os.fstat(descriptor).st_mtime > 60:
                    shutil.rmtree(left, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)

    # -- blobs ---------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """Where the bytes with this sha256 are, if they are there."""
        return self.root / "blobs" / digest[:2] / digest

    def add(self, path: Path, *, executable: bool = False) -> str:
        """Take a file of the cache's own file system over (it is moved) and return its sha256."""
        digest = sha256_of(path)
        target = self.blob(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o555 if executable else 0o444)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.rename(target)
        return digest

    def intact(self, digest: str) -> bool:
        """Whether the blob is there and every byte of it is right."""
        path = self.blob(digest)
        return path.is_file() and self.sha256(path) == digest

    def sha256(self, path: Path) -> str:
        """The sha256 of a file, which is read again only where its inode tells of a change."""
        found = path.stat()
        inode = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        note = self.root / "read" / digest_of(str(path))
        with suppress(OSError, ValueError):
            seen, digest = json.loads(note.read_text())
            if seen == inode:
                return str(digest)
        digest = sha256_of(path)
        # A change within the clock's own step would look like none.
        if time.time() - found.st_ctime > 1:
            with suppress(OSError):
                write_atomically(note, json.dumps([inode, digest]).encode())
        return digest

    # -- receipts ------------------------------------------------------------------------------

    def _receipt_path(self, key: str) -> Path:
        return self.root / "receipts" / f"{key}.json"

    def receipt(self, key: str) -> Receipt | None:
        """What was recorded for a key, or nothing; an unreadable record counts as none."""
        try:
            return Receipt(**json.loads(self._receipt_path(key).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def record(self, receipt: Receipt) -> None:
        """Keep a receipt. Its blobs must be there already."""
        text = json.dumps(vars(receipt), indent=1, sort_keys=True)
        write_atomically(self._receipt_path(receipt.key), text.encode())

    def receipts(self) -> list[Receipt]:
        """Everything that is recorded, in a stable order."""
        keys = sorted(path.stem for path in (self.root / "receipts").glob("*.json"))
        return [receipt for key in keys if (receipt := self.receipt(key))]

    def damaged(self, receipt: Receipt) -> list[str]:
        """The names of the receipt's files that are missing or have other bytes than recorded."""
        return [name for name, digest in receipt.files.items() if not self.intact(digest)]

    def usable(self, key: str, title: str, say: Callable[[str], None]) -> Receipt | None:
        """What is recorded under a key if every byte of it is right; else it is named and dropped.

        ``title`` is what people call it.
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
        """Forget a receipt and remove those of its blobs that are damaged."""
        self._receipt_path(receipt.key).unlink(missing_ok=True)
        for digest in receipt.files.values():
            if not self.intact(digest):
                self.blob(digest).unlink(missing_ok=True)

    # -- trees ---------------------------------------------------------------------------------

    def tree(self, files: Mapping[str, str]) -> Path:
        """A directory that holds the blobs under their names, made if it is not there.

        Made anew where a file in it is damaged, which can only be after its blob was replaced.
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
                if not target.is_dir():  # else: another run was faster, with the same content
                    raise
        return target

    def room(self, megabytes: int, purpose: str) -> None:
        """Refuse to begin what the disk cannot hold."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free // 2**20
        if free < megabytes:
            raise Problem(
                f"{purpose} needs {megabytes} MiB and {self.root} has {free} MiB left",
                "free some space, or set XDG_CACHE_HOME to a directory on a larger disk",
            )


def linked(source: Path, target: Path) -> bool:
    """Make a hard link; whether these file systems allow one. Raises OSError for other reasons."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return False
    return True
