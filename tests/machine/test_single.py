"""One machine for everything, with the other choice wherever there is one.

Docker through cri-dockerd, flannel's subnets in the Kubernetes API, kube-proxy with iptables.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from plan import docker
from tests.machine.lab import Lab, at_length, brought_up
from tests.plan import cri

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"solo": {"address": "192.168.1.10", "cpus": 2, "memory": 3072}},
    "runtime": "docker",
    "flannel": {"store": "kubernetes"},
    "proxy_mode": "iptables",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtsolo", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def test_one_machine_is_the_whole_cluster(lab: Lab) -> None:
    lab.hardway("validate", "--wait", "1200")
    (node,) = lab.objects("nodes")["items"]
    assert node["metadata"]["name"] == "solo"
    assert not node["spec"].get("taints"), "the only machine takes pods"
    lab.pulumi("preview", "--expect-no-changes")


def test_its_pods_are_dockers(lab: Lab) -> None:
    (node,) = lab.objects("nodes")["items"]
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("docker://")
    asked = "curl -fsS --unix-socket /run/docker.sock http://docker/containers/json"
    running = [name for one in json.loads(lab.on("solo", asked)) for name in one["Names"]]
    assert any(name.startswith("/k8s_coredns_") for name in running)
    assert any(name.startswith("/k8s_POD_") for name in running)


def test_the_kubelet_can_have_none_of_its_images_removed(lab: Lab) -> None:
    """As it would where the disk is full: a pod that starts then would not find its image."""
    asked = f"curl -fsS --unix-socket {docker.ENGINE_SOCKET} http://docker/images/json"

    def images() -> list[dict[str, Any]]:
        """Docker lists those of one time in any order."""
        return sorted(json.loads(lab.on("solo", asked)), key=lambda one: str(one["Id"]))

    before = images()
    assert {name.partition(":")[0] for one in before for name in one["RepoTags"]} == {
        "hardway.local/pause",
        "hardway.local/coredns",
    }
    # Whatever becomes of its pods, which keep their images as well.
    every = json.loads(lab.on("solo", asked.replace("images/json", "'containers/json?all=true'")))
    kept = [one["ImageID"] for one in every if "hardway.image" in one["Labels"]]
    assert sorted(kept) == sorted(one["Id"] for one in before)
    for one in before:
        said = lab.on("solo", cri.call(docker.SOCKET, "ImageService/RemoveImage", one["Id"]))
        assert "container" in cri.refusal(said)
    assert images() == before


def test_its_pods_live_in_the_subnet_that_kubernetes_gave_the_node(lab: Lab) -> None:
    (node,) = lab.objects("nodes")["items"]
    subnet = node["spec"]["podCIDR"]
    assert f"FLANNEL_SUBNET={subnet.replace('.0/24', '.1/24')}" in lab.on(
        "solo", "cat /run/flannel/subnet.env"
    )
    pods = lab.objects("pods", "--namespace", "kube-system")["items"]
    assert pods
    for pod in pods:
        assert pod["status"]["podIP"].startswith(subnet.rpartition(".")[0])


def test_its_services_are_rules_of_iptables(lab: Lab) -> None:
    rules = lab.on("solo", "iptables-save --table nat")
    assert "KUBE-SERVICES" in rules
    assert "192.168.3.10/32" in rules
    assert "table ip kube-proxy" not in lab.on("solo", "nft list tables")


def test_logs_come_through_cri_dockerd(lab: Lab) -> None:
    (pod, *_) = lab.objects("pods", "--namespace", "kube-system")["items"]
    said = lab.kubectl("logs", "--namespace", "kube-system", pod["metadata"]["name"])
    assert "CoreDNS-" in said
