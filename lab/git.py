"""git, asked about a checkout: where it cannot answer at all, its own reason is told."""

import subprocess
from pathlib import Path

from lab.problem import Problem


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """What git says in a folder, whether it succeeds or not.

    Raises a Problem where git is missing, or where it opens no repository there: it is none, or it
    belongs to somebody else, whom git does not trust (git-config(1), ``safe.directory``).
    """
    done = _run(folder, *words)
    if done.returncode != 0:
        opened = _run(folder, "rev-parse", "--git-dir")
        if opened.returncode != 0:
            raise _not_opened(folder, opened.stderr.decode(errors="replace"))
    return done


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise Problem("git is not installed", "install it, and run the same again") from error


def _not_opened(folder: Path, said: str) -> Problem:
    """In git's words: the reason in the first line, and below it the command where it knows one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = lines[0].removeprefix("fatal: ") if lines else "it does not say why"
    advised = next((line for line in lines if line.startswith("git config ")), None)
    remedy = (
        f"trust it with {advised}" if advised else "run this in a clone of the project's repository"
    )
    return Problem(f"git does not read {folder} ({reason})", remedy)
