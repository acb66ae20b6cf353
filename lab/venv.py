"""The Python virtual environment, shared by all checkouts with the same requirements.

This module imports only the standard library: it runs before anything is installed.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

from lab.cache import Cache, write_atomically
from lab.packages import install
from lab.paths import PROJECT, lab_paths
from lab.problem import Problem
from lab.process import run
from lab.progress import Progress

OLDEST_PYTHON = (3, 11)
MARKER = "complete.json"


def ensure(progress: Progress) -> Path:
    """Make the virtual environment for requirements.txt if needed; return its interpreter.

    A virtual environment cannot be moved, so it is made in its final place and counts as complete
    only once its marker file exists. The checkout's ``.venv`` is a link to it, for plain ``pulumi``
    and for editors. Raises a Problem where this Python is older than ``OLDEST_PYTHON``.
    """
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(map(str, sys.version_info[:3]))
        raise Problem(
            f"Python {version} is too old", "install Python 3.11 or later and run it with that"
        )
    cache = Cache()
    home = cache.root / "venvs" / _key()
    python = home / "bin" / "python"
    if not (home / MARKER).is_file():
        with cache.lock(f"venv-{home.name}", lambda: progress.say("another run makes it; waiting")):
            if not (home / MARKER).is_file():
                _make(cache, home, progress)
    _link(home)
    return python


def _key() -> str:
    identity = hashlib.sha256(f"{sys.version} {os.path.realpath(sys.executable)}".encode())
    for name in ("requirements.txt", "constraints.txt"):
        identity.update((PROJECT / name).read_bytes())
    return identity.hexdigest()[:24]


def _make(cache: Cache, home: Path, progress: Progress) -> None:
    cache.room(600, "the virtual environment")
    if importlib.util.find_spec("ensurepip") is None:
        install({"python3-venv": "makes virtual environments"}, lab_paths(), progress)
    log = lab_paths().logs / "venv.log"
    shutil.rmtree(home, ignore_errors=True)
    with progress.task("making the virtual environment (once per change of requirements)") as task:
        run(
            [sys.executable, "-m", "venv", home],
            log=log,
            task=task,
            timeout=300,
            failure="python -m venv failed",
        )
        run(
            [home / "bin" / "python", "-m", "pip", "install", "--no-input", "--progress-bar=off"]
            + ["--disable-pip-version-check", "--requirement", PROJECT / "requirements.txt"]
            + ["--constraint", PROJECT / "constraints.txt"],
            log=log,
            task=task,
            timeout=1800,
            failure="pip could not install requirements.txt",
        )
        marker = json.dumps({"python": sys.version})
        write_atomically(home / MARKER, marker.encode())


def _link(home: Path) -> None:
    link = PROJECT / ".venv"
    if link.is_symlink() and link.readlink() == home:
        return
    if link.exists() and not link.is_symlink():
        return  # the user's own virtual environment: leave it alone
    fresh = PROJECT / f".venv.{os.getpid()}"
    try:
        fresh.symlink_to(home)
        fresh.replace(link)
    except OSError:
        fresh.unlink(missing_ok=True)  # a read-only checkout works without the link
