"""The architecture of this host, for which programs and images are made."""

import platform

from lab.problem import Problem


def architecture() -> str:
    """Go's name of this host's architecture. Raises a Problem if it is not amd64 or arm64."""
    names = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine()
    if machine not in names:
        raise Problem(f"the processor architecture is {machine}", "use an amd64 or arm64 machine")
    return names[machine]
