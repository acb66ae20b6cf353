"""What is put on machines: the table of programs and image archives that the lab and plan share."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from spec.document import load_yaml
from spec.versions import Versions

Runtime = Literal["containerd", "docker"]

ARTIFACTS = Path(__file__).with_name("artifacts.yaml")

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Image(BaseModel):
    """How an image archive is made from the program of the same name."""

    model_config = _FROZEN

    user: Annotated[str, StringConstraints(pattern=r"^\d+:\d+$")]


class ArtifactRow(BaseModel):
    """A program or an image archive, and what gives its version."""

    model_config = _FROZEN

    name: str
    component: str
    """The field of ``Versions`` with the version."""
    family: str = Field(default_factory=lambda row: row["component"])
    """What recipes and official downloads call the component."""
    runtime: Runtime | None = None
    """Only machines with this runtime need it."""
    image: Image | None = None

    @property
    def kind(self) -> Literal["binary", "image"]:
        return "image" if self.image else "binary"

    def version(self, versions: Versions) -> str:
        """The version in a stack."""
        return str(getattr(versions, self.component))


@cache
def artifact_rows() -> tuple[ArtifactRow, ...]:
    """Every program and image archive."""
    rows = load_yaml(ARTIFACTS.read_text(), ARTIFACTS.name)
    return TypeAdapter(tuple[ArtifactRow, ...]).validate_python(rows)


@cache
def artifact_row(name: str) -> ArtifactRow:
    """The row of this name. Raises KeyError."""
    return {row.name: row for row in artifact_rows()}[name]


def needed(runtime: Runtime = "containerd") -> tuple[str, ...]:
    """The names of the artifacts that machines with this runtime need, in the table's order."""
    return tuple(row.name for row in artifact_rows() if row.runtime in (None, runtime))


def image_reference(name: str, version: str) -> str:
    """The name under which a container runtime knows an image."""
    return f"hardway.local/{name}:{version}"
