"""Where things live on the machine, by the XDG base directory specification.

Three places with three lifetimes: the *cache* can be deleted at any time and is made again, the
*state* of a lab (Pulumi's state, disks, keys) is what a person would miss, and the *run* directory
holds sockets and pid files and is gone after a reboot.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.problem import Problem

PROJECT = Path(__file__).resolve().parent.parent


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification asks to ignore a relative path.
    return (Path(value) if value.startswith("/") else Path.home() / default) / "hardway"


def cache_directory() -> Path:
    """The cache shared by all checkouts of this user: ``$XDG_CACHE_HOME/hardway``."""
    return _xdg("XDG_CACHE_HOME", ".cache")


@dataclass(frozen=True)
class LabPaths:
    """The directories of one lab. Several labs live side by side under different names."""

    name: str
    state: Path
    run: Path

    @property
    def namespace(self) -> str:
        """The name of the lab's network namespace."""
        return f"hardway-{self.name}"

    @property
    def backend(self) -> Path:
        """Where Pulumi keeps the state of the lab's stacks."""
        return self.state / "pulumi"

    @property
    def pool(self) -> Path:
        """The directory of the disks of all machines."""
        return self.state / "disks"

    @property
    def libvirt(self) -> Path:
        """What the lab's private libvirt has for as long as it runs: sockets and pid files."""
        return self.run / "libvirt"

    @property
    def logs(self) -> Path:
        return self.state / "logs"


def lab_paths() -> LabPaths:
    """The lab named by ``$HARDWAY_LAB`` (default ``lab``): at most 8 letters, digits or dashes."""
    name = os.environ.get("HARDWAY_LAB", "") or "lab"
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", name):
        raise Problem(
            f"HARDWAY_LAB is '{name}'",
            "use at most 8 lower-case letters, digits and inner dashes, starting with a letter",
        )
    return LabPaths(
        name=name,
        state=_xdg("XDG_STATE_HOME", ".local/state") / name,
        run=Path("/run/hardway") / name,
    )
