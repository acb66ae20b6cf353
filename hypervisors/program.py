"""Runs the programs of hypervisors, whose messages are read, so they are in English."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def outcome(
    command: Sequence[str | Path], *, timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """The outcome of a command; None where it takes longer than ``timeout`` seconds.

    Raises FileNotFoundError where there is no such program.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired:
        return None
