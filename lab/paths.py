"""The directories that Hardway uses, by the XDG base directory specification.

There are three directories with three lifetimes. The *cache* can be deleted at any time and is made
again. The *state* of a lab (Pulumi's state, disks, keys) cannot be made again. The *run* directory
holds sockets and PID files and does not survive a reboot.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.problem import Problem

PROJECT = Path(__file__).resolve().parent.parent


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification asks programs to ignore a relative path.
    return (Path(value) if value.startswith("/") else Path.home() / default) / "hardway"


def cache_directory() -> Path:
    """The cache shared by all checkouts of this user: ``$XDG_CACHE_HOME/hardway``."""
    return _xdg("XDG_CACHE_HOME", ".cache")


@dataclass(frozen=True)
class LabPaths:
    """The directories of one lab. Several labs may exist side by side under different names."""

    name: str
    state: Path
    run: Path

    @property
    def namespace(self) -> str:
        """The name of the lab's network namespace."""
        return f"hardway-{self.name}"

    @property
    def backend(self) -> Path:
        """The directory in which Pulumi keeps the states of the lab's stacks."""
        return self.state / "pulumi"

    @property
    def pool(self) -> Path:
        """The directory for the disks of all machines of the private libvirt."""
        return self.state / "disks"

    @property
    def libvirt(self) -> Path:
        """The runtime directory of the lab's private libvirt, with its sockets and PID files."""
        return self.run / "libvirt"

    @property
    def logs(self) -> Path:
        return self.state / "logs"


def lab_paths() -> LabPaths:
    """The directories of the lab that ``$HARDWAY_LAB`` names (default ``lab``).

    The name has at most 8 lower-case letters, digits and inner dashes, and starts with a letter.
    Raises a Problem where it is not such a name.
    """
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
