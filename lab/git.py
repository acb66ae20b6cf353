"""Runs git in a checkout, and reports git's own reason where it cannot open the repository."""

import subprocess
from pathlib import Path

from lab.problem import Problem


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder and return its result, also where the command fails.

    Raises a Problem where git is missing or cannot open a repository in the folder: there is none,
    or it belongs to another user and git does not trust it (git-config(1), ``safe.directory``).
    """
    done = _run(folder, *arguments)
    if done.returncode != 0:
        opened = _run(folder, "rev-parse", "--git-dir")
        if opened.returncode != 0:
            raise _not_opened(folder, opened.stderr.decode(errors="replace"))
    return done


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise Problem("git is not installed", "install it, and run the same again") from error


def _not_opened(folder: Path, message: str) -> Problem:
    """The Problem with git's own error message.

    The first line of git's message is the reason; a later line may be a command that helps.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = lines[0].removeprefix("fatal: ") if lines else "it does not say why"
    advised = next((line for line in lines if line.startswith("git config ")), None)
    remedy = (
        f"trust it with {advised}" if advised else "run this in a clone of the project's repository"
    )
    return Problem(f"git does not read {folder} ({reason})", remedy)
