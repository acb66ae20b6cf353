"""Reads the data of a step back: the reverse of ``plan.render``.

A preview compares the data of a step before and after a change and shows the differences.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from plan import earlier
from plan.records import STEP, Record, parsed
from plan.things import KINDS, artifact, link
from plan.things.kind import Text, of_kind


@dataclass(frozen=True)
class StepContents:
    """The contents of a step, by name or path."""

    files: dict[str, Text] = field(default_factory=dict)
    things: dict[str, dict[str, str]] = field(default_factory=dict)
    """What is no file, by the label of its kind: name to what a preview shows of it."""
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Unit to the paths whose change restarts it."""
    settings: dict[str, str] = field(default_factory=dict)
    not_newer: tuple[str, ...] = ()
    """The API servers that the step waits for, each with the version that it must have."""
    rolls: tuple[str, ...] = ()
    """The paths of programs before whose replacement the node's pods move."""
    shared: tuple[str, ...] = ()
    """Units that only one machine at a time restarts."""
    turns: tuple[str, ...] = ()
    """The endpoints and files with which the step takes its turn, for comparison."""
    outcome: str = ""
    """The last line that the step prints, which follows from the rest of the step."""

    @property
    def artifacts(self) -> dict[str, str]:
        """Name to digest, prefixed with the digest's algorithm."""
        return self.things.get(artifact.KIND.label, {})

    @property
    def links(self) -> dict[str, str]:
        """Path to target."""
        return self.things.get(link.KIND.label, {})


def read(data: str) -> StepContents:
    """The contents of a step's data; empty for any other text.

    Steps of the release before this one are shell scripts and are read as well.
    """
    if data.startswith(f"{STEP}\t"):
        return _contents(parsed(data))
    return _contents(earlier.records(data))


def _contents(records: list[Record]) -> StepContents:
    def of(kind: str) -> Iterator[Record]:
        return of_kind(kind, records)

    settings = {
        name: value[0] if value else content.removesuffix("\n")
        for (name, *value), content in of("setting")
    }
    return StepContents(
        files={path: text for kind in KINDS for path, text in kind.read_files(records).items()},
        things={kind.label: dict(names) for kind in KINDS if (names := kind.read(records))},
        needs={name: tuple(paths) for (name, *paths), _ in of("unit")},
        settings={name: value for name, value in settings.items() if name != "outcome"},
        not_newer=tuple(
            f"{server} {version}"
            for (_, _, version, _, *servers), _ in of("not_newer")
            for server in servers
        ),
        rolls=tuple(
            program.partition("=")[0]
            for (_, _, _, *programs), _ in of("rolls")
            for program in programs
        ),
        shared=tuple(unit for (unit, *_), _ in of("shared")),
        turns=tuple(" ".join(fields) for kind in ("lock_at", "shared") for fields, _ in of(kind)),
        outcome=settings.get("outcome", ""),
    )
