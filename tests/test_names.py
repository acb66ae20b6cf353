"""Names say what they stand for, in the program and in its tests; no two classes share a name."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import PROJECT

ROOMS = (
    *("spec", "certs", "plan", "probe", "components", "hypervisors", "preview", "policy", "lab"),
    *("ops", "plugins", "tests"),
)

SAY_NOTHING = frozenset(
    {"one", "ones", "found", "told", "said", "words", "place", "other", "each", "whoever"}
)
"""Names that fit any value, so that a reader has to look up what each stands for."""

_NAMES = "|".join(sorted(SAY_NOTHING))
SHELL = re.compile(
    rf"^\s*(?:local|for|(?:while )?(?:IFS=\S* )?read)\b[^#\n]*?\s(?:{_NAMES})\b(?=[=\s;]|$)"
    rf"|^[^#\n]*?(?<![^\s;])(?:{_NAMES})=",
    re.MULTILINE,
)
"""Matches such a variable where a shell script binds it."""


def _modules() -> list[Path]:
    rooms = (path for room in ROOMS for path in (PROJECT / room).rglob("*.py"))
    return sorted((PROJECT / "__main__.py", *rooms))


def _scripts() -> list[Path]:
    folders = ("plan/scripts", "plan/files", "probe/scripts")
    return sorted(path for folder in folders for path in (PROJECT / folder).iterdir())


def _bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a module binds, also as attributes, each with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store(), lineno=line):
                yield name, line
            case ast.Attribute(attr=name, ctx=ast.Store(), lineno=line):
                yield name, line
            case ast.arg(arg=name, lineno=line):
                yield name, line
            case ast.FunctionDef(name=name, lineno=line):
                yield name, line
            case ast.AsyncFunctionDef(name=name, lineno=line):
                yield name, line
            case ast.ExceptHandler(name=str(name), lineno=line):
                yield name, line
            case ast.MatchAs(name=str(name), lineno=line):
                yield name, line


def test_names_say_what_they_stand_for() -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}:{line}: {name}"
        for path in _modules()
        for name, line in _bound(ast.parse(path.read_text()))
        if name in SAY_NOTHING
    ]
    assert not wrong, "\n".join(
        ["Name what it is, such as machine, step, member, output, message, path or url:", *wrong]
    )


def test_variables_of_shell_scripts_say_what_they_stand_for() -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}: {match[0].strip()}"
        for path in _scripts()
        for match in SHELL.finditer(path.read_text())
    ]
    assert not wrong, "\n".join(
        ["Name what it is, such as output, reason, endpoint or container:", *wrong]
    )


def test_each_class_has_a_name_of_its_own() -> None:
    modules = defaultdict(set)
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].add(str(path.relative_to(PROJECT)))
    wrong = [
        f"{name}: {', '.join(sorted(paths))}" for name, paths in modules.items() if len(paths) > 1
    ]
    assert not wrong, "\n".join(["Name the classes after their difference:", *wrong])


@pytest.mark.parametrize(
    "line", ["local name said", "for other in a", "said=$(x)", "read -r place"]
)
def test_the_pattern_sees_where_a_script_binds_a_variable(line: str) -> None:
    assert SHELL.search(line)


@pytest.mark.parametrize("line", ["said_of=x", 'echo "the other one"', "# local said", "for line"])
def test_the_pattern_sees_no_other_text(line: str) -> None:
    assert not SHELL.search(line)
