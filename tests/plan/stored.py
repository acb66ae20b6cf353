"""What the real programs of the default stack say and hold."""

import os
import re
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import pytest

from spec.versions import catalogue
from tests.plan.running import stored_program

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: no namespaces")


def stored(name: str) -> Path:
    """A program or an image archive of the default stack; without it, skip."""
    return stored_program(name, catalogue()[0])


def inside(archive: Path, program: str, folder: Path) -> Path:
    """The program of an image archive, taken out of its only layer."""
    with tarfile.open(archive) as image:
        largest = max(image.getmembers(), key=lambda member: member.size)
        layer = image.extractfile(largest)
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:
            files.extract(program, folder, filter="data")
    return folder / program


@cache
def flags_of(name: str) -> frozenset[str]:
    """The flags, without dashes, that a program's ``--help`` knows and does not call deprecated."""
    done = subprocess.run([stored(name), "--help"], capture_output=True, text=True)
    found = set()
    for line in (done.stdout + done.stderr).splitlines():
        match = re.match(r"\s+(?:-\w, )?--?([a-z0-9][a-z0-9_-]*)", line)
        if match and "DEPRECATED" not in line:
            found.add(match[1])
    return frozenset(found)
