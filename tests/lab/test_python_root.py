"""A root of Debian, wheels and npm packages: what is listed, and what its tar file keeps."""

import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from lab import python_root
from lab.cache import Cache
from lab.gobuild import build
from lab.problem import Problem
from lab.progress import Silence
from lab.recipe import Recipe, recipes
from tests.plan.stored import as_root

ROOTS = [recipe for recipe in recipes() if recipe.root]
each_root = pytest.mark.parametrize("recipe", ROOTS, ids=lambda recipe: recipe.family)


@each_root
def test_every_wheel_and_npm_package_has_its_version_and_digest(recipe: Recipe) -> None:
    assert recipe.root is not None
    text = (recipe.path / recipe.root.requirements).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[0-9a-z.]+( --hash=sha256:[0-9a-f]{64}){1,2}", line)
    assert any(line.startswith(f"{recipe.family}=={recipe.version} ") for line in lines)
    folder = recipe.path / recipe.root.npm
    wanted = json.loads((folder / "package.json").read_text())
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert locked.pop("")["dependencies"] == wanted["dependencies"]
    for name, row in locked.items():
        assert row["integrity"].startswith("sha512-"), name
        assert "resolved" not in row, name
        assert not row.get("hasInstallScript"), name


@each_root
def test_all_its_files_are_inputs_of_the_build(recipe: Recipe) -> None:
    every = {path for path in recipe.path.rglob("*") if path.is_file()}
    assert set(recipe.sources()) == every


def test_without_root_nothing_is_fetched(
    empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.python_root.os.geteuid", lambda: 1000)
    with pytest.raises(Problem, match="the image of jupyterhub needs root"):
        build(ROOTS[0], empty_cache, Silence(), tmp_path / "logs")


@as_root
def test_the_tar_file_is_the_same_whenever_the_root_was_made(tmp_path: Path) -> None:
    written = []
    for number, second in enumerate((1_000_000_000, 1_500_000_000)):
        root = tmp_path / f"root-{number}"
        (root / "usr/bin").mkdir(parents=True)
        names = ["b", "a", "x" * 120]
        for name in names if number else reversed(names):
            (root / "usr/bin" / name).write_text(name)
        (root / "usr/bin/a").chmod(0o4755)
        (root / "bin").symlink_to("usr/bin")
        os.chown(root / "usr/bin/b", 0, 42)
        os.mkfifo(root / "pipe")
        for path in root.rglob("*"):
            os.utime(path, (second, second), follow_symlinks=False)
        target = tmp_path / f"{number}.tar"
        python_root._write(root, target)
        written.append(target.read_bytes())
    assert written[0] == written[1]
    with tarfile.open(tmp_path / "0.tar") as archive:
        members = {member.name: member for member in archive}
    assert list(members) == [
        "bin",
        "usr",
        "usr/bin",
        "usr/bin/a",
        "usr/bin/b",
        f"usr/bin/{'x' * 120}",
    ]
    assert members["usr/bin/a"].mode == 0o755, "nobody gets rights of root by it"
    assert members["usr/bin/b"].gid == 42
    assert members["bin"].linkname == "usr/bin"


def test_scripts_name_the_roots_own_python(tmp_path: Path) -> None:
    scripts = tmp_path / python_root.WHEELS / "bin"
    scripts.mkdir(parents=True)
    (scripts / "hub").write_text("#!/builder/bin/python3\nimport hub\n")
    (scripts / "shell").write_text("#!/bin/sh\necho\n")
    (tmp_path / python_root.WHEELS / "hub/tests").mkdir(parents=True)
    (tmp_path / python_root.WHEELS / "hub/page.js.map").write_text("{}")
    (tmp_path / "var/cache/apt").mkdir(parents=True)
    python_root._tidy(tmp_path)
    assert (scripts / "hub").read_text() == "#!/usr/bin/python3\nimport hub\n"
    assert (scripts / "shell").read_text() == "#!/bin/sh\necho\n"
    assert list((tmp_path / python_root.WHEELS / "hub").iterdir()) == []
    assert not (tmp_path / "var/cache").exists()
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
