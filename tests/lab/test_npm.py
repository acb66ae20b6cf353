"""Pages made of npm packages: what is locked, and where Node comes from."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import npm
from lab.cache import Cache
from lab.recipe import Recipe, recipes
from tests.lab.test_gobuild import Heard

WITH_PAGES = [recipe for recipe in recipes() if recipe.pages]


@pytest.mark.parametrize("recipe", WITH_PAGES, ids=lambda recipe: recipe.family)
def test_every_package_of_a_recipe_is_locked_with_its_digest(recipe: Recipe) -> None:
    folder = recipe.path / recipe.pages
    wanted = json.loads((folder / "package.json").read_text())
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    root = locked.pop("")
    assert root["dependencies"] == wanted["dependencies"], "the lock file is of another list"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", row) for row in wanted["dependencies"].values())
    assert len(locked) > 100
    for name, row in locked.items():
        assert row["integrity"].startswith("sha512-"), name
        assert "resolved" not in row, f"{name} is fetched from where npm's own settings say"


@pytest.mark.parametrize("recipe", WITH_PAGES, ids=lambda recipe: recipe.family)
def test_what_serves_development_alone_is_left_out(recipe: Recipe) -> None:
    locked = json.loads((recipe.path / recipe.pages / "package-lock.json").read_text())["packages"]
    named = {name.rpartition("node_modules/")[2]: row for name, row in locked.items() if name}
    left_out = {name for name, row in named.items() if row.get("name") == "empty-npm-package"}
    assert {"storybook", "eslint", "vitest", "typescript"} <= left_out
    assert not any(row.get("hasInstallScript") for name, row in named.items() if name in left_out)


def test_node_of_the_path_is_taken_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npm.installed_node() == (None, "no Node with npm on PATH")
    for version, taken in (("v20.19.0", True), ("v20.18.9", False), ("v18.20.1", False)):
        for name in ("node", "npm"):
            (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
            (tmp_path / name).chmod(0o755)
        node, description = npm.installed_node()
        assert (node is not None) is taken, description
        assert str(tmp_path / "node") in description


def test_a_machine_without_node_gets_it_from_the_package(
    empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm, "installed_node", lambda: (None, "no Node"))
    heard = Heard()
    node = npm.find_node(empty_cache, heard, tmp_path / "log")
    assert heard.lines == [f"no Node: fetching the package {npm.NODE_PACKAGE}"]
    for program in ([node.node], [node.node, node.npm]):
        command = [*map(str, program), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert re.fullmatch(r"v?\d+\.\d+\.\d+\n", done.stdout)
    assert npm.find_node(empty_cache, heard, tmp_path / "log") == node
    assert len(heard.lines) == 1, "and once only"
    shutil.rmtree(empty_cache.root / "node")
