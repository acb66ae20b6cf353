"""A temporary directory that only its owner can read, for files that another program needs."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.paths import LabPaths


@contextmanager
def private_folder(paths: LabPaths, purpose: str) -> Iterator[Path]:
    """A directory that is removed when the context ends.

    Also removes the directories of earlier runs that were killed.
    """
    parent = paths.state / purpose
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in parent.iterdir():
        if not Path("/proc", left.name.partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another run's directory is in it
            parent.rmdir()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
