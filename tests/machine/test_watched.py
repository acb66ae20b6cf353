"""A master and a minion that are watched: graphs, logs, problems of nodes, and closed pages."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from plan.addons.monitoring import dashboards
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
    network_policy=True,
    monitoring=True,
    problem_detector=True,
    logs=True,
    ingress={"gateway": True},
    dashboard=True,
)
NAMESPACES = {"hardway-addons", "hardway-nodes", "local-path-storage"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtwatched", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def test_a_second_update_has_nothing_to_do(lab: Lab) -> None:
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")


def test_each_add_on_has_its_state_and_memory(lab: Lab) -> None:
    have_state_and_memory(lab)


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


def searched(lab: Lab, query: str) -> list[dict[str, str]]:
    """The lines that a person gets for a query, through the page of the add-on ``logs``."""
    (url,) = lab.hardway("open", "--print", "logs").stdout.splitlines()
    at = f"{url.split('/')[0]}//{url.split('/')[2]}/select/logsql/query"
    answer = httpx.get(at, params={"query": query, "limit": "10"}, timeout=60)
    assert answer.is_success, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_lines_of_a_pod_and_of_a_control_planes_services_are_found(lab: Lab) -> None:
    image = lab.objects("deployment", "coredns", "--namespace", "kube-system")
    (container,) = image["spec"]["template"]["spec"]["containers"]
    # It writes its version when it starts.
    program = ("/coredns", "-dns.port=1053")
    lab.kubectl("create", "deployment", "writes", f"--image={container['image']}", "--", *program)
    of_pod = 'kubernetes.pod_namespace:=default kubernetes.pod_name:~"^writes-" "CoreDNS-"'
    eventually("the pod's line is there", lambda: searched(lab, of_pod))
    assert searched(lab, of_pod)[0]["machine"] in CLUSTER["machines"]
    lab.kubectl("delete", "deployment", "writes")
    for unit in ("kube-apiserver", "etcd"):
        of_unit = f'machine:=master unit:="{unit}.service"'

        def seen(query: str = of_unit) -> bool:
            return bool(searched(lab, query))

        eventually(f"so is the journal's of {unit}", seen)


def test_a_person_sees_the_cluster_with_the_token_that_open_gives(lab: Lab) -> None:
    url, token = lab.hardway("open", "--print", "dashboard").stdout.splitlines()
    with httpx.Client(base_url=f"{url}clusters/main", timeout=60) as person:
        assert person.get("/api/v1/nodes").status_code == 401
        person.post("/set-token", json={"token": token}).raise_for_status()
        nodes = person.get("/api/v1/nodes").raise_for_status().json()["items"]
        assert {node["metadata"]["name"] for node in nodes} == {"master", "minion1"}
        pods = "/api/v1/namespaces/kube-system/pods"
        of_dns = {"labelSelector": "k8s-app=kube-dns"}
        (pod, *_) = person.get(pods, params=of_dns).raise_for_status().json()["items"]
        log = person.get(f"{pods}/{pod['metadata']['name']}/log").raise_for_status().text
        assert "CoreDNS-" in log, "of its start"


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


ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "empty", "namespace": "default"},
    "spec": {
        "parentRefs": [{"name": "traefik", "namespace": "hardway-gateway"}],
        "rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}],
    },
}


def test_a_node_answers_what_no_ingress_wants_and_what_one_does(lab: Lab, tmp_path: Path) -> None:
    assert "the cluster answers by http and https from outside" in lab.transcript
    (url,) = lab.hardway("open", "--print", "ingress").stdout.splitlines()
    assert httpx.get(url, timeout=60).status_code == 404
    lab.kubectl("create", "service", "clusterip", "empty", "--tcp=80")
    lab.kubectl("create", "ingress", "empty", "--rule=/*=empty:80")
    eventually(
        "no pod of its Service is ready",
        lambda: httpx.get(url, timeout=60).status_code == 503,
        reason=lambda: lab.kubectl("describe", "ingress", "empty"),
    )
    lab.kubectl("delete", "service,ingress", "empty")
    eventually("nobody wants it", lambda: httpx.get(url, timeout=60).status_code == 404)
    assert "Traefik serves the routes of the Gateway" in lab.transcript
    route = tmp_path / "route.json"
    route.write_text(json.dumps(ROUTE))
    lab.kubectl("apply", "--server-side", "--filename", str(route))
    eventually(
        "a route wants it whose Service is not there",
        lambda: httpx.get(url, timeout=60).status_code == 500,
        reason=lambda: lab.kubectl("describe", "httproute", "empty"),
    )
    # It stays: its kind goes with the add-on, and the route with its kind.


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


def test_what_is_switched_off_leaves_nothing_in_the_cluster(lab: Lab) -> None:
    leave_nothing(lab, NAMESPACES | {"hardway-gateway"})
    left = lab.kubectl("get", "clusterroles,clusterrolebindings,crds", "--output", "name")
    assert "victoria" not in left
    assert "vlagent" not in left
    assert "gateway" not in left
