"""A cluster over the years: members of etcd come and go, etcd goes back, SSH keys turn over."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plan import layout
from spec.versions import etcd_versions
from tests.machine.drift import starts
from tests.machine.lab import Lab, at_length, brought_up, meanwhile
from tests.machine.people import ConfigMapWriter, Person

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200), at_length]

MASTER = "m1"
PLANE: dict[str, Any] = {"address": "192.168.1.10", "roles": "aei", "cpus": 2}
MEMBERS: dict[str, dict[str, Any]] = {
    f"m{number}": {"address": f"192.168.1.1{number}", "roles": "e", "memory": 1024}
    for number in (2, 3, 4)
}
RUNNING, BEFORE = etcd_versions("1.37.1")[:2]


def cluster_of(*members: str, **more: Any) -> dict[str, Any]:
    """The control plane with these members of etcd beside its own."""
    machines = {MASTER: PLANE, **{name: MEMBERS[name] for name in members}}
    return {"networks": {"machines": "192.168.1.0/24"}, "machines": machines, **more}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtyears", cluster_of(), tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


@pytest.fixture(scope="module")
def writer(lab: Lab) -> ConfigMapWriter:
    lab.hardway("validate", "--wait", "1200")
    return ConfigMapWriter(Person(lab, "writer").creates)


@pytest.fixture
def update(
    lab: Lab, writer: ConfigMapWriter, record_property: Callable[[str, object], None]
) -> Callable[..., dict[str, Any]]:
    """Brings the cluster up as another one while somebody writes; gives back what happened."""

    def updated(cluster: dict[str, Any], *options: str) -> dict[str, Any]:
        lab.describe(cluster)
        shown = lab.hardway("preview", "--live").stdout
        acknowledged, refused = len(writer.acknowledged), writer.refused
        before = starts(lab, MASTER, ("etcd", "kube-apiserver", "kubelet"))
        began = time.monotonic()
        with meanwhile(writer.write):
            printed = lab.hardway("up", *options).stdout
        seconds = round(time.monotonic() - began)
        lab.hardway("validate", "--wait", "1200")
        assert not writer.lost(lab)
        lab.pulumi("preview", "--expect-no-changes")
        after = starts(lab, MASTER, ("etcd", "kube-apiserver", "kubelet"))
        outcome = {
            "seconds": seconds,
            "acknowledged": len(writer.acknowledged) - acknowledged,
            "refused": writer.refused - refused,
            "restarted": sorted(unit for unit in after if after[unit] != before[unit]),
        }
        assert outcome["acknowledged"], "people write meanwhile"
        record_property("outcome", json.dumps(outcome))
        print(json.dumps(outcome))
        return {**outcome, "preview": shown, "printed": printed}

    return updated


def members(lab: Lab) -> dict[str, str]:
    """Name to version of the members that etcd has, each of which answers."""
    client = (
        f"--cacert={layout.MEMBER_AUTHORITY} "
        f"--cert={layout.certificate('etcd-healthcheck-client')} "
        f"--key={layout.private_key('etcd-healthcheck-client')} --write-out=json"
    )
    listed = json.loads(lab.on(MASTER, f"etcdctl {client} member list"))["members"]
    answers = json.loads(lab.on(MASTER, f"etcdctl {client} endpoint status --cluster"))
    versions = {
        answer["Status"]["header"]["member_id"]: answer["Status"]["version"] for answer in answers
    }
    assert not [member for member in listed if member.get("isLearner")]
    return {member["name"]: versions[member["ID"]] for member in listed}


def test_one_member_becomes_three(lab: Lab, update: Callable[..., dict[str, Any]]) -> None:
    update(cluster_of("m2", "m3"))
    assert members(lab) == dict.fromkeys(("m1", "m2", "m3"), RUNNING)


def test_a_machine_takes_the_place_of_another_one(
    lab: Lab, update: Callable[..., dict[str, Any]]
) -> None:
    update(cluster_of("m2", "m4"))
    assert members(lab) == dict.fromkeys(("m1", "m2", "m4"), RUNNING)
    assert f"{lab.stack}-m3" not in lab.virsh("list", "--all", "--name")


def test_a_machine_that_is_lost_with_its_disk_is_made_anew(
    lab: Lab, update: Callable[..., dict[str, Any]]
) -> None:
    domain = f"{lab.stack}-m2"
    lost = lab.virsh("domuuid", domain)
    lab.virsh("destroy", domain)
    lab.virsh("undefine", domain)
    lab.virsh("vol-delete", "--pool", lab.libvirt().pool, f"{domain}.qcow2")
    update(cluster_of("m2", "m4"), "--refresh")
    assert members(lab) == dict.fromkeys(("m1", "m2", "m4"), RUNNING)
    assert lab.virsh("domuuid", domain) != lost


def test_etcd_goes_back_by_a_minor_version_and_comes_again(
    lab: Lab, update: Callable[..., dict[str, Any]]
) -> None:
    back = update(cluster_of("m2", "m4", etcd={"version": BEFORE}))
    assert members(lab) == dict.fromkeys(("m1", "m2", "m4"), BEFORE)
    assert "kube-apiserver.service" not in back["restarted"]
    update(cluster_of("m2", "m4"))
    assert members(lab) == dict.fromkeys(("m1", "m2", "m4"), RUNNING)


def test_the_ssh_key_turns_over_and_nothing_restarts(
    lab: Lab, update: Callable[..., dict[str, Any]]
) -> None:
    first = lab.access().ssh_key
    for numbers in ([1, 2], [2, 1], [2]):
        outcome = update(cluster_of("m2", "m4", ssh_keys=numbers))
        assert outcome["restarted"] == []
    assert lab.access().ssh_key != first
    authorized = "cat ~/.ssh/authorized_keys"
    for name in ("m1", "m2", "m4"):
        lines = lab.on(name, authorized).splitlines()
        assert len([line for line in lines if line.endswith(f"hardway:{lab.stack}")]) == 1


def test_three_members_become_one(lab: Lab, update: Callable[..., dict[str, Any]]) -> None:
    update(cluster_of(ssh_keys=[2]))
    assert members(lab) == {MASTER: RUNNING}
    lab.hardway("drift")
