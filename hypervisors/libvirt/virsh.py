"""Runs virsh, libvirt's own command, to use libvirt without the engine."""

import subprocess
from pathlib import Path

from hypervisors.libvirt.transport import for_virsh
from hypervisors.program import outcome


def ask(
    uri: str, *arguments: str | Path, timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """The outcome of a virsh command; None where it takes longer than ``timeout`` seconds.

    ``uri`` is one of the provider.

    Raises FileNotFoundError where virsh is not installed.
    """
    with for_virsh(uri) as address:
        return outcome(["virsh", "--quiet", "--connect", address, *arguments], timeout=timeout)


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why a virsh command failed, on one line."""
    return " ".join(done.stderr.replace("error:", "").split())
