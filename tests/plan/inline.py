"""The scripts of the steps on this computer, and their functions for a text of a test's own."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from plan import library
from plan.library import script
from plan.limits import HARD, LIMITS
from plan.render import waits


def functions(*names: str, before: str = "") -> str:
    """The functions of these scripts, with the limits that they and the text after them use."""
    text = "\n".join(map(script, names))
    used = {wait for wait in waits(f"{text}\n{before}") if not wait.isdecimal()}
    if unknown := used - LIMITS.keys():
        raise ValueError(f"plan/limits.py has no limit {', '.join(sorted(unknown))}")
    limits = " ".join(f"[{name}]={limit.seconds}" for name, limit in LIMITS.items() if name in used)
    return "\n".join([script("pace"), f"hard={HARD}", f"declare -A limits=({limits})\n", text])


def run_step(
    data: str, folder: Path, here: Callable[[str], str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a step on this computer, with scripts and data that name other paths (``here``)."""
    scripts = folder / "scripts"
    scripts.mkdir(exist_ok=True)
    for name in library.names():
        (scripts / f"{name}.sh").write_text(here(library.script(name)))
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". ./{library.RUNNER}.sh"],
        cwd=scripts,
        input=here(data),
        capture_output=True,
        text=True,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
