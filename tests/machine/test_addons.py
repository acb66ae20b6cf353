"""A master and a minion: metrics, addresses for Services, and machines that restart."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.engine.stack import eventually
from tests.machine.add_ons import have_state_and_memory, leave_nothing, with_add_ons
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER = with_add_ons(
    storage=True,
    metrics_server=True,
    load_balancer={"addresses": "192.168.1.200-192.168.1.220"},
)
API = "v1beta1.metrics.k8s.io"
NAMESPACES = {"hardway-addons", "local-path-storage", "metallb-system"}


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
    have_state_and_memory(lab)


def test_top_names_what_the_node_and_its_pods_use(lab: Lab) -> None:
    nodes = lab.kubectl("top", "nodes", "--no-headers").splitlines()
    assert {line.split()[0] for line in nodes} == {"master", "minion1"}
    for line in nodes:
        _, cpu, _, memory, _ = line.split()
        assert int(cpu.removesuffix("m")) > 0
        assert int(memory.removesuffix("Mi")) > 100
    pods = lab.kubectl("top", "pods", "--all-namespaces", "--no-headers").splitlines()
    named = {line.split()[0] for line in pods}
    assert named == {*NAMESPACES, "kube-system"}
    print(*nodes, *pods, sep="\n")


def test_the_api_servers_verify_it_by_the_clusters_authority(lab: Lab) -> None:
    service = lab.objects("apiservice", API)["spec"]
    authority = lab.on("master", "base64 --wrap=0 /etc/kubernetes/pki/ca.crt")
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
        lambda: lab.objects("deployment", "grows")["status"].get("readyReplicas") == 2,
        reason=lambda: lab.kubectl("describe", "horizontalpodautoscaler", "grows"),
    )
    lab.kubectl("delete", "horizontalpodautoscaler/grows", "deployment/grows")


def service(name: str) -> dict[str, Any]:
    """A Service that leads to CoreDNS's answer on its readiness, at an address of its own."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"port": 80, "targetPort": 8181}],
            "selector": {"k8s-app": "kube-dns"},
        },
    }


def announcers(lab: Lab, name: str) -> set[str]:
    """The nodes that say that they answer for the address of a Service; also one that is lost."""
    rows = lab.objects("servicel2statuses.metallb.io", "--namespace", "metallb-system")["items"]
    statuses = [row.get("status", {}) for row in rows]
    return {status["node"] for status in statuses if status.get("serviceName") == name}


def balanced_by(lab: Lab, node: str) -> tuple[str, str]:
    """The address and the name of a Service for which this node answers."""
    for number in range(20):
        name = f"ready-{number}"
        file = lab.folder / "service.json"
        file.write_text(json.dumps(service(name)))
        lab.kubectl("apply", "--filename", str(file))
        eventually("a node announces it", partial(announcers, lab, name))
        if announcers(lab, name) == {node}:
            status = lab.objects("service", name, "--namespace", "kube-system")["status"]
            return status["loadBalancer"]["ingress"][0]["ip"], name
    raise AssertionError(f"{node} answers for none of twenty addresses")


def answers_at(lab: Lab, host: str) -> bool:
    """Whether a program of this computer gets CoreDNS's answer at an address."""
    done = lab.inside("curl", "--silent", "--max-time", "5", f"http://{host}/ready")
    return done.stdout == "OK"


def test_an_address_of_a_service_moves_when_its_node_dies(lab: Lab) -> None:
    host, name = balanced_by(lab, "minion1")
    eventually("it answers", partial(answers_at, lab, host))
    lab.virsh("destroy", f"{lab.stack}-minion1")
    eventually("the master says that it answers", lambda: "master" in announcers(lab, name))
    eventually("it answers again", partial(answers_at, lab, host))
    lab.virsh("start", f"{lab.stack}-minion1")
    lab.hardway("validate", "--wait", "1200")
    services = lab.objects("services", "--namespace", "kube-system")["items"]
    names = [item["metadata"]["name"] for item in services]
    lab.kubectl(
        *("delete", "--namespace", "kube-system"),
        *(f"service/{name}" for name in names if name.startswith("ready-")),
    )


def boot(lab: Lab, machine: str) -> str:
    return lab.on(machine, "cat /proc/sys/kernel/random/boot_id")


def test_machines_restart_one_at_a_time_after_their_pods_have_moved(lab: Lab) -> None:
    image = lab.objects("deployment", "coredns", "--namespace", "kube-system")
    (container,) = image["spec"]["template"]["spec"]["containers"]
    program = ("/coredns", "-dns.port=1053")
    lab.kubectl("create", "deployment", "stays", f"--image={container['image']}", "--", *program)
    lab.kubectl("rollout", "status", "deployment/stays", "--timeout=600s")
    lab.kubectl(
        "create", "poddisruptionbudget", "stays", "--selector=app=stays", "--min-available=1"
    )
    (pod,) = lab.objects("pods", "--selector=app=stays")["items"]
    node = pod["spec"]["nodeName"]
    before = {machine: boot(lab, machine) for machine in ("master", "minion1")}

    refused = lab.hardway("restart", node, "--timeout", "60", "--yes", ok=False)
    assert refused.returncode == 1
    assert f"default/{pod['metadata']['name']} did not leave {node} within 60 s" in refused.stderr
    assert {machine: boot(lab, machine) for machine in before} == before
    lab.kubectl("delete", "poddisruptionbudget", "stays")

    done = lab.hardway("restart", "minion1", "master", "--yes")
    print(done.stdout, done.stderr)
    assert "the API is away until it is back" in done.stdout
    assert done.stdout.endswith("restarted minion1 and master\n")
    assert not {boot(lab, machine) for machine in before} & {*before.values()}
    for machine in before:
        assert "unschedulable" not in lab.objects("node", machine)["spec"]
    lab.kubectl("delete", "deployment", "stays")
    lab.hardway("validate")
    lab.pulumi("preview", "--expect-no-changes")


def test_what_is_switched_off_leaves_nothing_in_the_cluster(lab: Lab) -> None:
    leave_nothing(lab, NAMESPACES)
    assert API not in lab.kubectl("get", "apiservices", "--output", "name")
    left = lab.kubectl("get", "clusterroles,clusterrolebindings,crds", "--output", "name")
    assert "metrics" not in left.replace("system:metrics", "")
    assert "metallb" not in left
