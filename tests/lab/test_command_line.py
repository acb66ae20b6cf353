"""The command line of ``pulumi``: where its verb is, and which words are values."""

import subprocess

import pytest

from lab.command_line import GLOBAL_SWITCHES, LONG, WITH_VALUE, read
from lab.toolchain import Toolchain


@pytest.mark.parametrize(
    ("text", "verb", "stack"),
    [
        ("up", "up", None),
        ("up --stack lab2", "up", "lab2"),
        ("up --stack=lab2", "up", "lab2"),
        ("up -s lab2", "up", "lab2"),
        ("up -slab2", "up", "lab2"),
        ("up -s=lab2", "up", "lab2"),
        ("up -yfs lab2", "up", "lab2"),
        ("up --stack organization/hardway/lab2", "up", "lab2"),
        ("up --stack dev -s lab2", "up", "lab2"),
        ("--stack lab2 up", "up", "lab2"),
        ("-s lab2 up", "up", "lab2"),
        ("--non-interactive up", "up", None),
        ("-e -Q --logtostderr up", "up", None),
        ("--color never up", "up", None),
        ("--color=never up --stack lab2", "up", "lab2"),
        ("-C folder -v 9 up", "up", None),
        ("-v=9 up", "up", None),
        ("up -m --stack -s lab2", "up", "lab2"),
        ("up -m message --refresh lab2", "up", None),
        ("config set -- --stack lab2", "config", None),
        ("--version", "", None),
        ("", "", None),
        ("up --stack", "up", ""),
    ],
)
def test_the_verb_and_the_stack(text: str, verb: str, stack: str | None) -> None:
    line = read(text.split())
    assert line.verb == verb
    assert line.stack == stack
    if verb:
        assert line.at == text.split().index(verb)


def test_each_value_of_an_option_that_stands_twice() -> None:
    line = read(["up", "-t", "one", "--target=two", "--target", "three", "-f"])
    assert line.values("target") == ["one", "two", "three"]
    assert line.has("f")
    assert line.verbs == ("up",)


def test_what_is_behind_two_dashes_is_no_option() -> None:
    line = read(["config", "set", "key", "--", "-s", "--help"])
    assert line.verbs == ("config", "set", "key", "-s", "--help")
    assert line.options == ()


@pytest.mark.engine
@pytest.mark.parametrize("verb", ["up", "preview", "destroy", "refresh", "config", "state taint"])
def test_pulumi_itself_says_which_options_take_a_value(verb: str, toolchain: Toolchain) -> None:
    help_text = subprocess.run(
        [toolchain.pulumi, *verb.split(), "--help"],
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = 0
    for line in help_text.partition("\nFlags:")[2].splitlines():
        parts = line.split()
        if not parts or not parts[0].startswith("-"):
            continue
        letter = parts.pop(0).strip("-,") if len(parts[0]) == 3 else None
        name, kind = parts[0].removeprefix("--"), parts[1]
        # "string[=...]" may stand alone; the kind "false" is a slip of the help of --show-secrets.
        takes = kind in ("string", "stringArray", "strings", "int", "int32", "file:")
        known += takes
        assert (name in WITH_VALUE) == takes, line
        if letter is not None and takes:
            assert LONG[letter] == name
        if line in help_text.partition("Global Flags:")[2].splitlines():
            assert (name in GLOBAL_SWITCHES) == (not takes), line
    assert known > 4
