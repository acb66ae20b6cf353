"""Reads the data of a step back: the reverse of ``plan.render``.

A preview compares the data of a step before and after a change and shows the differences.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from plan import earlier
from plan.render import INDENT, STEP


@dataclass(frozen=True)
class Text:
    """A file or unit with its content."""

    content: str
    mode: str = ""
    """Mode and owner, such as ``0600 root:root``."""


@dataclass(frozen=True)
class StepContents:
    """The contents of a step, by name or path."""

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
    outcome: str = ""
    """The last line that the step prints, which follows from the rest of the step."""


Record = tuple[list[str], str]
"""The fields of a record, and its content."""


def read(data: str) -> StepContents:
    """The contents of a step's data; empty for any other text.

    Steps of the release before this one are shell scripts and are read as well.
    """
    if data.startswith(f"{STEP}\t"):
        return _contents(_records(data))
    return _contents(earlier.records(data))


def _records(data: str) -> list[Record]:
    records: list[Record] = []
    for line in data.removesuffix("\n").split("\n"):
        if line.startswith(INDENT) and records:
            fields, content = records[-1]
            records[-1] = fields, f"{content}{line.removeprefix(INDENT)}\n"
        else:
            records.append((line.split("\t"), ""))
    return records


def _contents(records: list[Record]) -> StepContents:
    def of(kind: str) -> Iterator[Record]:
        return ((fields[1:], content) for fields, content in records if fields[0] == kind)

    def listed(kind: str) -> tuple[str, ...]:
        return tuple(name for names, _ in of(kind) for name in names)

    settings = {
        name: value[0] if value else content.removesuffix("\n")
        for (name, *value), content in of("setting")
    }
    return StepContents(
        files={
            path: Text(content, f"{mode} {owner}")
            for kind in ("file", "secret")
            for (mode, owner, path), content in of(kind)
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
        turns=tuple(" ".join(fields) for kind in ("lock_at", "shared") for fields, _ in of(kind)),
        outcome=settings.get("outcome", ""),
    )
