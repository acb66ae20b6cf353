"""The official downloads: the files of releases that contain programs, with their digests."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, model_validator

from spec.document import load_yaml

Architecture = Literal["amd64", "arm64"]

OFFICIAL = Path(__file__).with_name("official.yaml")


class Download(BaseModel):
    """A file of an official release, with a digest that is known before the download."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    version: str
    arch: Architecture
    url: Annotated[
        str, StringConstraints(pattern=r"^(https?://[^/\s]+/\S+|pkg:pypi/[a-z\d.-]+@[\w.]+)$")
    ]
    """Where the file is: a URL, or the name and version of a Python package (a package URL) whose
    wheel for the architecture it is."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha512: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")] | None = None
    members: Mapping[str, str] = {}
    """The paths of programs in the archive by name; empty if the file is the program ``name``."""

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if not (self.sha256 or self.sha512) or (self.requirement and not self.sha256):
            raise ValueError(
                f"{self.url} has no digest, so anything could be installed; write its sha256"
            )
        return self

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs in the file."""
        return tuple(self.members) or (self.name,)

    @property
    def requirement(self) -> str:
        """The package and its version as pip's requirement; empty where the file has a URL."""
        name = self.url.removeprefix("pkg:pypi/")
        return name.replace("@", "==") if name != self.url else ""


@cache
def downloads() -> tuple[Download, ...]:
    """Every official download."""
    rows = load_yaml(OFFICIAL.read_text(), OFFICIAL.name)
    return TypeAdapter(tuple[Download, ...]).validate_python(rows)


def downloads_of(family: str, version: str, architecture: str) -> tuple[Download, ...]:
    """The downloads that together contain a family of programs."""
    return tuple(
        row
        for row in downloads()
        if (row.family, row.version, row.arch) == (family, version, architecture)
    )
