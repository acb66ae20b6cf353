"""The stacks of the catalogue fit together, and cover what is supported."""

import pytest

from spec.artifacts import artifact_row, artifact_rows, needed
from spec.change import refused_changes
from spec.cluster import parse
from spec.downloads import downloads
from spec.versions import UnknownVersion, Versions, catalogue, etcd_versions, versions_for


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def cluster(versions: Versions) -> object:
    return parse(
        {
            "kubernetes": versions.kubernetes,
            "networks": {"machines": "192.168.1.0/24"},
            "machines": {"master": {"address": "192.168.1.10"}},
        },
        name="dev",
    )


def test_the_supported_minor_versions_are_there_the_newest_first() -> None:
    numbers = [number(versions.kubernetes) for versions in catalogue()]
    assert numbers == sorted(numbers, reverse=True)
    assert {version[:2] for version in numbers} == {(1, 37), (1, 36), (1, 35)}
    assert catalogue()[0].kubernetes == "1.37.1"


def test_each_minor_version_has_the_etcd_that_it_was_made_for() -> None:
    """Kubernetes' own table: 1.34-1.36 with 3.6, 1.37 with 3.7 (kubernetes#139427)."""
    for versions in catalogue():
        minor = number(versions.kubernetes)[1]
        assert number(versions.etcd)[:2] == ((3, 7) if minor >= 37 else (3, 6))
        assert number(versions.etcd) >= (3, 6, 11)


def test_each_stack_has_a_containerd_that_is_maintained_and_no_pre_2() -> None:
    for versions in catalogue():
        assert number(versions.containerd) >= (2, 3, 0)


def test_every_stack_can_be_reached_from_the_oldest_by_refused_changes_rules() -> None:
    """Going up minor by minor, by any patch of each, is always taken."""
    by_minor: dict[int, list[Versions]] = {}
    for versions in catalogue():
        by_minor.setdefault(number(versions.kubernetes)[1], []).append(versions)
    for minor, stacks in by_minor.items():
        for before in stacks:
            for after in by_minor.get(minor + 1, []):
                assert refused_changes(cluster(before), cluster(after)) == ()  # type: ignore[arg-type]


def test_official_kubernetes_programs_are_complete() -> None:
    """A release of which one program is missing would be half downloaded and half built."""
    programs = {row.name for row in artifact_rows() if row.component == "kubernetes"}
    by_release: dict[tuple[str, str], set[str]] = {}
    for row in downloads():
        if row.family == "kubernetes":
            by_release.setdefault((row.version, row.arch), set()).update(row.programs)
    for release, there in by_release.items():
        assert there == programs, release
    for version, _ in by_release:
        assert {(version, "amd64"), (version, "arm64")} <= by_release.keys()


def test_the_table_of_artifacts_is_ordered_by_runtime() -> None:
    assert artifact_row("bridge").family == "cni-plugins"
    assert artifact_row("kubelet").family == "kubernetes"
    assert artifact_row("pause").kind == "image"
    assert set(needed("containerd")) ^ set(needed("docker")) == {
        *("containerd", "ctr", "containerd-shim-runc-v2", "runc", "cri-dockerd")
    }


def test_etcd_goes_with_its_kubernetes_and_with_the_one_after() -> None:
    assert etcd_versions("1.37.1") == etcd_versions("v1.37.0") == ("3.7.1", "3.6.14")
    assert etcd_versions("1.36.4") == etcd_versions("1.35.1") == ("3.6.14",)


def test_a_leading_v_is_understood() -> None:
    assert versions_for("v1.36.4") == versions_for("1.36.4")
    with pytest.raises(UnknownVersion):
        versions_for("vv1.36.4")
