"""The manifest of artifacts: every binary and image archive, and the sources that have it.

Three data files and nothing else say what is in it: ``lab/artifacts.yaml`` (what machines need),
``lab/official.yaml`` (downloads with their digests) and ``lab/recipes/recipes.yaml`` (builds).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, model_validator

from lab.cache import digest_of
from lab.recipe import Recipe, recipes
from spec.versions import Versions, catalogue

Architecture = Literal["amd64", "arm64"]
Origin = Literal["official", "built"]
Runtime = Literal["containerd", "docker"]

ARTIFACTS = Path(__file__).with_name("artifacts.yaml")
OFFICIAL = Path(__file__).with_name("official.yaml")

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Download(BaseModel):
    """One file of an official release, and whose digest is known beforehand."""

    model_config = _FROZEN

    name: str
    family: str
    version: str
    arch: Architecture
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/\S+$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha512: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")] | None = None
    members: Mapping[str, str] = {}
    """Program name to its path in the archive; empty where the file itself is ``name``."""

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if not (self.sha256 or self.sha512):
            raise ValueError(
                f"{self.url} has no digest, so anything could be installed; write its sha256"
            )
        return self

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of what is inside."""
        return tuple(self.members) or (self.name,)


class Image(BaseModel):
    """How an image archive is made from the program of the same name."""

    model_config = _FROZEN

    user: Annotated[str, StringConstraints(pattern=r"^\d+:\d+$")]


class _Row(BaseModel):
    """A row of ``artifacts.yaml``."""

    model_config = _FROZEN

    name: str
    component: str
    family: str = ""
    runtime: Runtime | None = None
    image: Image | None = None


class Source(BaseModel):
    """One place that has an artifact."""

    model_config = _FROZEN

    origin: Origin
    location: str
    """The URL of the download, or the recipe's directory."""
    sha256: str | None
    """Of the download as a whole; what a recipe gives is known once it is built."""


class Artifact(BaseModel):
    """One binary or image archive for one architecture, with its sources in order of preference."""

    model_config = _FROZEN

    name: str
    kind: Literal["binary", "image"]
    family: str
    version: str
    architecture: Architecture
    sources: tuple[Source, ...]
    image: Image | None = None

    @property
    def reference(self) -> str:
        """The name under which a container runtime knows the image."""
        return f"hardway.local/{self.name}:{self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@cache
def downloads() -> tuple[Download, ...]:
    """Every official download."""
    return TypeAdapter(tuple[Download, ...]).validate_python(yaml.safe_load(OFFICIAL.read_text()))


def downloads_of(family: str, version: str, architecture: str) -> tuple[Download, ...]:
    """The downloads that together hold a family of programs."""
    return tuple(
        row
        for row in downloads()
        if (row.family, row.version, row.arch) == (family, version, architecture)
    )


def downloads_key(rows: tuple[Download, ...]) -> str:
    """The identity of what these downloads give."""
    return digest_of(["official", [row.model_dump(mode="json") for row in rows]])


def recipe_of(family: str, version: str) -> Recipe | None:
    """The recipe that builds a family of programs, if there is one."""
    rows = (row for row in recipes() if (row.family, row.version) == (family, version))
    return next(rows, None)


@cache
def _rows() -> tuple[_Row, ...]:
    return TypeAdapter(tuple[_Row, ...]).validate_python(yaml.safe_load(ARTIFACTS.read_text()))


def needed(runtime: Runtime = "containerd") -> tuple[str, ...]:
    """The names of the artifacts that machines with this runtime need, in the manifest's order."""
    return tuple(row.name for row in _rows() if row.runtime in (None, runtime))


def artifacts(
    versions: Versions, architecture: Architecture, runtime: Runtime | None = None
) -> tuple[Artifact, ...]:
    """The artifacts of a stack: those of one runtime, or all."""
    names = needed(runtime) if runtime else tuple(row.name for row in _rows())
    return tuple(_artifact(row, versions, architecture) for row in _rows() if row.name in names)


@cache
def manifest() -> tuple[Artifact, ...]:
    """Every artifact of every stack in the catalogue, for both architectures, each once."""
    every = (
        artifact
        for versions in catalogue()
        for architecture in get_args(Architecture)
        for artifact in artifacts(versions, architecture)
    )
    return tuple({(a.name, a.version, a.architecture): a for a in every}.values())


def _artifact(row: _Row, versions: Versions, architecture: Architecture) -> Artifact:
    family = row.family or row.component
    version = str(getattr(versions, row.component))
    official = [
        Source(origin="official", location=download.url, sha256=download.sha256)
        for download in downloads_of(family, version, architecture)
        if row.name in download.programs
    ]
    recipe = recipe_of(family, version)
    built = [
        Source(origin="built", location=f"lab/recipes/{recipe.directory}", sha256=None)
        for recipe in ([recipe] if recipe else [])
        if row.name in recipe.programs
    ]
    return Artifact(
        name=row.name,
        kind="image" if row.image else "binary",
        family=family,
        version=version,
        architecture=architecture,
        sources=(*official, *built),
        image=row.image,
    )
