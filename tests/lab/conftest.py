"""Fixtures for the artifact store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import world


@pytest.fixture
def small_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[world.StoreLab]:
    with world.small_lab(tmp_path, monkeypatch) as lab:
        yield lab
