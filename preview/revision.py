"""A revision of the project's repository as a folder."""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.git import git

MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""The branches into which a change may be merged; the first that exists is used."""


class NoRevision(Exception):
    """A revision is not available; the text says what to do about it."""


def compared_with(folder: Path) -> str:
    """The commit at which the checkout left the main branch; on that branch the last commit.

    Raises NoRevision where the repository has no such branch or no commit in common with it, and a
    Problem where git reads no repository there.
    """
    known = [name for name in MAIN if _is_known(folder, name)]
    for name in known:
        done = git(folder, "merge-base", name, "HEAD")
        if done.returncode == 0:
            return done.stdout.decode().strip()
    if known:
        raise NoRevision(
            f"this checkout and {known[0]} have no commit in common here{_why_not(folder)}: "
            "fetch more of the history (git fetch --unshallow), or say with --base what to compare "
            "with"
        )
    raise NoRevision(
        f"no main branch is known here ({', '.join(MAIN)}): say with --base what to compare with"
    )


def _is_known(folder: Path, name: str) -> bool:
    return git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0


def _why_not(folder: Path) -> str:
    answer = git(folder, "rev-parse", "--is-shallow-repository").stdout.strip()
    return ", since the clone is shallow" if answer == b"true" else ""


def named(folder: Path, revision: str) -> str:
    """A revision in readable form, such as ``main (4e12e20)``. Raises NoRevision."""
    done = git(folder, "rev-parse", "--short", "--verify", "--end-of-options", revision)
    if done.returncode != 0:
        raise NoRevision(
            f"{revision} is no revision of this repository: fetch it, or name another one"
        )
    short = done.stdout.decode().strip()
    return short if revision.startswith(short) else f"{revision} ({short})"


@contextmanager
def checked_out(folder: Path, revision: str) -> Iterator[Path]:
    """The files of a revision in a temporary folder, which is removed in the end.

    The repository does not change. Raises NoRevision where git cannot read the revision.
    """
    done = git(folder, "archive", "--format=tar", revision)
    if done.returncode != 0:
        raise NoRevision(
            f"{revision} cannot be read from this repository ({done.stderr.decode().strip()})"
        )
    with tempfile.TemporaryDirectory(prefix="hardway-base-") as temporary:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(temporary, filter="data")
        yield Path(temporary)
