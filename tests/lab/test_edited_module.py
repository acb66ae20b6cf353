"""A module's source is built with the one change that its recipe says, and nothing else touched."""

from pathlib import Path

import pytest

from lab import gobuild, recipe
from lab.cache import Cache
from lab.problem import Problem
from lab.progress import Silence
from lab.recipe import Change, Edit, Recipe
from tests.lab.test_gobuild import say_of

PUBLISHED = """\
package main

import "fmt"

func main() { fmt.Println("as published") }
"""

ADDED = """\
package main

func said() string { return "as edited" }
"""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module as it lies in Go's cache: read-only."""
    folder = tmp_path / "published"
    (folder / "cmd").mkdir(parents=True)
    (folder / "go.mod").write_text("module example.invalid/published\n\ngo 1.21\n")
    (folder / "cmd" / "main.go").write_text(PUBLISHED)
    (folder / "cmd" / "main.go").chmod(0o444)
    (folder / "cmd" / "left_out.go").write_text("package main\n\nvar left = undefined\n")
    (folder / "cmd" / "main_test.go").write_text("package main\n")
    monkeypatch.setattr(gobuild, "module_directory", lambda *_: folder)
    return folder


@pytest.fixture
def edited(
    tmp_path: Path, published: Path, empty_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    empty_cache.root.mkdir()
    (Cache().root / "go").mkdir(parents=True, exist_ok=True)
    (empty_cache.root / "go").symlink_to(Cache().root / "go")
    folder = tmp_path / "recipes" / "tool" / "1.0.0"
    (folder / "added" / "cmd").mkdir(parents=True)
    (folder / "go.mod").write_text(
        "module example.invalid/recipe\n\ngo 1.21\n\nrequire example.invalid/published v1.0.0\n"
    )
    (folder / "go.sum").touch()
    (folder / "added" / "cmd" / "said.go").write_text(ADDED)
    monkeypatch.setattr(recipe, "RECIPES", tmp_path / "recipes")
    return Recipe(
        family="tool",
        version="1.0.0",
        directory="tool/1.0.0",
        programs={"tool": "example.invalid/published/cmd"},
        edit=Edit(
            module="example.invalid/published",
            version="v1.0.0",
            changes=(
                Change(path="cmd/main.go", before='"as published"', after="said()"),
                Change(path="cmd/main.go", before='import "fmt"\n', after='import f "fmt"\n'),
                Change(path="cmd/main.go", before="fmt.Println", after="f.Println"),
            ),
            removed=("cmd/left_out.go",),
        ),
    )


def test_the_edited_copy_is_built(
    edited: Recipe, published: Path, empty_cache: Cache, tmp_path: Path
) -> None:
    receipt = gobuild.build(edited, empty_cache, Silence(), tmp_path / "logs")
    assert say_of(empty_cache, receipt.files["tool"]) == "as edited\n"
    assert (published / "cmd" / "main.go").read_text() == PUBLISHED
    assert {file.name for file in (published / "cmd").iterdir()} == {
        *("main.go", "left_out.go", "main_test.go"),
    }
    built = empty_cache.blob(receipt.files["tool"]).read_bytes()
    assert str(tmp_path).encode() not in built, "the same bytes wherever it is built"


def test_a_main_package_of_the_recipe_itself_is_built_with_the_edited_copy(
    edited: Recipe, published: Path, empty_cache: Cache, tmp_path: Path
) -> None:
    (published / "said.go").write_text('package published\n\nfunc Said() string { return "old" }\n')
    inner = edited.path / "inner"
    inner.mkdir()
    (inner / "inner.go").write_text(
        'package inner\n\nimport "example.invalid/published"\n\n'
        "func Said() string { return published.Said() }\n"
    )
    (edited.path / "main.go").write_text(
        'package main\n\nimport (\n"fmt"\n"example.invalid/recipe/inner"\n)\n\n'
        "func main() { fmt.Println(inner.Said()) }\n"
    )
    (edited.path / "main_test.go").write_text("this is no Go")
    (edited.path / "added" / "cmd" / "said.go").unlink()
    assert edited.edit is not None
    change = Change(path="said.go", before='"old"', after='"new"')
    own = edited.model_copy(
        update={
            "programs": {"tool": "."},
            "edit": edited.edit.model_copy(update={"changes": (change,), "removed": ()}),
        }
    )
    receipt = gobuild.build(own, empty_cache, Silence(), tmp_path / "logs")
    assert say_of(empty_cache, receipt.files["tool"]) == "new\n"


@pytest.mark.parametrize("text", ["nothing of it", '"as published" "as published"'])
def test_a_text_that_is_not_there_once_is_refused(
    text: str, edited: Recipe, published: Path, empty_cache: Cache, tmp_path: Path
) -> None:
    (published / "cmd" / "main.go").chmod(0o644)
    (published / "cmd" / "main.go").write_text(text)
    with pytest.raises(Problem, match="is not what the recipe changes: correct the edit of tool"):
        gobuild.build(edited, empty_cache, Silence(), tmp_path / "logs")


@pytest.mark.parametrize("change", ["changes", "removed"])
def test_a_file_that_is_not_there_is_refused(
    change: str, edited: Recipe, published: Path, empty_cache: Cache, tmp_path: Path
) -> None:
    (published / "cmd" / ("main.go" if change == "changes" else "left_out.go")).unlink()
    with pytest.raises(Problem, match=r"(main|left_out)\.go of .* is not what the recipe changes"):
        gobuild.build(edited, empty_cache, Silence(), tmp_path / "logs")


def test_an_edit_is_part_of_what_is_built(edited: Recipe) -> None:
    keys = {edited.key("amd64"), edited.model_copy(update={"edit": None}).key("amd64")}
    assert edited.edit is not None
    for part in ({"changes": edited.edit.changes[:1]}, {"removed": ()}):
        edit = edited.edit.model_copy(update=part)
        keys.add(edited.model_copy(update={"edit": edit}).key("amd64"))
    (edited.path / "added" / "cmd" / "said.go").write_text(ADDED + "\n")
    keys.add(edited.key("amd64"))
    assert len(keys) == 5
