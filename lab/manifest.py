"""The manifest of artifacts: every binary and image archive with its sources.

Its content comes from four data files only: ``spec/artifacts.yaml`` (what machines need),
``spec/official.yaml`` (downloads with their digests), ``lab/published.yaml`` (downloads whose
publishers state the digest, which ``pins.yaml`` records) and ``lab/recipes/recipes.yaml`` (builds).
"""

from collections.abc import Collection
from functools import cache
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from lab.cache import digest_of
from lab.published import noted_downloads, published_of
from lab.recipe import Recipe, recipes
from spec.artifacts import (
    DEFAULT_ADDONS,
    ArtifactRow,
    Image,
    Runtime,
    artifact_rows,
    image_reference,
    needed,
)
from spec.downloads import Architecture, Download, downloads_of
from spec.versions import Versions, catalogue

Origin = Literal["official", "built"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Source(BaseModel):
    """One source of an artifact: a download or a build."""

    model_config = _FROZEN

    origin: Origin
    location: str
    """The URL of the download, or the recipe's directory."""
    sha256: str | None
    """The sha256 of the whole download, where it is known beforehand; never known for a build."""


class ManifestArtifact(BaseModel):
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
        return image_reference(self.name, self.version)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def official_downloads(family: str, version: str, architecture: str) -> tuple[Download, ...]:
    """The downloads of a family with known digests, from spec/official.yaml or else pins.yaml."""
    known = downloads_of(family, version, architecture)
    return known or noted_downloads(family, version, architecture)


def downloads_key(rows: tuple[Download, ...]) -> str:
    """The key of the receipt of these downloads."""
    return digest_of(["official", [row.model_dump(mode="json") for row in rows]])


def recipe_of(family: str, version: str) -> Recipe | None:
    """The recipe that builds a family of programs at a version, or None."""
    rows = (row for row in recipes() if (row.family, row.version) == (family, version))
    return next(rows, None)


def artifacts(
    versions: Versions,
    architecture: Architecture,
    runtime: Runtime | None = None,
    addons: Collection[str] = DEFAULT_ADDONS,
) -> tuple[ManifestArtifact, ...]:
    """The artifacts of a stack: those that ``runtime`` and ``addons`` need.

    All of them where ``runtime`` is None.
    """
    rows = artifact_rows()
    names = needed(runtime, addons) if runtime else tuple(row.name for row in rows)
    return tuple(_artifact(row, versions, architecture) for row in rows if row.name in names)


@cache
def manifest() -> tuple[ManifestArtifact, ...]:
    """Every artifact of every stack in the catalogue, for both architectures, each once."""
    every = (
        artifact
        for versions in catalogue()
        for architecture in get_args(Architecture)
        for artifact in artifacts(versions, architecture)
    )
    return tuple({(a.name, a.version, a.architecture): a for a in every}.values())


def _artifact(row: ArtifactRow, versions: Versions, architecture: Architecture) -> ManifestArtifact:
    family, version = row.family, row.version(versions)
    official = [
        Source(origin="official", location=download.url, sha256=download.sha256)
        for download in downloads_of(family, version, architecture)
        if row.name in download.programs
    ]
    published = [
        Source(origin="official", location=download.url, sha256=None)
        for download in published_of(family, version, architecture)
        if row.name in download.programs
    ]
    recipe = recipe_of(family, version)
    built = [
        Source(origin="built", location=f"lab/recipes/{recipe.directory}", sha256=None)
        for recipe in ([recipe] if recipe else [])
        if row.name in recipe.programs
    ]
    return ManifestArtifact(
        name=row.name,
        kind=row.kind,
        family=family,
        version=version,
        architecture=architecture,
        sources=(*official, *published, *built),
        image=row.image,
    )
