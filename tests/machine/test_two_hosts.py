"""One cluster on two libvirts, each on a computer of its own behind a router, reached by SSH."""

import json
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network
from typing import Any

import pytest

from lab.storage_pool import COMPLETE
from tests.engine.stack import eventually
from tests.hypervisors.apart import RoutedHost, apart, at_router
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

SUBNETS = (IPv4Network("192.168.1.0/24"), IPv4Network("192.168.2.0/24"))


def cluster(hosts: list[RoutedHost]) -> dict[str, Any]:
    near, far = (
        {"uri": host.uri, "pool": host.libvirt.pool, "disk_cache": "unsafe"} for host in hosts
    )
    return {
        "hypervisor": near,
        "networks": {"machines": [*map(str, SUBNETS)], "routed": True},
        "machines": {
            "master": {"address": "192.168.1.10", "roles": "ai", "cpus": 2, "memory": 3072},
            "minion": {"address": "192.168.2.11", "hypervisor": far},
        },
    }


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[RoutedHost]]:
    with apart(*SUBNETS) as every:
        yield every


@pytest.fixture(scope="module")
def lab(
    hosts: list[RoutedHost],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Lab]:
    described = cluster(hosts)

    def up(lab: Lab) -> None:
        lab.prepare_image(boots_itself=True)
        lab.enter = at_router()
        lab.hardway("up")

    yield from brought_up("mttwo", described, tmp_path_factory, request.session, up)


def volumes(host: RoutedHost) -> list[str]:
    return host.virsh("vol-list", host.libvirt.pool).split()


def test_machines_on_two_hosts_are_one_cluster(lab: Lab, hosts: list[RoutedHost]) -> None:
    lab.hardway("validate", "--wait", "1200")
    near, far = hosts
    assert near.names("list") == {f"{lab.stack}-master"}
    assert far.names("list") == {f"{lab.stack}-minion"}
    addresses = {
        node["metadata"]["name"]: node["status"]["addresses"][0]["address"]
        for node in lab.objects("nodes")["items"]
    }
    assert addresses == {"master": "192.168.1.10", "minion": "192.168.2.11"}
    for host in hosts:
        assert f"base image to qemu://{host.address}" in lab.transcript
        assert any(name.endswith(COMPLETE) for name in volumes(host))


def test_a_second_update_brings_nothing_and_changes_nothing(lab: Lab) -> None:
    before = len(lab.transcript)
    lab.pulumi("preview", "--expect-no-changes")
    lab.hardway("up")
    assert "base image to" not in lab.transcript[before:]
    assert lab.hardway("drift", ok=False).returncode == 0


def answers(lab: Lab, node: str, ask: str) -> bool:
    return lab.on(node, ask, ok=False) == "open\n"


def test_pods_of_both_hosts_reach_each_other(lab: Lab) -> None:
    """A connection from each machine to a pod on each machine."""
    image = lab.objects("deployment", "coredns", "--namespace", "kube-system")
    (container,) = image["spec"]["template"]["spec"]["containers"]
    for node in ("master", "minion"):
        override = json.dumps({"spec": {"nodeName": node}})
        lab.hardway(
            *("kubectl", "run", f"on-{node}", f"--image={container['image']}"),
            *("--image-pull-policy=Never", f"--overrides={override}"),
            *("--command", "--", "/coredns", "-dns.port=1053"),
        )
    lab.kubectl("wait", "pod/on-master", "pod/on-minion", "--for=condition=Ready", "--timeout=900s")
    pods = lab.objects("pods", "--selector", "run")["items"]
    for node in ("master", "minion"):
        for pod in pods:
            address = pod["status"]["podIP"]
            ask = f"timeout 20 bash -c '</dev/tcp/{address}/1053' && echo open"
            eventually("it answers", partial(answers, lab, node, ask))


def test_down_leaves_nothing_on_either_host(lab: Lab, hosts: list[RoutedHost]) -> None:
    lab.hardway("down")
    for host in hosts:
        assert host.names("list", "--all") == set()
        assert not [name for name in volumes(host) if name.startswith(("base-", lab.stack))]
