"""Parses the text of a step that a machine's shell runs: the reverse of ``plan.render``.

A preview compares two texts of a step, of which the old one may come from an older version of this
program, and shows the differences.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

HEREDOC = re.compile(r" <<'(END(?:-END)*)'$")
SETTING = re.compile(r"[a-z_]+=")
SAYS_OUTCOME = 'echo "$outcome"'
FLAGS = frozenset({"alone", "unpacked", "in_place", "settle"})
"""Shell functions that a step's text calls without arguments."""
WORDS = FLAGS | {
    *("packages", "user", "artifact", "archived", "directory", "file", "secret", "link"),
    *("masked", "unit", "not_newer", "member", "lock_at", "shared"),
}


@dataclass(frozen=True)
class Text:
    """A file or unit with its content."""

    content: str
    mode: str = ""
    """Mode and owner, such as ``0600 root:root``."""


@dataclass(frozen=True)
class Told:
    """The content of a step's text, by name or path."""

    files: dict[str, Text] = field(default_factory=dict)
    units: dict[str, Text] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Unit to the paths whose change restarts it."""
    links: dict[str, str] = field(default_factory=dict)
    directories: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    """Name to digest, prefixed with the digest's algorithm."""
    packages: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    not_newer: tuple[str, ...] = ()
    """The API servers that the step waits for, each with the version that it must have."""
    shared: tuple[str, ...] = ()
    """Units that only one machine at a time restarts."""
    turns: tuple[str, ...] = ()
    """The endpoints and files with which the step takes its turn, for comparison."""
    script: str = ""
    """The step's own script, at the end of the text."""
    outcome: str = ""
    """The last line that the step prints, which follows from the rest of the step."""
    words: str = ""
    """The beginning of the text: the shell functions that the rest of the text calls."""


def read(text: str) -> Told:
    """Parse a step's text. For any other text, the result has a script and nothing else."""
    lines = iter(_body(text))
    said: list[tuple[list[str], str]] = []
    first: list[str] = []
    last: list[str] = []
    for line in lines:
        word = line.partition(" ")[0]
        if word in WORDS and (" " in line or word in FLAGS):
            first, last = first or last, []
            said.append(_word(line, lines))
        else:
            last.append(line)
    settings, script = _ending(last)
    return _told(said, settings, script, _block(first))


def _body(text: str) -> list[str]:
    """The lines between the braces; of a text that saves itself on the machine, the saved lines."""
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines[:6]):
        start = HEREDOC.search(line) if line.startswith("cat >") else None
        if start and start[1] in lines[number + 1 :]:
            return lines[number + 1 : lines.index(start[1], number + 1)]
    return lines[1:-2] if lines[:1] == ["{"] else lines


def _word(line: str, lines: Iterator[str]) -> tuple[list[str], str]:
    """The name of a shell function with its arguments, and the content of its here-document."""
    content = ""
    if start := HEREDOC.search(line):
        line = line[: start.start()]
        for each in lines:
            if each == start[1]:
                break
            content += f"{each}\n"
    return shlex.split(line), content


def _ending(lines: list[str]) -> tuple[dict[str, str], str]:
    """The settings, and the script that follows them."""
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
                    return settings, _block(lines[rest:])
                taken += 1
        name, _, value = pair.partition("=")
        settings[name] = value
        rest = taken
    return settings, _block(lines[rest:])


def _block(lines: list[str]) -> str:
    return "\n".join(lines).strip("\n")


def _told(
    said: list[tuple[list[str], str]], settings: dict[str, str], script: str, words: str
) -> Told:
    def of(word: str) -> Iterator[tuple[list[str], str]]:
        return ((line[1:], content) for line, content in said if line[0] == word)

    def listed(word: str) -> tuple[str, ...]:
        return tuple(name for names, _ in of(word) for name in names)

    return Told(
        files={
            path: Text(content, f"{mode} {owner}")
            for word in ("file", "secret")
            for (mode, owner, path), content in of(word)
        },
        units={name: Text(content) for (name, *_), content in of("unit")},
        needs={name: tuple(paths) for (name, *paths), _ in of("unit")},
        links={path: target for (path, target), _ in of("link")},
        directories={path: f"{mode} {owner}" for (mode, owner, path), _ in of("directory")},
        artifacts={name: f"sha256:{digest}" for (name, digest, *_), _ in of("artifact")}
        | {name: digest for (name, digest, *_), _ in of("archived")},
        packages=listed("packages"),
        users=listed("user"),
        masked=listed("masked"),
        settings={name: value for name, value in settings.items() if name != "outcome"},
        not_newer=tuple(
            f"{server} {version}"
            for (_, _, version, _, *servers), _ in of("not_newer")
            for server in servers
        ),
        shared=tuple(unit for (unit, *_), _ in of("shared")),
        turns=tuple(" ".join(words) for word in ("lock_at", "shared") for words, _ in of(word)),
        script=_block(script.removesuffix(SAYS_OUTCOME).split("\n")),
        outcome=settings.get("outcome", ""),
        words=words,
    )
