"""Downloads a wheel of a Python package through pip, as it is set up on this computer."""

import sys
import tempfile
from pathlib import Path

from lab.cache import sha256_of
from lab.download import Damaged, SourceUnreachable
from lab.problem import Problem
from lab.process import run
from lab.progress import Task
from spec.downloads import Download

PLATFORMS = {"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}
"""Architecture to the name of its platform in wheels (PEP 599)."""

LIMIT = 900
"""Seconds that pip may take."""


def fetch_wheel(row: Download, target: Path, *, log: Path, task: Task) -> None:
    """Download the wheel of ``row`` to ``target``, which appears only once it is verified.

    Nothing of the wheel is run. pip's index, mirror and proxy are those of its own settings and of
    the environment. Raises SourceUnreachable where pip does not get it, and Damaged where it has
    another digest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="wheel-") as folder:
        try:
            run(
                [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
                + ["--progress-bar=off", "--only-binary=:all:", "--no-cache-dir"]
                + ["--platform", PLATFORMS[row.arch], "--dest", folder, row.requirement],
                log=log,
                task=task,
                timeout=LIMIT,
                failure=f"pip does not get {row.requirement}",
            )
        except Problem as problem:
            raise SourceUnreachable(problem.what, problem.remedy) from problem
        (wheel,) = Path(folder).iterdir()
        digest = sha256_of(wheel)
        if digest != row.sha256:
            raise Damaged(
                f"{wheel.name} has the sha256 {digest}, not {row.sha256}",
                "what was downloaded is removed; if it happens again, pip's index has another "
                "file than the one that was reviewed",
            )
        wheel.replace(target)
