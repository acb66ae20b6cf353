"""The one error that people see."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Problem(Exception):
    """A circumstance that stops the work, told as one sentence with the next step.

    ``what`` says what is wrong, ``remedy`` what to do about it. Whoever catches it prints the
    sentence and exits with code 1; a traceback would be a bug.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}.")
        self.what = what
        self.remedy = remedy


@contextmanager
def full_disk_told(place: Path) -> Iterator[None]:
    """Turn the error of a full disk or a used-up quota under ``place`` into a Problem."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Problem(
            f"the disk that holds {place} is full", "free some space and run it again"
        ) from error
