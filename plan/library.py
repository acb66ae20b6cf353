"""The shell scripts of all steps, which each machine gets once and every step uses there.

They are the files in ``plan/scripts``. A step's command line contains the digest of those that the
step uses. So a changed script runs exactly its steps again, and a step never runs with scripts of
another version of this program.
"""

import hashlib
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from plan.model import File
from plan.program import FOLDER as PROGRAMS

FOLDER = Path(__file__).with_name("scripts")
PLACE = PROGRAMS
"""The directory on a machine into which the folder is copied."""

NAME = "scripts"
"""Stands in place of a step's name for what is laid down by this module."""

LAY_DOWN = "sh -s"
"""The command line that reads ``laid_down`` from its standard input."""

_FIRST = ("set -eu", "umask 022")

RUNNER = "step"
"""The script that reads a step's data and runs the step."""


def names() -> tuple[str, ...]:
    """The names of all scripts, without ``.sh``, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.sh")))


@cache
def script(name: str) -> str:
    """The text of a script."""
    return (FOLDER / f"{name}.sh").read_text()


def digest(used: Iterable[str]) -> str:
    """The sha256 of these scripts, one after the other, in hexadecimal."""
    return hashlib.sha256("".join(map(script, used)).encode()).hexdigest()


def command(seconds: int, used: Iterable[str]) -> str:
    """The command line that runs a step, whose data it reads from its standard input.

    The step is ended after ``seconds``. ``used`` names the scripts that the step uses.
    """
    every = (RUNNER, *used)
    files = " ".join(f"{name}.sh" for name in every)
    missing = (
        "failed: the scripts of the steps are not on this machine as they were copied to it; "
        f"./hardway pulumi up --replace '**-{NAME}' copies them again, to all machines"
    )
    check = (
        f"cd {PLACE}/{FOLDER.name}; [[ $(cat {files} 2>&1 | sha256sum) = {digest(every)}* ]] || "
        f'{{ echo "{missing}" >&2; exit 1; }}; . ./{RUNNER}.sh'
    )
    return f"timeout -k 10 {seconds} bash -euo pipefail -c {shlex.quote(check)}"


def files() -> tuple[File, ...]:
    """The scripts as files of a machine."""
    return tuple(
        File(path=f"{PLACE}/{FOLDER.name}/{name}.sh", content=script(name), mode=0o644)
        for name in names()
    )


def laid_down() -> str:
    """A text for a machine's shell that brings all scripts there, whatever is there now."""
    lines = [*_FIRST, f"mkdir -p {PLACE}/{FOLDER.name}", f"cd {PLACE}/{FOLDER.name}"]
    for name in names():
        lines += [
            f"printf %s {shlex.quote(script(name))} >.{name}",
            f"mv .{name} {name}.sh",
        ]
    return "\n".join(lines) + "\n"


def lays_down(data: str) -> bool:
    """Whether the data of a command are the scripts, of any version, and not those of a step."""
    return data.startswith("\n".join(_FIRST))
