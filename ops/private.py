"""A directory for its owner alone, for as long as another program needs what is in it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.paths import LabPaths


@contextmanager
def private_folder(paths: LabPaths, purpose: str) -> Iterator[Path]:
    """The directory, gone afterwards; so are those of runs that were killed."""
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
        with suppress(OSError):  # another one is in use
            parent.rmdir()


def write_private(path: Path, text: str) -> None:
    """A file for its owner alone."""
    path.touch(mode=0o600)
    path.write_text(text)
