"""A machine gets the very bytes that somebody has vouched for."""

from typing import Any, get_args

import pytest

from plan.artifact import artifact, artifacts, missing_digests, unknown_digests
from plan.cluster import cluster_plan
from plan.model import STORE
from spec.artifacts import Runtime, artifact_rows, needed
from spec.cluster import Cluster, SpecError, parse
from spec.downloads import downloads
from spec.versions import catalogue
from tests.spec.sentences import check

DIGEST = "0123456789abcdef" * 4
MIRROR = "http://192.0.2.1:6480"
EVERY = {f"{row.name}-{row.version(v)}": DIGEST for v in catalogue() for row in artifact_rows()}


def cluster(**more: Any) -> Cluster:
    return parse(
        {
            "networks": {"machines": "192.168.1.0/24"},
            "machines": {"master": {"address": "192.168.1.10"}},
            **more,
        },
        name="dev",
    )


@pytest.mark.parametrize("kubernetes", [versions.kubernetes for versions in catalogue()])
@pytest.mark.parametrize("runtime", get_args(Runtime))
def test_given_digests_win_and_the_mirror_alone_has_such_bytes(
    kubernetes: str, runtime: Runtime
) -> None:
    spec = cluster(
        kubernetes=kubernetes, runtime=runtime, artifacts={"mirror": MIRROR, "digests": EVERY}
    )
    for item in artifacts(spec, needed(runtime)):
        assert item.sha256 == DIGEST
        assert item.urls == (f"{MIRROR}/sha256/{DIGEST}",)
        assert item.archive is None
        assert item.store_path == f"{STORE}/sha256/{DIGEST}"
    assert missing_digests(spec) == []


def test_a_program_of_its_own_file_is_known_by_the_official_digest() -> None:
    for kubernetes, arch in (("1.37.1", "amd64"), ("1.36.4", "arm64"), ("1.35.0", "amd64")):
        spec = cluster(kubernetes=kubernetes, architecture=arch, artifacts={"mirror": MIRROR})
        for name in ("kube-apiserver", "kubelet", "kubectl", "runc"):
            item = artifact(spec, name)
            (row,) = (
                row
                for row in downloads()
                if (row.name, row.version, row.arch) == (name, item.version, arch)
            )
            assert item.sha256 == row.sha256
            assert item.urls == (f"{MIRROR}/sha256/{row.sha256}", row.url)
            assert item.kind == "binary"
            assert item.reference is None


def test_a_digest_that_is_the_official_one_may_come_from_the_official_place() -> None:
    official = artifact(cluster(), "kubelet")
    digests = {"kubelet-1.37.1": official.sha256}
    assert artifact(cluster(artifacts={"digests": digests}), "kubelet") == official


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
@pytest.mark.parametrize(("kubernetes", "etcd"), [("1.37.1", "3.7.1"), ("1.36.4", "3.6.14")])
def test_a_program_in_an_archive_is_known_by_the_archives_digest(
    kubernetes: str, etcd: str, arch: str
) -> None:
    spec = cluster(kubernetes=kubernetes, architecture=arch, artifacts={"mirror": MIRROR})
    etcd_programs = artifacts(spec, ("etcd", "etcdctl", "etcdutl"))
    for item in etcd_programs:
        assert item.sha256 is None
        assert item.urls == ()
        assert item.archive is not None
        assert item.archive.url.endswith(f"etcd-v{etcd}-linux-{arch}.tar.gz")
        assert item.archive.member == f"etcd-v{etcd}-linux-{arch}/{item.name}"
        assert item.archive.digest.startswith("sha256:")
        assert item.store_path.endswith(
            f"{item.archive.digest.removeprefix('sha256:')}/{item.name}"
        )
    assert len({item.store_path for item in etcd_programs}) == 3


def test_an_image_is_never_taken_for_the_program_of_its_name() -> None:
    """The official coredns archive holds the program; machines need an image archive."""
    with pytest.raises(SpecError, match=r"artifacts\.digests has no coredns-1\.14\.7"):
        artifact(cluster(), "coredns")
    image = artifact(cluster(artifacts={"digests": EVERY}), "coredns")
    assert image.kind == "image"
    assert image.reference == "hardway.local/coredns:1.14.7"


def test_what_is_missing_is_told_all_at_once_with_the_way_out() -> None:
    sentences = missing_digests(cluster())
    for sentence in sentences:
        check(sentence)
        assert "./hardway" in sentence
    keys = {sentence.rpartition("artifacts.digests.")[2] for sentence in sentences}
    assert {"coredns-1.14.7", "pause-1.0.0", "flanneld-0.28.9", "containerd-2.3.7"} <= keys
    assert not any(key.startswith(("kube", "etcd")) for key in keys)
    given = cluster(artifacts={"digests": dict.fromkeys(keys, DIGEST)})
    assert missing_digests(given) == []


@pytest.mark.parametrize("runtime", get_args(Runtime))
@pytest.mark.parametrize("coredns", [True, False])
def test_a_plan_asks_for_the_bytes_of_what_it_puts_on_machines_alone(
    runtime: Runtime, coredns: bool
) -> None:
    wanted: dict[str, Any] = {"runtime": runtime, "addons": {"coredns": coredns}}
    keys = unknown_digests(cluster(**wanted))
    plan = cluster_plan(cluster(**wanted, artifacts={"digests": dict.fromkeys(keys, DIGEST)}))
    steps = [*plan.add_ons, *(step for node in plan.nodes.values() for step in node.steps)]
    held = {item for step in steps for item in step.artifacts if item.sha256 == DIGEST}
    assert {f"{item.name}-{item.version}" for item in held} == set(keys)
    assert any(item.name == "coredns" for item in held) == coredns
