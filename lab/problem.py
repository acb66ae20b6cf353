"""The exception whose message is shown to the user."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Problem(Exception):
    """An expected obstacle that stops the work; its message is one sentence with the next step.

    ``what`` is the obstacle, ``remedy`` what the user can do about it. The command line prints the
    sentence and exits with code 1. A traceback instead of a Problem is a bug.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}.")
        self.what = what
        self.remedy = remedy


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn the error of a full disk or a used-up quota under ``path`` into a Problem."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Problem(
            f"the disk that holds {path} is full", "free some space and run it again"
        ) from error
