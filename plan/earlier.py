"""Reads the steps of the release before this one, which are shell scripts, as records.

A preview compares such a step, which the state of a living cluster has, with the step that replaces
it. This module goes with the next release.
"""

import re
import shlex
from collections.abc import Iterator

HEREDOC = re.compile(r" <<'(END(?:-END)*)'$")
SETTING = re.compile(r"[a-z_]+=")
WITHOUT_FIELDS = frozenset({"alone", "unpacked", "in_place", "settle"})
KINDS = WITHOUT_FIELDS | {
    *("packages", "user", "artifact", "archived", "directory", "file", "secret", "link"),
    *("masked", "unit", "not_newer", "member", "lock_at", "shared"),
}
"""The shell functions that a step calls."""


def records(text: str) -> list[tuple[list[str], str]]:
    """The fields and the content of each record that a step's script amounts to."""
    lines = iter(_body(text))
    calls: list[tuple[list[str], str]] = []
    last: list[str] = []
    for line in lines:
        kind = line.partition(" ")[0]
        if kind in KINDS and (" " in line or kind in WITHOUT_FIELDS):
            last = []
            calls.append(_call(line, lines))
        else:
            last.append(line)
    return calls + [(["setting", name, value], "") for name, value in _settings(last).items()]


def _body(text: str) -> list[str]:
    """The lines between the braces; of a text that saves itself on the machine, the saved lines."""
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines[:6]):
        start = HEREDOC.search(line) if line.startswith("cat >") else None
        if start and start[1] in lines[number + 1 :]:
            return lines[number + 1 : lines.index(start[1], number + 1)]
    return lines[1:-2] if lines[:1] == ["{"] else lines


def _call(line: str, lines: Iterator[str]) -> tuple[list[str], str]:
    """The name of a shell function with its arguments, and the content of its here-document."""
    content = ""
    if start := HEREDOC.search(line):
        line = line[: start.start()]
        for text in lines:
            if text == start[1]:
                break
            content += f"{text}\n"
    return shlex.split(line), content


def _settings(lines: list[str]) -> dict[str, str]:
    """The settings at the beginning of the lines after the last call."""
    settings: dict[str, str] = {}
    rest = 0
    while rest < len(lines) and SETTING.match(lines[rest]):
        # A quoted value may span several lines.
        taken = rest + 1
        while True:
            try:
                (pair,) = shlex.split("\n".join(lines[rest:taken]))
                break
            except ValueError:
                if taken == len(lines):
                    return settings
                taken += 1
        name, _, value = pair.partition("=")
        settings[name] = value
        rest = taken
    return settings
