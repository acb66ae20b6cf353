"""What people came for: add-ons on a single machine, each asked for real."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.stack import eventually
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"solo": {"address": "192.168.1.10", "cpus": 2, "memory": 3072}},
    "addons": {"metrics_server": True},
}
API = "v1beta1.metrics.k8s.io"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtaddons", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def test_a_second_update_has_nothing_to_do(lab: Lab) -> None:
    assert "the API has metrics of nodes and pods" in lab.transcript
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")


def test_each_add_on_has_its_state_and_memory(lab: Lab) -> None:
    states = {state["name"]: state for state in json.loads(lab.hardway("addons", "--json").stdout)}
    assert {name for name, state in states.items() if state["is_on"]} == {
        "coredns",
        "metrics_server",
    }
    for name in ("coredns", "metrics_server"):
        memory = states[name]["memory"]
        assert states[name]["faults"] == []
        assert 0 < memory["used"] < memory["limit"], memory
    shown = lab.hardway("addons").stdout
    assert "MiB" in shown
    print(shown)


def test_top_names_what_the_node_and_its_pods_use(lab: Lab) -> None:
    (node,) = lab.kubectl("top", "nodes", "--no-headers").splitlines()
    name, cpu, _, memory, _ = node.split()
    assert name == "solo"
    assert int(cpu.removesuffix("m")) > 0
    assert int(memory.removesuffix("Mi")) > 100
    pods = lab.kubectl("top", "pods", "--all-namespaces", "--no-headers").splitlines()
    assert {line.split()[0] for line in pods} == {"kube-system", "hardway-addons"}
    print(node, *pods, sep="\n")


def test_the_api_servers_verify_it_by_the_clusters_authority(lab: Lab) -> None:
    service = lab.objects("apiservice", API)["spec"]
    authority = lab.on("solo", "base64 --wrap=0 /etc/kubernetes/pki/ca.crt")
    assert service["caBundle"] == authority
    assert "insecureSkipTLSVerify" not in service


def test_an_autoscaler_scales(lab: Lab) -> None:
    """By memory, of which any program uses more than a page."""
    image = lab.objects("deployment", "coredns", "--namespace", "kube-system")
    (container,) = image["spec"]["template"]["spec"]["containers"]
    program = ("/coredns", "-dns.port=1053")
    lab.kubectl("create", "deployment", "grows", f"--image={container['image']}", "--", *program)
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "grows"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "grows"},
            "maxReplicas": 2,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "memory",
                        "target": {"type": "AverageValue", "averageValue": "1Mi"},
                    },
                }
            ],
        },
    }
    file = lab.folder / "scaler.json"
    file.write_text(json.dumps(scaler))
    lab.kubectl("apply", "--filename", str(file))
    eventually(
        "the autoscaler has made a second pod",
        lambda: lab.objects("deployment", "grows")["spec"]["replicas"] == 2,
        reason=lambda: lab.kubectl("describe", "horizontalpodautoscaler", "grows"),
    )
    lab.kubectl("delete", "horizontalpodautoscaler/grows", "deployment/grows")


def test_what_is_switched_off_leaves_nothing_in_the_cluster(lab: Lab) -> None:
    lab.describe({key: value for key, value in CLUSTER.items() if key != "addons"})
    lab.hardway("up")
    assert API not in lab.kubectl("get", "apiservices", "--output", "name")
    eventually(
        "the namespace is gone",
        lambda: "hardway-addons" not in lab.kubectl("get", "namespaces"),
    )
    left = lab.kubectl("get", "clusterroles,clusterrolebindings", "--output", "name")
    assert "metrics" not in left.replace("system:metrics", "")
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
