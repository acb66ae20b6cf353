"""How libvirt is spoken to: by its own virsh, without the engine."""

import os
import subprocess
from pathlib import Path


def ask(uri: str, *words: str | Path, timeout: float) -> subprocess.CompletedProcess[str] | None:
    """What became of a virsh command; nothing where there is no answer in ``timeout`` seconds.

    Raises FileNotFoundError where there is no virsh.
    """
    try:
        return subprocess.run(
            ["virsh", "--quiet", "--connect", uri, *map(str, words)],
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
