"""A control plane from its plan: the real programs' flags, and all of it run for real."""

import json
import os
import re
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from plan import (
    apiserver,
    audit,
    control_plane,
    controller_manager,
    election,
    etcd,
    layout,
    readyz,
    scheduler,
)
from plan.model import Unit
from tests.certs.clusters import SINGLE
from tests.engine.stack import PATIENCE, eventually
from tests.plan.emulated import on
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.limited import limited
from tests.plan.running import (
    LocalCluster,
    LocalMachine,
    beside_waits,
    programs,
    run,
    stored_program,
)

UNITS = (apiserver.unit, controller_manager.unit, scheduler.unit)
CLUSTERS = pytest.mark.parametrize("name", NAMES)


def _units(name: str) -> Iterator[tuple[str, Unit]]:
    for node, plan in golden_plan(name).nodes.items():
        if node in golden_spec(name).control_planes:
            yield from ((node, unit) for unit in plan.step("control-plane").units)


# -- flags and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(UNITS)))
def test_the_cipher_suites_are_those_that_the_program_prefers(number: int) -> None:
    unit = UNITS[number](SINGLE, SINGLE.control_planes[0])
    program = stored_program(Path(unit.program).name, SINGLE.versions)
    help_text = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    preferred = re.search(
        r"--tls-cipher-suites.*?Preferred values: ([^.]+)\.", help_text, re.DOTALL
    )
    assert preferred
    assert set(unit.flags["tls-cipher-suites"].split(",")) <= set(preferred[1].split(", "))


@CLUSTERS
def test_the_api_server_reaches_every_member_encrypted_and_its_own_one_first(name: str) -> None:
    spec = golden_spec(name)
    for node, unit in _units(name):
        if unit.name == apiserver.UNIT:
            urls = unit.flags["etcd-servers"].split(",")
            assert sorted(urls) == sorted(layout.etcd_urls(spec))
            assert all(url.startswith("https://") for url in urls)
            if node in spec.etcd_members:
                assert str(spec.machines[node].address) in urls[0]


@CLUSTERS
def test_somebody_is_elected_exactly_where_there_is_a_choice(name: str) -> None:
    several = len(golden_spec(name).control_planes) > 1
    for node, unit in _units(name):
        if unit.name == controller_manager.UNIT:
            assert unit.flags["leader-elect"] == str(several).lower()
        if unit.name == scheduler.UNIT:
            files = golden_plan(name).nodes[node].step("control-plane").files
            text = next(file.content for file in files if file.path == unit.flags["config"])
            assert yaml.safe_load(text)["leaderElection"]["leaderElect"] is several


def test_a_lease_outlives_its_renewal_and_a_renewal_several_tries() -> None:
    """As client-go demands: lease above renewal, renewal above 1.2 tries."""
    lease, renewal, retry = (
        float(text.removesuffix("s")) for text in (election.LEASE, election.RENEWAL, election.RETRY)
    )
    assert lease > renewal > 1.2 * retry


@CLUSTERS
def test_who_would_fail_before_the_api_is_ready_waits_for_it(name: str) -> None:
    for _, unit in _units(name):
        waits = any(line.startswith(readyz.WAIT.path) for line in unit.before_start)
        assert waits is (unit.name in {controller_manager.UNIT, scheduler.UNIT})


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@CLUSTERS
def test_every_service_of_a_control_plane_stops_within_bounds(name: str) -> None:
    """An API server's delay and watches come first; calls that are under way have 10 s at least."""
    for _, unit in _units(name):
        if unit.program.startswith("/usr/local"):
            before = ("shutdown-delay-duration", "shutdown-watch-termination-grace-period")
            needed = sum(_seconds(unit.flags[flag]) for flag in before if flag in unit.flags)
            assert needed + 10 <= float(unit.service["TimeoutStopSec"]) <= 30


@CLUSTERS
def test_an_api_server_serves_on_while_it_ends_exactly_where_there_is_another(name: str) -> None:
    several = len(golden_spec(name).control_planes) > 1
    for _, unit in _units(name):
        if unit.name == apiserver.UNIT:
            assert bool(_seconds(unit.flags["shutdown-delay-duration"])) is several
            # Without it, it waits for watches as long as for calls: 60 s (1.37.1).
            assert _seconds(unit.flags["shutdown-watch-termination-grace-period"]) > 0


@CLUSTERS
def test_node_objects_get_a_pod_network_where_flannel_reads_it_from_them(name: str) -> None:
    spec = golden_spec(name)
    for _, unit in _units(name):
        if unit.name == controller_manager.UNIT:
            given = unit.flags["allocate-node-cidrs"] == "true"
            assert given is (spec.flannel.store == "kubernetes")
            assert given is (unit.flags.get("cluster-cidr") == str(spec.networks.pods))


def test_no_rule_of_the_audit_policy_writes_down_what_is_in_a_secret() -> None:
    """The first rule that fits decides: confidential resources are before all that say more."""
    rules = audit.POLICY["rules"]
    bodies = [number for number, rule in enumerate(rules) if rule["level"].startswith("Request")]
    assert rules[0]["level"] == "Metadata"
    confidential = {resource for entry in rules[0]["resources"] for resource in entry["resources"]}
    assert {"secrets", "configmaps", "serviceaccounts/token", "tokenreviews"} <= confidential
    for number in bodies:
        assert all(entry["group"] for entry in rules[number]["resources"])
    assert rules[-1] == {"level": "Metadata"}


# -- run for real --------------------------------------------------------------------------------

SECRET = "correct horse battery staple"
EMULATED = on(SINGLE, "qemu")
"""All flags that there are: on others an API server has some fewer."""


class RunningControlPlane:
    """A machine with a member and a control plane whose services run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = LocalCluster(EMULATED, folder)
        self.machine = LocalMachine(self.cluster, "master")
        self.path = programs(folder / "bin", EMULATED, ("etcdctl",))
        self.etcd = etcd.step(EMULATED, "master")
        self.step = control_plane.step(EMULATED, "master")
        self.machine.furnish(self.etcd, self.step)

    def url(self, port: int) -> str:
        return f"https://127.0.0.1:{self.cluster.ports['master', port]}"

    def tls(self, person: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=f"{self.machine.root}{layout.AUTHORITY}")
        if person:
            pair = self.cluster.keys.of_people()[person]
            file = self.folder / f"{person}.pem"
            file.write_text(pair.certificate + pair.key)
            context.load_cert_chain(file)
        return context

    def client(self, person: str | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.url(6443), verify=self.tls(person), timeout=120)

    def audited(self) -> list[dict[str, Any]]:
        log = self.machine.root / "var/log/kubernetes/audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    """Everything started as systemd would, and both steps' scripts run."""
    made = RunningControlPlane(tmp_path_factory.mktemp("control-plane"))
    machine = made.machine
    with ExitStack() as stack:
        stack.enter_context(machine.running(made.etcd.units[0]))
        assert run(machine.script(made.etcd, made.path)).returncode == 0
        for unit in made.step.units:
            for line in unit.before_start:
                program, *arguments = machine.here(line).split()
                file = next(f for f in made.step.files if f.path == program)
                subprocess.run(
                    ["bash", "-c", file.content, "-", *arguments], check=True, timeout=PATIENCE
                )
            process = stack.enter_context(machine.running(unit))
            for line in unit.after_start:
                _started(machine, line, process.pid)
        done = run(machine.script(made.step, made.path))
        outcome = f"{made.step.outcome}\n"
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, outcome, "")
        yield made


def _started(machine: LocalMachine, line: str, process: int) -> None:
    program, *arguments = machine.here(line).split()
    subprocess.run(
        ["bash", str(machine.programs / Path(program).name), *arguments],
        check=True,
        timeout=PATIENCE,
        env={**os.environ, "MAINPID": str(process)},
    )


@pytest.mark.engine
class TestRunning:
    def test_nobody_without_a_name_learns_more_than_health(
        self, running: RunningControlPlane
    ) -> None:
        with running.client() as nobody:
            for path in ("/healthz", "/livez", "/readyz"):
                assert nobody.get(path).status_code == 200
            for path in ("/", "/version", "/api", "/openapi/v2", "/metrics", "/readyz/etcd"):
                assert nobody.get(path).status_code == 401, path

    def test_nobody_is_profiled(self, running: RunningControlPlane) -> None:
        with running.client("super-admin") as person:
            assert person.get("/debug/pprof/").status_code == 404

    def test_etcd_is_not_asked_how_much_there_is(self, running: RunningControlPlane) -> None:
        with running.client("super-admin") as person:
            metrics = person.get("/metrics").text
        assert "\napiserver_storage_list_total" in metrics
        assert "\napiserver_storage_objects{" not in metrics
        for gate in ("SizeBasedListCostEstimate", "DetectCacheInconsistency"):
            assert re.search(rf'^kubernetes_feature_enabled{{name="{gate}",.*}} 0$', metrics, re.M)

    def test_a_secret_is_unreadable_in_etcd_and_absent_from_the_audit_log(
        self, running: RunningControlPlane
    ) -> None:
        secret = {"metadata": {"name": "one"}, "stringData": {"password": SECRET}}
        with running.client("super-admin") as person:
            path = "/api/v1/namespaces/default/secrets"
            assert person.post(path, json=secret).status_code == 201
            answer = person.get(f"{path}/one").json()
        assert answer["data"]["password"] == b64encode(SECRET.encode()).decode()
        kept = self._kept(running, "/registry/secrets/default/one")
        assert kept.startswith(b"k8s:enc:secretbox:v1:")
        assert SECRET.encode() not in kept

        lines = [
            line
            for line in running.audited()
            if line.get("objectRef", {}).get("resource") == "secrets" and line["verb"] == "create"
        ]
        assert lines[-1]["level"] == "Metadata"
        assert lines[-1]["user"]["username"] == "kubernetes-super-admin"
        text = json.dumps(running.audited())
        assert SECRET not in text
        assert b64encode(SECRET.encode()).decode() not in text

    def _kept(self, running: RunningControlPlane, key: str) -> bytes:
        cert, private = running.machine.certificate("apiserver-etcd-client")
        command = [
            str(running.path / "etcdctl"),
            f"--endpoints={running.url(2379)}",
            f"--cacert={running.machine.root}{layout.ETCD_AUTHORITY}",
            f"--cert={cert}",
            f"--key={private}",
        ]
        done = subprocess.run([*command, "get", "--print-value-only", key], capture_output=True)
        return done.stdout

    def test_the_controller_manager_works_and_tokens_are_not_written_down(
        self, running: RunningControlPlane
    ) -> None:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        with running.client("super-admin") as person:
            eventually("it is so", lambda: person.get(account).status_code == 200)
            request = {"spec": {"expirationSeconds": 3600}}
            token = person.post(f"{account}/token", json=request).json()["status"]["token"]
        with running.client() as bearer:
            answer = bearer.get("/version", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert token.rpartition(".")[2] not in json.dumps(running.audited())

    def test_a_change_of_rights_is_written_down_in_full(self, running: RunningControlPlane) -> None:
        role = {
            "metadata": {"name": "reader"},
            "rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}],
        }
        path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        with running.client("super-admin") as person:
            assert person.post(path, json=role).status_code == 201
        line = next(
            line
            for line in running.audited()
            if line.get("objectRef", {}).get("name") == "reader" and line["verb"] == "create"
        )
        assert line["requestObject"]["rules"][0]["nonResourceURLs"] == ["/x"]

    @pytest.mark.parametrize("port", [6443, 2379, controller_manager.PORT, scheduler.PORT])
    def test_weak_ciphers_are_refused(self, running: RunningControlPlane, port: int) -> None:
        """CBC suites, which Go would take: the handshake ends before certificates are compared."""
        command = ["openssl", "s_client", "-tls1_2", "-connect", running.url(port)[8:]]
        for cipher, works in (
            ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
            ("ECDHE-ECDSA-AES128-SHA", False),
        ):
            done = subprocess.run([*command, "-cipher", cipher], capture_output=True, input=b"")
            assert (f"Cipher is {cipher}".encode() in done.stdout) is works

    def test_only_the_machine_itself_reaches_controller_manager_and_scheduler(
        self, running: RunningControlPlane
    ) -> None:
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        for port in (controller_manager.PORT, scheduler.PORT):
            mapped = running.cluster.ports["master", port]
            listening = re.findall(rf" (\w+):{mapped:04X} 0+:0000 0A", table)
            assert listening == ["0100007F"]

    def test_a_part_that_is_not_well_is_named_with_what_it_says(
        self, running: RunningControlPlane
    ) -> None:
        text = running.machine.script(running.step, running.path)
        text = re.sub(r"\napi=\S+", f"\napi={running.url(6443)}/nothing", text)
        text = text.replace("\nseveral=''", "\nseveral=yes")
        done = run(limited(text, 1))
        assert done.returncode != 0
        assert "the API server is ready" in done.stderr
        assert "kube-apiserver.service" in done.stderr
