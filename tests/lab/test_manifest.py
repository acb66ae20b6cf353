"""The manifest is complete, pinned and without contradictions; its four data files agree."""

from collections import Counter
from typing import get_args

import pytest
from pydantic import ValidationError

from lab.manifest import artifacts, manifest, recipe_of
from lab.published import published
from spec.artifacts import Runtime, needed
from spec.downloads import Architecture, Download, downloads
from spec.versions import UnknownVersion, Versions, catalogue, versions_for

EVERYWHERE = {
    *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    *("kubectl", "etcd", "etcdctl", "etcdutl", "flanneld", "coredns", "pause"),
    *("bridge", "host-local", "loopback", "portmap"),
}
CONTAINERD = {"containerd", "ctr", "containerd-shim-runc-v2", "runc"}


def test_a_machine_needs_what_its_runtime_needs() -> None:
    assert set(needed("containerd")) == EVERYWHERE | CONTAINERD
    assert set(needed("docker")) == EVERYWHERE | {"cri-dockerd"}


def test_every_artifact_of_every_stack_has_a_source_for_both_architectures() -> None:
    known = {(a.name, a.version, a.architecture) for a in manifest() if a.sources}
    for versions in catalogue():
        for architecture in get_args(Architecture):
            for runtime in get_args(Runtime):
                for artifact in artifacts(versions, architecture, runtime):
                    assert (artifact.name, artifact.version, architecture) in known


def test_the_default_stack_and_one_of_every_minor_version_can_be_built_from_recipes() -> None:
    built = [versions for versions in catalogue() if recipe_of("kubernetes", versions.kubernetes)]
    assert built[0] == versions_for()
    minors = [{v.kubernetes.rpartition(".")[0] for v in some} for some in (catalogue(), built)]
    assert minors[0] == minors[1]
    for versions in built:
        for artifact in artifacts(versions, "amd64"):
            if any(source.location.startswith("pkg:pypi/") for source in artifact.sources):
                continue  # to be had wherever Go modules and Python's packages are
            recipe = recipe_of(artifact.family, artifact.version)
            assert recipe is not None, artifact
            assert artifact.name in recipe.programs
            assert artifact.sources[-1].origin == "built"
            assert recipe.root or (recipe.path / "go.mod").is_file()


def test_no_official_download_of_an_artifact_is_overlooked() -> None:
    """A family that is spelt in two ways would silently be built instead of downloaded."""
    located = {source.location for artifact in manifest() for source in artifact.sources}
    wanted = {(a.name, a.version, a.architecture) for a in manifest()}
    for row in downloads():
        if any((program, row.version, row.arch) in wanted for program in row.programs):
            assert row.url in located, f"family {row.family} in spec/official.yaml"


def test_official_sources_come_first_and_are_pinned() -> None:
    urls = {row.url for row in published()}
    for artifact in manifest():
        origins = [source.origin for source in artifact.sources]
        assert origins == sorted(origins, key=["official", "built"].index)
        for source in artifact.sources:
            if source.sha256 is None and source.origin == "official":
                assert source.location in urls, "its publisher says its digest"
            assert source.origin == "official" or source.sha256 is None


def test_no_download_stands_twice_and_each_is_for_the_architecture_it_says() -> None:
    names = Counter((row.name, row.version, row.arch) for row in downloads())
    assert [name for name, times in names.items() if times > 1] == []
    digests = Counter(row.sha256 or row.sha512 for row in downloads())
    assert [digest for digest, times in digests.items() if times > 1] == []
    foreign = {"amd64": ("arm64", "aarch64"), "arm64": ("amd64", "x86_64", "-x64")}
    for row in downloads():
        assert not any(word in row.url for word in foreign[row.arch]), row.url
        assert row.version in row.url


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": None},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"url": "ftp://example.org/file"},
        {"url": "example.org/file"},
        {"url": "pkg:pypi/etcd"},
        {"url": "pkg:pypi/etcd-bin@3.7.1", "sha256": None, "sha512": "0" * 128},
        {"arch": "riscv64"},
        {"sha265": "0" * 64},
    ],
)
def test_a_row_that_pins_nothing_or_is_misspelt_is_refused(change: dict[str, str]) -> None:
    row = {
        "name": "etcd",
        "family": "etcd",
        "version": "3.7.1",
        "arch": "amd64",
        "url": "https://example.org/etcd.tar.gz",
        "sha256": "0" * 64,
    }
    Download.model_validate(row)
    with pytest.raises(ValidationError):
        Download.model_validate({**row, **change})


def test_the_default_stack_is_kubernetes_1_37_1() -> None:
    assert versions_for() == versions_for("1.37.1") == versions_for("v1.37.1")
    assert versions_for().kubernetes == "1.37.1"
    assert versions_for("1.37.0").kubernetes == "1.37.0"


@pytest.mark.parametrize("unknown", ["1.36.99", "1.37", "", "latest", "1.37.1 "])
def test_an_unknown_version_is_refused_with_the_known_ones(unknown: str) -> None:
    with pytest.raises(UnknownVersion) as caught:
        versions_for(unknown)
    for versions in catalogue():
        assert versions.kubernetes in str(caught.value)


def test_every_kubernetes_version_stands_once_in_the_catalogue() -> None:
    names = [versions.kubernetes for versions in catalogue()]
    assert sorted(names) == sorted(set(names))


def test_every_component_with_a_version_is_used() -> None:
    used = {artifact.family.replace("-", "_") for artifact in manifest()}
    assert used == set(Versions.model_fields)
