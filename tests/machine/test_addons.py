"""A master and a minion: add-ons, each asked for real, and machines that restart."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from plan.addons.monitoring import dashboards
from tests.engine.stack import eventually
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai", "cpus": 2, "memory": 3072},
        "minion1": {"address": "192.168.1.11"},
    },
    "addons": {
        "storage": True,
        "network_policy": True,
        "metrics_server": True,
        "monitoring": True,
        "problem_detector": True,
        "load_balancer": {"addresses": "192.168.1.200-192.168.1.220"},
    },
}
API = "v1beta1.metrics.k8s.io"
NAMESPACES = {"hardway-addons", "hardway-nodes", "local-path-storage", "metallb-system"}


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
    on = {name for name, state in states.items() if state["is_on"]}
    assert on == {"coredns", *CLUSTER["addons"]}
    for name in on:
        memory = states[name]["memory"]
        assert states[name]["faults"] == []
        assert 0 < memory["used"] < memory["limit"], memory
    shown = lab.hardway("addons").stdout
    assert "MiB" in shown
    print(shown)


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


def asked_page(lab: Lab, name: str, path: str, **query: str) -> Any:
    """What the program behind an add-on's page answers to a person's computer."""
    (url,) = lab.hardway("open", "--print", name).stdout.splitlines()
    answer = httpx.get(f"{url.split('/')[0]}//{url.split('/')[2]}{path}", params=query, timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def test_graphs_have_points_of_each_node_and_pod(lab: Lab) -> None:
    """Through the page that a person opens, which a network policy closes to pods."""
    ask = partial(asked_page, lab, "monitoring", "/api/v1/query")
    for query in (
        'sum(node_filesystem_size_bytes{mountpoint="/"}) by (node)',
        "sum(rate(node_cpu_usage_seconds_total[5m])) by (node)",
        'sum(container_network_receive_bytes_total{id="/"}) by (node)',
    ):
        nodes = {row["metric"]["node"] for row in ask(query=query)["data"]["result"]}
        assert nodes == {"master", "minion1"}, query
    rows = ask(query="pod_memory_working_set_bytes")["data"]["result"]
    assert {row["metric"]["namespace"] for row in rows} == {*NAMESPACES, "kube-system"}
    servers = 'up{job="api-server"} == 1'
    eventually("the API server is read", lambda: ask(query=servers)["data"]["result"])
    for text in dashboards().values():
        for row in json.loads(text)["rows"]:
            for expression in (text for panel in row["panels"] for text in panel["expr"]):
                ask(query=expression)


def test_a_pod_does_not_reach_what_has_no_login(lab: Lab) -> None:
    """From the network of CoreDNS' pod, by the address of the pod and of the Service."""
    pods = lab.objects("pods", "--namespace", "kube-system", "--selector", "k8s-app=kube-dns")
    ask = "curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' "
    service = lab.objects("service", "victoria-metrics", "--namespace", "hardway-addons")
    url = f"http://{service['spec']['clusterIP']}:8428/health"
    for pod in pods["items"]:
        node, address = pod["spec"]["nodeName"], pod["status"]["podIP"]
        script = (
            "for pid in $(lsns --type net --noheadings --output PID); do "
            'enter="nsenter --target $pid --net"; '
            f"$enter ip -4 address show to {address} | grep -q inet || continue; "
            f"$enter {ask} {url}; break; done; true"
        )
        assert lab.on(node, script) == "000", "no connection"


def test_the_history_outlives_its_pod(lab: Lab) -> None:
    ask = partial(asked_page, lab, "monitoring", "/api/v1/query")
    before = ask(query="min(tfirst_over_time(up[1d]))")["data"]["result"][0]["value"][1]
    lab.kubectl(
        "delete", "pod", "--namespace", "hardway-addons", "--selector", "app=victoria-metrics"
    )
    lab.hardway("validate", "--wait", "1200")
    after = ask(query="min(tfirst_over_time(up[1d]))")["data"]["result"][0]["value"][1]
    assert float(after) <= float(before)


def test_what_a_kernel_reports_fails_the_validation_and_names_the_node(lab: Lab) -> None:
    """A line among the kernel's messages, as the kernel would write it."""
    line = "<3>EXT4-fs (vdz1): Remounting filesystem read-only"
    lab.on("minion1", f"echo '{line}' >/dev/kmsg")
    problem = "minion1 has the problem ReadonlyFilesystem"

    def validated() -> str:
        done = lab.hardway("validate", ok=False)
        return done.stdout + done.stderr

    eventually("it is a problem of the node", lambda: problem in validated())
    # Pods that start more than five minutes later no longer read that line.
    age = 'test $(($(date +%s) - $(date --date="$(cat /run/reported)" +%s))) -gt 330'
    lab.on("minion1", "date >/run/reported")
    eventually("the message is old", lambda: lab.on("minion1", f"{age} && echo old", ok=False))
    of_it = ("--namespace", "hardway-nodes", "--selector", "app=node-problem-detector")
    lab.kubectl("delete", "pod", *of_it)
    lab.hardway("validate", "--wait", "1200")


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


def namespaces(lab: Lab) -> set[str]:
    return {item["metadata"]["name"] for item in lab.objects("namespaces")["items"]}


def test_what_is_switched_off_leaves_nothing_in_the_cluster(lab: Lab) -> None:
    lab.describe({key: value for key, value in CLUSTER.items() if key != "addons"})
    lab.hardway("up")
    assert API not in lab.kubectl("get", "apiservices", "--output", "name")
    eventually(
        "the namespaces are gone",
        lambda: not NAMESPACES & namespaces(lab),
        reason=lambda: lab.kubectl("get", "namespaces"),
    )
    left = lab.kubectl("get", "clusterroles,clusterrolebindings,crds", "--output", "name")
    assert "metrics" not in left.replace("system:metrics", "")
    assert "metallb" not in left
    assert "victoria" not in left
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
