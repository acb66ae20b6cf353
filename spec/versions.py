"""The version catalogue: which version of every component belongs to a Kubernetes version."""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from spec.document import load_yaml

CATALOGUE = Path(__file__).with_name("versions.yaml")

Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]


class UnknownVersion(ValueError):
    """A version that the catalogue does not hold, told with those it does."""


class Versions(BaseModel):
    """One version of every component: a stack that fits together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kubernetes: Version
    etcd: Version
    containerd: Version
    runc: Version
    cni_plugins: Version
    flannel: Version
    coredns: Version
    cri_dockerd: Version
    pause: Version


@cache
def catalogue() -> tuple[Versions, ...]:
    """Every known stack, the default one first."""
    rows = load_yaml(CATALOGUE.read_text(), CATALOGUE.name)
    return TypeAdapter(tuple[Versions, ...]).validate_python(rows)


def versions_for(kubernetes: str | None = None) -> Versions:
    """The stack of a Kubernetes version (with or without a leading ``v``), or the default one.

    Raises UnknownVersion.
    """
    if kubernetes is None:
        return catalogue()[0]
    for versions in catalogue():
        if versions.kubernetes == kubernetes.removeprefix("v"):
            return versions
    known = ", ".join(versions.kubernetes for versions in catalogue())
    raise UnknownVersion(
        f"Kubernetes {kubernetes} is not in the version catalogue: write one of {known}"
    )
