"""Small programs of this project for machines, each a file in ``plan/files``."""

from functools import cache
from pathlib import Path

from plan.model import File

FOLDER = "/usr/local/lib/hardway"


@cache
def program(name: str) -> File:
    """The program of this name, which all users may run."""
    text = (Path(__file__).with_name("files") / name).read_text()
    return File(path=f"{FOLDER}/{name}", content=text, mode=0o755)
