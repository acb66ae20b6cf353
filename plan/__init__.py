"""What every machine must hold."""

from pathlib import Path


def script(name: str) -> str:
    """The text of a script of ``plan/scripts``, to be run by ``bash -euo pipefail -s``."""
    return (Path(__file__).parent / "scripts" / f"{name}.sh").read_text()
