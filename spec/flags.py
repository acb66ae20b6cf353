"""The flags that the programs of the stack accept, recorded from their own ``--help``.

A program does not start with an unknown flag, and the known flags change from one minor version to
the next. ``spec/flags`` has a list for each program and minor version, with one flag on each line.
``python -m lab.recorded_flags`` writes the lists from the programs in the artifact store.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

RECORDED = Path(__file__).with_name("flags")
_DEPRECATED = " deprecated"


class UnrecordedProgram(LookupError):
    """A program or version has no list; the text names those that have one."""


def known_flags(program: str, version: str) -> frozenset[str]:
    """The flags, without dashes, that a program of this minor version accepts.

    They include deprecated flags that the program's help still shows. Raises UnrecordedProgram.
    """
    return frozenset(_recorded(program, minor_of(version)))


def deprecated_flags(program: str, version: str) -> frozenset[str]:
    """The known flags that the program's help calls deprecated."""
    lines = _recorded(program, minor_of(version))
    return frozenset(name for name, deprecated in lines.items() if deprecated)


def minor_of(version: str) -> str:
    """The minor version, such as ``1.37`` of ``1.37.1``; only it decides the set of flags."""
    return ".".join(version.removeprefix("v").split(".")[:2])


def list_file(program: str, version: str) -> Path:
    """The file with the list of a program and minor version."""
    return RECORDED / f"{program}-{minor_of(version)}.txt"


def as_text(known: Iterable[str], deprecated: Iterable[str]) -> str:
    """The content of a list's file."""
    marks = dict.fromkeys(deprecated, _DEPRECATED)
    return "".join(f"{name}{marks.get(name, '')}\n" for name in sorted(known))


@cache
def _recorded(program: str, minor: str) -> dict[str, bool]:
    """The names of the recorded flags, each with whether it is deprecated."""
    file = list_file(program, minor)
    if not file.is_file():
        every = sorted(path.stem for path in RECORDED.glob("*.txt"))
        raise UnrecordedProgram(
            f"no flags of {program} {minor} are recorded, only of {', '.join(every)}: put the "
            "program into the artifact store and run python -m lab.recorded_flags"
        )
    lines = file.read_text().splitlines()
    return {line.removesuffix(_DEPRECATED): line.endswith(_DEPRECATED) for line in lines}
