"""The virtual environment is whole or made anew."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab import venv
from lab.cache import Cache
from lab.paths import PROJECT
from lab.problem import Problem
from lab.progress import Silence


def test_this_environment_holds_exactly_what_is_pinned() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all"],
        capture_output=True,
        text=True,
        check=True,
    )
    pinned = {
        line.lower().replace("_", "-")
        for line in (PROJECT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert {line.lower().replace("_", "-") for line in done.stdout.split()} == pinned


def test_an_environment_that_was_cut_off_is_made_anew_and_a_whole_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "checkout"
    project.mkdir()
    (project / "requirements.txt").write_text("")
    (project / "constraints.txt").write_text("")
    monkeypatch.setattr(venv, "PROJECT", project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    python = venv.ensure(Silence())
    assert (project / ".venv").resolve() == python.parent.parent
    assert Cache().root == tmp_path / "cache" / "hardway"
    (python.parent.parent / venv.MARKER).unlink()
    (python.parent.parent / "left-by-a-killed-run").touch()
    assert venv.ensure(Silence()) == python
    assert not (python.parent.parent / "left-by-a-killed-run").exists()
    (python.parent.parent / "kept").touch()
    assert venv.ensure(Silence()) == python
    assert (python.parent.parent / "kept").exists()
    subprocess.run([python, "-c", "import pip"], check=True)
    (project / "requirements.txt").write_text("# another\n")
    assert venv.ensure(Silence()) != python
    assert (project / ".venv").resolve() != python.parent.parent


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(Problem, match=r"too old: install Python 3\.11"):
        venv.ensure(Silence())
