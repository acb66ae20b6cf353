"""Checks the Kubernetes version, the digests of artifacts, and what add-ons need of each other."""

from collections.abc import Iterator
from difflib import get_close_matches

from spec.artifacts import artifact_rows
from spec.description import Description
from spec.refusal import Refusal, dotted, listed, shown
from spec.versions import UnknownVersion, catalogue, etcd_versions, versions_for


def version_is_in_the_catalogue(spec: Description) -> Iterator[Refusal]:
    """The catalogue has the versions of all components for the Kubernetes version."""
    try:
        versions_for(spec.kubernetes)
    except UnknownVersion:
        known = [versions.kubernetes for versions in catalogue()]
        yield Refusal(
            "kubernetes",
            f"{shown(spec.kubernetes)} is not in the version catalogue",
            "nobody knows which etcd and containerd belong to it",
            f"write {listed(known)}",
        )


def etcd_is_of_a_version_that_fits(spec: Description) -> Iterator[Refusal]:
    """The version of etcd is one with which the API servers work."""
    if spec.etcd.version is None:
        return
    try:
        fitting = etcd_versions(spec.kubernetes)
    except UnknownVersion:
        return  # refused above
    if spec.etcd.version.removeprefix("v") not in fitting:
        yield Refusal(
            "etcd.version",
            f"{shown(spec.etcd.version)} is none of those that go with Kubernetes "
            f"{spec.kubernetes}",
            "nobody has tried the two together",
            f"write {listed(fitting)}, or leave it out",
        )


def digests_are_of_artifacts(spec: Description) -> Iterator[Refusal]:
    """The key of each digest consists of the name of an artifact and a version."""
    names = [row.name for row in artifact_rows()]
    for key in spec.artifacts.digests:
        name, dash, version = key.rpartition("-")
        if name in names and version and version[0].isdigit():
            continue
        near = get_close_matches(name if dash else key, names, n=1)
        yield Refusal(
            dotted(("artifacts", "digests", key)),
            "is no artifact with its version",
            "it would have no effect",
            f"write {near[0] if near else 'its name'}-<version>, such as kubelet-1.37.1",
        )


def notebooks_find_the_hub(spec: Description) -> Iterator[Refusal]:
    """Where people get notebooks, CoreDNS answers."""
    if spec.addons.notebooks and not spec.addons.coredns:
        yield Refusal(
            "addons.notebooks",
            "is on without addons.coredns",
            "people's servers find the hub by its name",
            "write coredns: true, or leave notebooks out",
        )


def logs_find_their_way(spec: Description) -> Iterator[Refusal]:
    """Where logs are kept, CoreDNS answers."""
    if spec.addons.logs and not spec.addons.coredns:
        yield Refusal(
            "addons.logs",
            "is on without addons.coredns",
            "what reads logs finds what keeps them by its name",
            "write coredns: true, or leave logs out",
        )
