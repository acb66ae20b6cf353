"""The version catalogue: the version of every component for each Kubernetes version."""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from spec.document import load_yaml

CATALOGUE = Path(__file__).with_name("versions.yaml")

Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]


class UnknownVersion(ValueError):
    """The catalogue does not have the version; the text names those that it has."""


class Versions(BaseModel):
    """The versions of a stack: one version of every component, which work together."""

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
    local_path_provisioner: Version
    volume_folder: Version
    kube_network_policies: Version
    metallb: Version
    metrics_server: Version
    victoria_metrics: Version
    node_exporter: Version
    node_problem_detector: Version
    victoria_logs: Version
    journal_sender: Version
    traefik: Version
    headlamp: Version
    jupyterhub: Version


@cache
def catalogue() -> tuple[Versions, ...]:
    """The versions of every known stack, the default stack first."""
    rows = load_yaml(CATALOGUE.read_text(), CATALOGUE.name)
    return TypeAdapter(tuple[Versions, ...]).validate_python(rows)


def etcd_versions(kubernetes: str) -> tuple[str, ...]:
    """The versions of etcd with which a Kubernetes version of the catalogue works, its own first.

    The others come with the Kubernetes minor version before, whose API servers meet this one's
    during an upgrade. Raises UnknownVersion.
    """
    own = versions_for(kubernetes)
    before = [
        versions.etcd
        for versions in catalogue()
        if minor_of(own.kubernetes) - minor_of(versions.kubernetes) in (0, 1)
    ]
    return tuple(dict.fromkeys((own.etcd, *before)))


def is_older(version: str, reference: str) -> bool:
    """Whether a version is of an earlier minor version than another one."""
    return parsed(version)[:2] < parsed(reference)[:2]


def parsed(version: str) -> tuple[int, ...]:
    """The numbers of a version, with or without a leading ``v``."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def minor_of(version: str) -> int:
    """The second number of a version."""
    return parsed(version)[1]


def versions_for(kubernetes: str | None = None) -> Versions:
    """The versions for a Kubernetes version (with or without a leading ``v``), or the default.

    Raises UnknownVersion where the catalogue does not have that version.
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
