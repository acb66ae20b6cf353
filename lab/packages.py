"""Finds missing Debian packages and installs them, after it has listed them.

This module imports only the standard library, since it is first used to make the virtual
environment.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.paths import LabPaths
from lab.problem import Problem
from lab.process import run
from lab.progress import Progress

SUPPORTED = ("debian", "ubuntu")


def operating_system() -> str:
    """``ID`` and ``ID_LIKE`` of /etc/os-release; Python's platform name without that file."""
    values: dict[str, str] = {}
    try:
        for line in Path("/etc/os-release").read_text().splitlines():
            key, _, value = line.partition("=")
            values[key] = value.strip().strip('"')
    except OSError:
        return sys.platform
    return f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".strip()


def supported_system() -> bool:
    """Whether this system is Debian, Ubuntu or derived from them."""
    return any(name in operating_system().split() for name in SUPPORTED)


def missing(names: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed."""
    wanted = sorted(set(names))
    if not wanted or shutil.which("dpkg-query") is None:
        return wanted
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {
        line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")
    }
    return [name for name in wanted if name not in installed]


def install(reasons: Mapping[str, str], paths: LabPaths, progress: Progress) -> None:
    """Install the missing packages of ``reasons`` (package name to its purpose).

    Lists the packages first, and on a terminal asks for consent. Does not prevent services of a
    package from starting, since ``policy-rc.d`` belongs to the system's administrator. Most of the
    packages are libraries and programs; if a system libvirt starts, the lab uses that. Raises a
    Problem where the system is not supported, this process is not root, the user declines or
    apt-get fails.
    """
    names = missing(reasons)
    if not names:
        return
    if not supported_system():
        raise Problem(
            f"this system ({operating_system()}) has no Debian packages and lacks "
            + ", ".join(names),
            "install them by its own means, or use Debian 12 or later, or Ubuntu 24.04 or later",
        )
    progress.say("Debian packages that are needed and not installed:")
    for name in names:
        progress.say(f"  {name:<24} {reasons[name]}")
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    if os.geteuid() != 0:
        raise Problem(
            f"{len(names)} Debian packages are missing and this is not root",
            f"run the same command with sudo, or first: sudo {' '.join(command)}",
        )
    if sys.stdin.isatty() and sys.stderr.isatty():
        with progress.asking():
            answer = input(f"Install these {len(names)} packages? [Y/n] ").strip().lower()
        if answer not in ("", "y", "yes"):
            raise Problem(
                "the packages were not installed", f"install them yourself: {' '.join(command)}"
            )
    log = paths.logs / "packages.log"
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.task(f"installing {len(names)} Debian packages") as task:
        for arguments, failure in (
            (["apt-get", "update"], "apt-get could not read the package lists"),
            (command, "apt-get could not install the packages"),
        ):
            run(
                arguments,
                log=log,
                task=task,
                environment=environment,
                timeout=1800,
                failure=failure,
            )
