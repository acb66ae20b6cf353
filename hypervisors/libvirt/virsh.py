"""Runs virsh, libvirt's own command, to use libvirt without the engine."""

import os
import subprocess
from pathlib import Path

from hypervisors.libvirt.transport import for_virsh


def ask(
    uri: str, *arguments: str | Path, timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """The outcome of a virsh command; None where it takes longer than ``timeout`` seconds.

    ``uri`` is one of the provider.

    Raises FileNotFoundError where virsh is not installed.
    """
    try:
        with for_virsh(uri) as address:
            return subprocess.run(
                ["virsh", "--quiet", "--connect", address, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
    except subprocess.TimeoutExpired:
        return None
