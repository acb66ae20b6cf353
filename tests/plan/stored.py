"""What the real programs of the default stack say and hold."""

import os
import tarfile
from pathlib import Path

import pytest

from spec.versions import catalogue
from tests.plan.running import stored_program

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: no namespaces")


def stored(name: str) -> Path:
    """A program or an image archive of the default stack."""
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
