"""Several control planes on real machines: three members of etcd, and one of two planes is lost."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from plan import layout, library
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(5400),
    at_length,
]

CLUSTER = {
    "networks": {"machines": "192.168.1.0/24"},
    "endpoint": {"kind": "virtual-ip", "address": "192.168.1.5"},
    "machines": {
        "control1": {"address": "192.168.1.21", "roles": "ea", "cpus": 2},
        "control2": {"address": "192.168.1.22", "roles": "ea", "cpus": 2},
        "minion1": {"address": "192.168.1.31", "roles": "ei"},
    },
}
API = "https://192.168.1.5:6443"
STARTED = "systemctl show --property ExecMainStartTimestampMonotonic --value"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtha", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def verdict(lab: Lab) -> str:
    output = lab.hardway("validate", "--json", ok=False).stdout
    print(output)  # pytest shows the conditions where a test fails
    return str(json.loads(output)["verdict"])


def test_three_members_and_two_planes_are_healthy_behind_the_virtual_ip(lab: Lab) -> None:
    assert lab.outputs()["endpoint"] == API
    lab.hardway("validate", "--wait", "1200")
    nodes = {node["metadata"]["name"] for node in lab.objects("nodes")["items"]}
    assert nodes == {"control1", "control2", "minion1"}
    endpoints = lab.objects("endpointslices", "--selector", "kubernetes.io/service-name=kubernetes")
    addresses = [
        address for s in endpoints["items"] for e in s["endpoints"] for address in e["addresses"]
    ]
    assert sorted(addresses) == ["192.168.1.21", "192.168.1.22"]
    lab.pulumi("preview", "--expect-no-changes")


def test_members_whose_files_changed_restart_one_at_a_time(lab: Lab) -> None:
    """As a new unit file does it: the step finds that the service runs with another one."""
    members = ("control1", "control2", "minion1")
    runs = []
    for name in members:
        lab.on(name, "sed -i 's/^[^ ]*/stale/' /var/lib/hardway/running/etcd.service")
        data = "/var/lib/hardway/steps/etcd"
        step = f"cd {library.PLACE}/scripts; bash -euo pipefail -c '. ./step.sh' <{data}"
        before = lab.on(name, f"{STARTED} etcd.service").strip()
        runs.append((name, before, lab.start("ssh", name, "--", step)))
    spans = []
    for name, before, process in runs:
        output, _ = process.communicate(timeout=1500)
        assert process.returncode == 0, output
        after = lab.on(name, f"{STARTED} etcd.service; date +%s; cat /proc/uptime").splitlines()
        assert after[0] != before, "restarted with its right file"
        booted = float(after[1]) - float(after[2].split()[0])
        spans.append(booted + float(after[0]) / 1e6)
    spans.sort()
    assert min(b - a for a, b in pairwise(spans)) > 2, spans
    assert verdict(lab) == "healthy"


def test_the_cluster_lives_on_without_one_control_plane(lab: Lab) -> None:
    holder = next(
        name
        for name in ("control1", "control2")
        if "192.168.1.5/" in lab.on(name, "ip -4 -brief address")
    )
    lab.virsh("destroy", f"{lab.stack}-{holder}")
    end = time.monotonic() + 300
    while True:
        done = lab.hardway("kubectl", "create", "configmap", "after-loss", ok=False)
        if done.returncode == 0 or "already exists" in done.stderr:
            break
        assert time.monotonic() < end, done.stderr
        time.sleep(5)
    assert lab.objects("configmap", "after-loss")["metadata"]["name"] == "after-loss"
    left = {"control1": "control2", "control2": "control1"}[holder]
    client = (
        f"--cacert={layout.MEMBER_AUTHORITY} "
        f"--cert={layout.certificate('etcd-healthcheck-client')} "
        f"--key={layout.private_key('etcd-healthcheck-client')}"
    )
    assert "is healthy" in lab.on(left, f"etcdctl {client} endpoint health 2>&1")
    assert verdict(lab) != "healthy"
    lab.virsh("start", f"{lab.stack}-{holder}")
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
