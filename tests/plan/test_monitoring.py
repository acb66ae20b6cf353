"""The history of nodes and pods, and its pages: the real programs read a real API server."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from certs.table import Authority
from plan.addons import history, monitoring, wanted
from plan.condition import Known
from plan.conditions import conditions
from plan.needs import ports
from plan.objects import Manifest
from spec.cluster import API_PORT, Cluster
from tests.engine.stack import eventually
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import inside
from tests.plan.test_node_objects import NodesWorld, world_in
from tests.ports import free_port


def described(**more: Any) -> Cluster:
    """A cluster of two nodes with these add-ons."""
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    return cluster(machines=machines, addons={"coredns": False, **more})


pytestmark = pytest.mark.engine

ON = described(monitoring={"interval": 15})


def objects(spec: Cluster, kind: str) -> list[Manifest]:
    return [manifest for manifest in wanted(spec)["monitoring"] if manifest["kind"] == kind]


def template(spec: Cluster, kind: str) -> Manifest:
    (manifest,) = objects(spec, kind)
    pod: Manifest = manifest["spec"]["template"]
    return pod


# -- objects -------------------------------------------------------------------------------------


def test_no_port_of_a_machine_is_opened() -> None:
    assert ports(ON, "minion") == ports(described(), "minion")
    for kind in ("Deployment", "DaemonSet"):
        pod = template(ON, kind)["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        (container,) = pod["containers"]
        assert all("hostPort" not in port for port in container["ports"])
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_only_those_who_need_it_reach_what_has_no_login() -> None:
    policies = {row["metadata"]["name"]: row["spec"] for row in objects(ON, "NetworkPolicy")}
    own, exporters = policies["victoria-metrics"], policies["node-exporter"]
    assert own["ingress"][0]["from"] == [{"ipBlock": {"cidr": "192.168.1.0/24"}}]
    (caller,) = exporters["ingress"][0]["from"]
    labels = template(ON, "Deployment")["metadata"]["labels"]
    assert caller["podSelector"]["matchLabels"].items() <= labels.items()
    for policy, kind in ((own, "Deployment"), (exporters, "DaemonSet")):
        pod = template(ON, kind)
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (port,) = pod["spec"]["containers"][0]["ports"]
        assert policy["ingress"][0]["ports"][0]["port"] == port["containerPort"]


def test_the_history_is_in_a_claim_where_claims_are_served() -> None:
    with_storage = described(monitoring=True, storage=True)
    (claim,) = objects(with_storage, "PersistentVolumeClaim")
    assert "storageClassName" not in claim["spec"], "the default one"
    for spec, source in (
        (with_storage, {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}),
        (ON, {"emptyDir": {}}),
    ):
        (data,) = (
            row for row in template(spec, "Deployment")["spec"]["volumes"] if row["name"] == "data"
        )
        assert data == {"name": "data", **source}
    assert not objects(ON, "PersistentVolumeClaim")


def test_settings_reach_the_program() -> None:
    spec = described(monitoring={"retention": 31, "interval": 60})
    (container,) = template(spec, "Deployment")["spec"]["containers"]
    assert "-retentionPeriod=31d" in container["args"]
    jobs = yaml.safe_load(monitoring.scraping(spec))
    assert jobs["global"]["scrape_interval"] == "60s"
    changed = (template(row, "Deployment")["metadata"] for row in (ON, spec))
    assert len({json.dumps(row) for row in changed}) == 2, "the pod is made anew"


def test_coredns_is_read_where_there_is_one() -> None:
    for spec, reads in ((ON, False), (described(monitoring=True, coredns=True), True)):
        names = [
            row["job_name"] for row in yaml.safe_load(monitoring.scraping(spec))["scrape_configs"]
        ]
        assert ("coredns" in names) == reads
        roles = {row["metadata"]["namespace"] for row in objects(spec, "Role")}
        assert ("kube-system" in roles) == reads


# -- the programs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("monitoring")) as world:
        yield world


def program(name: str, folder: Path) -> Path:
    return inside(stored_program(name, ON.versions), name, folder)


@contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def registered(world: NodesWorld, exporter: int) -> None:
    """Both nodes, and the pods of the DaemonSet, all of them at this computer's loopback."""
    world.registered(world.spec)
    world.follows(world.spec)
    for number, node in enumerate(("master", "minion"), start=1):
        at = [{"type": "InternalIP", "address": "127.0.0.1"}]
        endpoint = {"kubeletEndpoint": {"Port": 1}}
        patch(world, f"node {node}", {"addresses": at, "daemonEndpoints": endpoint})
        pod = template(ON, "DaemonSet")
        labels = pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        container = {**container, "ports": [{"name": "metrics", "containerPort": exporter}]}
        own = {"name": f"exporter-{number}", "namespace": monitoring.EXPORTER_NAMESPACE}
        world.kubectl(
            "apply -f -",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**own, "labels": labels},
                "spec": {**pod["spec"], "containers": [container], "nodeName": node},
            },
        )
        ip = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        patch(world, f"-n {own['namespace']} pod {own['name']}", ip)


def patch(world: NodesWorld, what: str, status: Any) -> None:
    compact = json.dumps({"status": status}, separators=(",", ":"))
    world.kubectl(f"patch {what} --subresource status --type merge --patch {compact}")


class HistoryOfTest:
    """VictoriaMetrics and a node_exporter as in the pods, with the account's own rights."""

    def __init__(self, world: NodesWorld, folder: Path, stack: ExitStack) -> None:
        done = world.applied(ON)
        assert done.returncode == 0, done.stdout + done.stderr
        self.port, exporter = free_port(), free_port()
        registered(world, exporter)
        config = yaml.safe_load(world.admin)
        server = config["clusters"][0]["cluster"]["server"]
        secrets = folder / "secrets"
        secrets.mkdir()
        account = f"-n {monitoring.NAMESPACE} create token {monitoring.NAME}"
        (secrets / "token").write_text(world.kubectl(account).strip())
        (secrets / "ca.crt").write_text(
            world.cluster.keys.signers[Authority.KUBERNETES].certificate
        )
        (folder / "dashboards").mkdir()
        for name, text in monitoring.dashboards().items():
            (folder / "dashboards" / name).write_text(text)
        settings = yaml.safe_load(monitoring.scraping(ON))
        for job in settings["scrape_configs"]:
            for discovery in job.get("kubernetes_sd_configs", ()):
                discovery["api_server"] = server
                discovery["bearer_token_file"] = f"{secrets}/token"
                discovery["tls_config"] = {"ca_file": f"{secrets}/ca.crt"}
            # Time passes as slowly here as on machines.
            job["scrape_interval"] = "1s"
            job["scrape_timeout"] = "30s"
        text = yaml.safe_dump(settings)
        text = text.replace(monitoring.CREDENTIALS, str(secrets))
        text = text.replace(f"$1:{API_PORT}", f"127.0.0.1:{server.rpartition(':')[2]}")
        (folder / "scrape.yaml").write_text(text)
        replaced = {
            f":{monitoring.PORT}": f"127.0.0.1:{self.port}",
            "/etc/victoria-metrics": str(folder),
            "/etc/dashboards": str(folder / "dashboards"),
            f"={monitoring.FOLDER}": f"={folder / 'data'}",
        }
        self.log = folder / "victoria-metrics.log"
        command = [str(program(monitoring.NAME, folder)), *arguments("Deployment", replaced)]
        self.process = stack.enter_context(started(command, self.log, GOMAXPROCS="1"))
        replaced = {f":{monitoring.EXPORTER_PORT}": f"127.0.0.1:{exporter}", "/host": "/"}
        command = [str(program(monitoring.EXPORTER, folder)), *arguments("DaemonSet", replaced)]
        self.exporter = stack.enter_context(started(command, folder / "exporter.log"))

    def get(self, path: str, **query: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, params=query, trust_env=False, timeout=60)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.shown()
        try:
            return self.get("/health").is_success
        except httpx.TransportError:
            return False

    def series(self, query: str) -> list[dict[str, str]]:
        """The labels of a query's answers."""
        answer = self.get("/api/v1/query", query=query, latency_offset="1ms")
        assert answer.is_success, answer.text
        return [row["metric"] for row in answer.json()["data"]["result"]]

    def shown(self) -> str:
        return self.log.read_text()[-3000:]


def arguments(kind: str, replaced: dict[str, str]) -> list[str]:
    (container,) = template(ON, kind)["spec"]["containers"]
    given = []
    for word in container["args"]:
        for before, after in replaced.items():
            word = word.replace(before, after)
        given.append(word.replace("//", "/"))
    return given


@pytest.fixture(scope="module")
def reading(world: NodesWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryOfTest]:
    with ExitStack() as stack:
        reading = HistoryOfTest(world, tmp_path_factory.mktemp("programs"), stack)
        eventually("it answers", reading.answers, reason=reading.shown)
        yield reading


def test_a_claim_is_taken_by_the_api(world: NodesWorld) -> None:
    done = world.applied(described(monitoring=True, storage=True))
    assert done.returncode == 0, done.stdout + done.stderr
    claim = f"-n {history.NAMESPACE} get persistentvolumeclaim {monitoring.NAME} --output json"
    assert json.loads(world.kubectl(claim))["spec"]["accessModes"] == ["ReadWriteOnce"]


class TestReading:
    def test_each_node_is_read_and_its_series_are_named_after_it(
        self, reading: HistoryOfTest
    ) -> None:
        memory = "node_memory_MemAvailable_bytes"
        eventually(
            "both nodes have memory",
            lambda: {row["node"] for row in reading.series(memory)} == {"master", "minion"},
            reason=reading.shown,
        )
        for name in ("node_load5", "node_cpu_seconds_total", "node_disk_io_time_seconds_total"):
            assert reading.series(name), name

    def test_api_servers_are_read_with_the_accounts_own_rights(
        self, reading: HistoryOfTest
    ) -> None:
        eventually(
            "the API server of the master is read",
            lambda: (
                [row["node"] for row in reading.series('up{job="api-server"} == 1')] == ["master"]
            ),
            reason=reading.shown,
        )
        names = {row["__name__"] for row in reading.series('{job="api-server"}')}
        assert {"apiserver_request_total", "etcd_request_duration_seconds_count"} <= names
        assert not [name for name in names if name.endswith("_bucket")], "nobody asks for them"
        assert "forbidden" not in reading.log.read_text()

    def test_kubelets_are_asked_for_what_their_rights_open(self, reading: HistoryOfTest) -> None:
        """None runs here, so what is asked of whom is all that is seen of it."""
        eventually(
            "each kubelet is asked twice",
            lambda: len(reading.series('up{job=~"kubelet|traffic"} == 0')) == 4,
            reason=reading.shown,
        )
        targets = reading.get("/api/v1/targets").json()["data"]["activeTargets"]
        asked = {
            row["scrapeUrl"] for row in targets if row["labels"]["job"] in ("kubelet", "traffic")
        }
        assert asked == {f"https://127.0.0.1:1/metrics/{end}" for end in ("resource", "cadvisor")}

    def test_the_condition_names_the_nodes_that_are_wholly_read(
        self, reading: HistoryOfTest
    ) -> None:
        (known,) = (row.check for row in conditions(ON) if isinstance(row.check, Known))
        assert known.values == ("master", "minion")
        assert known.query.endswith("== 3")
        assert reading.series(known.query) == [], "no kubelet runs"
        api = known.query.replace("kubelet|traffic|", "").replace("== 3", "== 1")
        eventually(
            "the exporters count",
            lambda: {row["node"] for row in reading.series(api)} == set(known.values),
        )

    def test_each_graph_of_each_page_is_understood(self, reading: HistoryOfTest) -> None:
        served = reading.get("/vmui/custom-dashboards").json()["dashboardsSettings"]
        assert [row["title"] for row in served] == [
            json.loads(text)["title"] for text in monitoring.dashboards().values()
        ]
        graphs = [panel for page in served for row in page["rows"] for panel in row["panels"]]
        assert len(graphs) > 40
        for panel in graphs:
            for expression in panel["expr"]:
                answer = reading.get("/api/v1/query", query=expression)
                assert answer.is_success, f"{panel['title']}: {answer.text}"

    def test_what_graphs_of_api_servers_and_machines_name_exists(
        self, reading: HistoryOfTest
    ) -> None:
        """With the pinned versions; the rest is seen on machines."""
        own = "(?:apiserver_|etcd_|process_|node_(?:memory_Mem|disk|load|cpu_seconds))"
        text = "".join(monitoring.dashboards().values())
        names = set(re.findall(rf"\b{own}[a-zA-Z0-9_]*", text))
        assert len(names) > 12
        there: set[str] = set()

        def all_there() -> bool:
            there.update(row["__name__"] for row in reading.series('{__name__!=""}'))
            return names <= there

        eventually("each is there", all_there, reason=lambda: str(names - there))

    def test_the_first_page_is_there(self, reading: HistoryOfTest) -> None:
        (page,) = monitoring.ADD_ON.pages(ON)
        answer = reading.get(page.path.partition("#")[0])
        assert '<div id="root">' in answer.text

    @pytest.mark.usefixtures("reading")
    def test_switched_off_it_leaves_nothing(self, world: NodesWorld) -> None:
        kinds = "clusterroles,clusterrolebindings,namespaces"
        assert "victoria" in world.kubectl(f"get {kinds}")
        done = world.applied(described())
        assert done.returncode == 0, done.stdout + done.stderr
        assert "victoria" not in world.kubectl(f"get {kinds}")
        everything = "deployments,daemonsets,configmaps,services,networkpolicies,roles"
        left = world.kubectl(f"get {everything} --all-namespaces")
        assert "victoria" not in left
        assert "exporter" not in left
