"""What the lab offers to a stack whose machines all exist already, and brings to them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import artifacts, endpoint, manifest
from lab.cache import Cache
from lab.delivery import Parcel, parcels
from lab.offer import Phases, prepare_existing
from lab.paths import LabPaths
from lab.problem import Problem
from lab.progress import Silence
from lab.stack import offer_path
from ops import hosts, lifecycle
from plan.artifact import missing_digests
from plan.cluster import cluster_plan
from probe.access import Access
from spec.cluster import Cluster, SpecError, parse
from spec.offer import read_offer, with_offer
from tests.plan.golden import GOLDEN, MIRROR, digests


def spec_of(**more: Any) -> Cluster:
    value = yaml.safe_load((GOLDEN / "existing" / "spec.yaml").read_text())
    return parse({**value, **more}, name="existing")


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    return LabPaths(name="test", state=tmp_path / "state", run=tmp_path / "run")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache that has a file for each artifact."""
    cache = Cache(tmp_path / "cache")

    def stored(artifact: manifest.ManifestArtifact) -> artifacts.StoredArtifact:
        content = f"{artifact.name} {artifact.version}".encode()
        digest = hashlib.sha256(content).hexdigest()
        path = cache.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return artifacts.StoredArtifact(
            name=artifact.name,
            version=artifact.version,
            architecture=artifact.architecture,
            digest=digest,
            path=path,
            origin="built",
            source="a test",
        )

    monkeypatch.setattr(
        artifacts.Store,
        "fetch",
        lambda store, *wanted: tuple(
            map(stored, manifest.artifacts(wanted[0], store.architecture, *wanted[1:]))
        ),
    )
    return cache


def prepared(spec: Cluster, paths: LabPaths, cache: Cache) -> Cluster | None:
    """The spec with what the lab offers; None where it offers nothing."""
    prepare_existing("existing", spec, paths, cache, Silence(), Phases())
    file = offer_path(paths, "existing")
    return with_offer(spec, read_offer(file)) if file.exists() else None


def test_the_plan_is_accepted_with_the_offer_and_refused_without(
    paths: LabPaths, cache: Cache
) -> None:
    spec = spec_of()
    with pytest.raises(SpecError, match="no official digest"):
        cluster_plan(spec)
    whole = prepared(spec, paths, cache)
    assert whole is not None
    assert missing_digests(whole) == []
    assert cluster_plan(whole).nodes.keys() == spec.machines.keys()
    assert whole.artifacts.mirror is None
    assert whole.networks == spec.networks
    assert whole.hypervisor == spec.hypervisor


def test_an_update_prepares_the_artifacts_of_machines_that_exist(
    paths: LabPaths, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "lab_paths", lambda: paths)
    monkeypatch.setattr(lifecycle, "Cache", lambda: cache)
    monkeypatch.setattr(endpoint, "demand_known", lambda *_: None)
    tools = type("NoTools", (), {"choices": ()})()
    monkeypatch.setattr(lifecycle, "_tools", lambda *_: tools)
    lifecycle.prepared_stack("existing", spec_of(), Phases())
    offered = read_offer(offer_path(paths, "existing"))
    assert offered.artifacts.digests
    assert offered.hypervisor is None


def test_a_mirror_of_the_specs_own_with_all_digests_needs_no_offer(
    paths: LabPaths, cache: Cache
) -> None:
    own = {"mirror": MIRROR, "digests": digests(None)}
    assert prepared(spec_of(), paths, cache) is not None
    assert prepared(spec_of(artifacts=own), paths, cache) is None
    assert prepared(spec_of(artifacts={"mirror": MIRROR}), paths, cache) is not None


def test_machines_of_another_architecture_are_refused(
    paths: LabPaths, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_own_architecture", lambda: "arm64")
    with pytest.raises(Problem, match="the machines are amd64 and this computer is arm64, for"):
        prepared(spec_of(), paths, cache)


def test_each_machine_gets_all_that_its_plan_needs_and_no_more(
    paths: LabPaths, cache: Cache
) -> None:
    whole = prepared(spec_of(), paths, cache)
    assert whole is not None
    plan = cluster_plan(whole)
    for name, node in plan.nodes.items():
        wanted = {artifact.store_path for step in node.steps for artifact in step.artifacts}
        brought = parcels(whole, name, cache)
        assert {f"/var/lib/hardway/store/sha256/{parcel.digest}" for parcel in brought} == wanted
        for parcel in brought:
            assert hashlib.sha256(parcel.path.read_bytes()).hexdigest() == parcel.digest
        assert {0o555, 0o444} >= {parcel.mode for parcel in brought}


def test_a_digest_of_the_spec_that_no_file_has_is_a_sentence(paths: LabPaths, cache: Cache) -> None:
    key = next(key for key in digests(None) if key.startswith("etcd-"))
    whole = prepared(spec_of(artifacts={"digests": {key: "0" * 64}}), paths, cache)
    assert whole is not None
    with pytest.raises(Problem, match=f"artifacts.digests says of {key}"):
        parcels(whole, whole.etcd_members[0], cache)


def test_machines_with_a_mirror_get_nothing_and_others_all_of_it(
    paths: LabPaths, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_kept", lambda _: ("a key", []))
    calls: list[tuple[Access, Mapping[str, Sequence[Parcel]]]] = []
    monkeypatch.setattr(hosts, "deliver", lambda *given: calls.append(given[:2]))
    own = spec_of(artifacts={"mirror": MIRROR})
    prepared(own, paths, cache)
    hosts.deliver_artifacts("existing", own, paths, cache)
    assert calls == []
    spec = spec_of()
    hosts.deliver_artifacts("existing", spec, paths, cache)
    ((access, wanted),) = calls
    assert access.machines.keys() == wanted.keys() == spec.machines.keys()
    assert access.ssh_key == "a key"
    assert all(wanted.values())


def test_digests_that_nobody_offers_are_a_sentence(paths: LabPaths, cache: Cache) -> None:
    """As beside machines of a libvirt with an image of its own, for which the lab has no offer."""
    with pytest.raises(Problem, match=r"Pulumi\.existing\.yaml: artifacts\.digests has no "):
        hosts.deliver_artifacts("existing", spec_of(), paths, cache)
