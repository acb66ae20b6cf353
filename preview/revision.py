"""A revision of the project's repository as a folder."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""Where a change is going to, the first that there is."""


class NoRevision(Exception):
    """A revision that is not to be had, and what to do about it."""


def compared_with(folder: Path) -> str:
    """The commit at which the checkout left the main branch; on that branch the last commit.

    Raises NoRevision where the folder is no repository or has no such branch.
    """
    for name in MAIN:
        done = _git(folder, "merge-base", name, "HEAD")
        if done.returncode == 0:
            return done.stdout.decode().strip()
    raise NoRevision(
        f"no main branch is known here ({', '.join(MAIN)}): say with --base what to compare with"
    )


def named(folder: Path, revision: str) -> str:
    """A revision in a form for people, such as ``main (4e12e20)``. Raises NoRevision."""
    done = _git(folder, "rev-parse", "--short", "--verify", "--end-of-options", revision)
    if done.returncode != 0:
        raise NoRevision(
            f"{revision} is no revision of this repository: fetch it, or name another one"
        )
    short = done.stdout.decode().strip()
    return short if revision.startswith(short) else f"{revision} ({short})"


@contextmanager
def checked_out(folder: Path, revision: str) -> Iterator[Path]:
    """The files of a revision, in a folder that goes again; the repository is left as it is."""
    done = _git(folder, "archive", "--format=tar", revision)
    if done.returncode != 0:
        raise NoRevision(
            f"{revision} cannot be read from this repository ({done.stderr.decode().strip()})"
        )
    with tempfile.TemporaryDirectory(prefix="hardway-base-") as place:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(place, filter="data")
        yield Path(place)


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise NoRevision("git is not installed, and a preview compares two revisions") from error
