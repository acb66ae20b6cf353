"""The table of programs and image archives for machines, which the lab and the plan share."""

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from spec.description import Addons
from spec.document import load_yaml
from spec.versions import Versions

Runtime = Literal["containerd", "docker"]

DEFAULT_ADDONS = Addons().enabled
"""The add-ons that are on where a stack's file says nothing of them."""

ARTIFACTS = Path(__file__).with_name("artifacts.yaml")

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Image(BaseModel):
    """How an image archive is made from the program, or the root, of the same name."""

    model_config = _FROZEN

    user: Annotated[str, StringConstraints(pattern=r"^\d+:\d+$")]
    stop_signal: Literal["SIGINT"] | None = None
    """The signal that asks the program to end; SIGTERM where it is None."""
    root: Mapping[str, str] | None = None
    """Says that the image is made from a whole root file system: the environment of what a pod runs
    in it. Such an image has no command of its own."""


class ArtifactRow(BaseModel):
    """A program or an image archive, and the component that determines its version."""

    model_config = _FROZEN

    name: str
    component: str
    """The field of ``Versions`` with the version."""
    family: str = Field(default_factory=lambda row: row["component"])
    """The name of the component in recipes and official downloads."""
    runtime: Runtime | None = None
    """The runtime whose machines need the artifact; None where all machines need it."""
    addon: str | None = None
    """The add-on that needs the artifact, by its field in the spec; None where all clusters do."""
    image: Image | None = None

    @property
    def kind(self) -> Literal["binary", "image"]:
        return "image" if self.image else "binary"

    def version(self, versions: Versions) -> str:
        """The artifact's version among the versions of a stack."""
        return str(getattr(versions, self.component))


@cache
def artifact_rows() -> tuple[ArtifactRow, ...]:
    """Every program and image archive."""
    rows = load_yaml(ARTIFACTS.read_text(), ARTIFACTS.name)
    return TypeAdapter(tuple[ArtifactRow, ...]).validate_python(rows)


@cache
def artifact_row(name: str) -> ArtifactRow:
    """The row of this name. Raises KeyError where there is none."""
    return {row.name: row for row in artifact_rows()}[name]


def needed(
    runtime: Runtime = "containerd", addons: Collection[str] = DEFAULT_ADDONS
) -> tuple[str, ...]:
    """The names of the artifacts that machines of a cluster need, in the table's order.

    ``addons`` are those that are on, by their fields in the spec.
    """
    return tuple(
        row.name
        for row in artifact_rows()
        if row.runtime in (None, runtime) and (row.addon is None or row.addon in addons)
    )


def image_reference(name: str, version: str) -> str:
    """The name of an image in the container runtime."""
    return f"hardway.local/{name}:{version}"
