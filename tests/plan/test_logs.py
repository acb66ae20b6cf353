"""Logs of pods and machines: the real programs read real files and a real journal."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from certs.table import Authority
from plan.addons import logs, wanted
from plan.condition import Known
from plan.conditions import conditions
from plan.needs import ports
from plan.objects import Manifest
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.container import Container
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import as_root, inside
from tests.plan.test_node_objects import NodesWorld, world_in
from tests.ports import free_port

POD = "vlagent-of-minion"
ENTRIES = {"shop": ("web", "an order came"), "kube-system": ("dns", "a name was asked for")}
"""Namespace to a pod in it and what the pod writes."""


def described(**more: Any) -> Cluster:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    return cluster(machines=machines, addons=more)


ON = described(logs=True)


def objects(spec: Cluster, kind: str) -> list[Manifest]:
    return [manifest for manifest in wanted(spec)["logs"] if manifest["kind"] == kind]


def template(spec: Cluster, kind: str) -> Manifest:
    (manifest,) = objects(spec, kind)
    pod: Manifest = manifest["spec"]["template"]
    return pod


def arguments(program: str, replaced: dict[str, str]) -> list[str]:
    """The program's arguments in its pod, with some parts replaced."""
    given = []
    for kind in ("Deployment", "DaemonSet"):
        for container in template(ON, kind)["spec"]["containers"]:
            if container["name"] == program:
                given = container["args"]
    assert given
    for before, after in replaced.items():
        given = [word.replace(before, after) for word in given]
    return given


def memory(status: str) -> str:
    """What /proc says of a process's memory, in MiB."""
    kib = {row.split(":")[0]: row.split()[1] for row in status.splitlines() if " kB" in row}
    return f"{int(kib['VmRSS']) // 1024} MiB resident, {int(kib['RssAnon']) // 1024} anonymous"


# -- objects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ON, described(logs=True, storage=True)])
def test_what_reads_a_machine_changes_nothing_there_but_its_own_folder(spec: Cluster) -> None:
    assert ports(spec, "minion") == ports(described(), "minion")
    pod = template(spec, "DaemonSet")["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in pod["containers"]:
        assert "ports" not in container
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        written = [row["mountPath"] for row in container["volumeMounts"] if "readOnly" not in row]
        assert written == [logs.STATE]


def test_every_mounted_volume_is_there_and_docker_has_its_own() -> None:
    of_docker = cluster(addons={"logs": True}, runtime="docker")
    for spec, extra in ((ON, set()), (of_docker, {"/var/lib/docker/containers"})):
        pod = template(spec, "DaemonSet")["spec"]
        volumes = {row["name"]: row["hostPath"]["path"] for row in pod["volumes"]}
        mounts = [mount for row in pod["containers"] for mount in row["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes.keys()
        assert all(volumes[mount["name"]] == mount["mountPath"] for mount in mounts)
        assert {path for path in volumes.values() if "docker" in path} == extra


def test_only_readers_and_machines_reach_what_has_no_login() -> None:
    (policy,) = objects(ON, "NetworkPolicy")
    (ingress,) = policy["spec"]["ingress"]
    machines, readers = ingress["from"]
    assert machines == {"ipBlock": {"cidr": "192.168.1.0/24"}}
    labels = template(ON, "DaemonSet")["metadata"]["labels"]
    assert readers["podSelector"]["matchLabels"].items() <= labels.items()
    own = template(ON, "Deployment")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= own["metadata"]["labels"].items()
    assert ingress["ports"][0]["port"] == own["spec"]["containers"][0]["ports"][0]["containerPort"]


def test_settings_reach_the_programs() -> None:
    spec = described(logs={"retention": 31, "limit": 5}, storage=True)
    (keeper,) = template(spec, "Deployment")["spec"]["containers"]
    assert {"-retentionPeriod=31d", "-retention.maxDiskSpaceUsageBytes=5GiB"} <= {*keeper["args"]}
    _, sender = template(spec, "DaemonSet")["spec"]["containers"]
    assert "-since=-31d" in sender["args"]
    assert len(objects(spec, "PersistentVolumeClaim")) == 1


# -- the programs --------------------------------------------------------------------------------


def program(name: str, folder: Path) -> Path:
    return inside(stored_program(name, ON.versions), name, folder)


class Keeping:
    """VictoriaLogs as in its pod, at a port of this computer."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._program = program(logs.NAME, folder)
        self.log = folder / "victoria-logs.log"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        at = {f":{logs.PORT}": f"127.0.0.1:{self.port}", f"={logs.FOLDER}": f"={self.folder}/data"}
        command = [str(self._program), *arguments(logs.NAME, at)]
        with self.log.open("a") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, "GOMAXPROCS": "1"}
            )
        try:
            eventually("VictoriaLogs answers", self._answers, reason=self.log.read_text)
            yield process
        finally:
            process.terminate()
            process.wait()

    def _answers(self) -> bool:
        try:
            return self.get("/health").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, params=query, trust_env=False, timeout=60)

    def search(self, query: str) -> list[dict[str, str]]:
        answer = self.get("/select/logsql/query", query=query)
        assert answer.is_success, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("logs")) as world:
        world.registered(world.spec)
        yield world


def placed(world: NodesWorld, namespace: str, name: str, folder: Path) -> Path:
    """The log of a pod's container on the minion, where the kubelet would have it."""
    world.furnish(namespace)
    world.begin(namespace, name)
    identity = f"{name}0123456789"
    status = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "main",
                "containerID": f"containerd://{identity}",
                "image": "none",
                "imageID": "none",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {}},
            }
        ],
    }
    compact = json.dumps({"status": status}, separators=(",", ":"))
    patch = f"patch --namespace {namespace} pod {name} --subresource status --type merge"
    world.kubectl(f"{patch} --patch {compact}")
    path = folder / f"{name}_{namespace}_main-{identity}.log"
    path.touch()
    return path


def write(path: Path, message: str) -> None:
    with path.open("a") as file:
        file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} stdout F {message}\n")


class FollowedPods:
    """vlagent with the rights and the token of its account, and a pod of its own."""

    def __init__(self, world: NodesWorld, keeping: Keeping, folder: Path) -> None:
        self.log, self.files = folder / "vlagent.log", folder / "containers"
        self.files.mkdir()
        placed(world, logs.READER_NAMESPACE, POD, self.files)
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        account = f"-n {logs.READER_NAMESPACE} create token {logs.READER}"
        authority = world.cluster.keys.signers[Authority.KUBERNETES].certificate
        for name, text in (
            ("token", world.kubectl(account).strip()),
            ("ca.crt", authority),
            ("namespace", logs.READER_NAMESPACE),
        ):
            (self.secrets / name).write_text(text)
        config = json.loads(world.kubectl("config view --raw --output json"))
        server = config["clusters"][0]["cluster"]["server"]
        self._api = server.removeprefix("https://").split(":")
        own = f"{logs.NAME}.{logs.NAMESPACE}.svc.{ON.dns_domain}:{logs.PORT}"
        replaced = {
            own: f"127.0.0.1:{keeping.port}",
            "$(NODE)": "minion",
            logs.STATE: str(folder / "state"),
        }
        self._command = [
            str(program(logs.READER, folder)),
            *arguments(logs.READER, replaced),
            f"-kubernetesCollector.logsPath={self.files}",
        ]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """In a host name and a /run of its own, as a container has them."""
        prepare = (
            "mount -t tmpfs tmpfs /run; mkdir -p /run/secrets/kubernetes.io/serviceaccount; "
            f"cp {self.secrets}/* /run/secrets/kubernetes.io/serviceaccount; "
            f'hostname {POD}; exec "$@"'
        )
        alone = ["unshare", "--mount", "--uts", "sh", "-euc", prepare, "sh"]
        host, port = self._api
        own = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        with self.log.open("a") as output:
            process = subprocess.Popen(
                [*alone, *self._command],
                stdout=output,
                stderr=output,
                env={**os.environ, **own, "GOMAXPROCS": "1"},
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


@as_root
@pytest.mark.engine
def test_lines_of_pods_are_found_by_namespace_pod_and_machine(
    world: NodesWorld, tmp_path: Path
) -> None:
    done = world.applied(ON)
    assert done.returncode == 0, done.stdout + done.stderr
    keeping = Keeping(tmp_path)
    reading = FollowedPods(world, keeping, tmp_path)
    files = {
        namespace: placed(world, namespace, name, reading.files)
        for namespace, (name, _) in ENTRIES.items()
    }
    with ExitStack() as stack:
        stack.enter_context(keeping.running())
        with reading.running() as process:
            for namespace, (name, message) in ENTRIES.items():
                write(files[namespace], message)
                query = f"kubernetes.pod_namespace:={namespace}"

                def seen(query: str = query) -> bool:
                    assert process.poll() is None, reading.log.read_text()
                    return bool(keeping.search(query))

                eventually("the line is there", seen, reason=reading.log.read_text)
                (row,) = keeping.search(query)
                assert row["_msg"] == message
                assert keeping.search(f"kubernetes.pod_name:={name} machine:=minion") == [row]
            print("vlagent:", memory(Path(f"/proc/{process.pid}/status").read_text()))
        (web, _) = ENTRIES["shop"]
        write(files["shop"], "while nobody read")
        with reading.running():
            eventually("it is made up for", lambda: keeping.search("nobody read"))
        (row,) = keeping.search("an order came")
        assert row["kubernetes.pod_name"] == web, "and nothing comes twice"
        assert "403" not in reading.log.read_text(), "its rights suffice"
    with keeping.running() as process:
        assert len(keeping.search(f"kubernetes.pod_name:={web}")) == 2, "the history stays"
        assert '<div id="root">' in keeping.get(logs.ADD_ON.pages(ON)[0].path).text
        print("VictoriaLogs:", memory(Path(f"/proc/{process.pid}/status").read_text()))


@as_root
@pytest.mark.engine
def test_switched_off_it_leaves_nothing_in_the_cluster(world: NodesWorld) -> None:
    assert world.applied(ON).returncode == 0
    kinds = "daemonsets,deployments,services,networkpolicies,serviceaccounts,clusterrolebindings"
    listed = f"get {kinds},clusterroles --all-namespaces"
    made = world.kubectl(listed)
    assert logs.NAME in made
    assert logs.READER in made
    done = world.applied(described())
    assert done.returncode == 0, done.stdout + done.stderr
    left = world.kubectl(listed)
    assert logs.NAME not in left
    assert logs.READER not in left


# -- a journal -----------------------------------------------------------------------------------


class JournalOfTest:
    """A machine with a journal, VictoriaLogs there, and the sender with what its pod has."""

    SENDER = "sender.service"

    def __init__(self, machine: Container, folder: Path) -> None:
        self.machine = machine
        for name in (logs.NAME, logs.SENDER):
            machine.write(f"/srv/{name}/{name}", program(name, folder).read_bytes(), 0o755)
        machine.path(logs.STATE).mkdir(parents=True)
        own = f"{logs.NAME}.{logs.NAMESPACE}.svc.{ON.dns_domain}:{logs.PORT}"
        at = {own: f"127.0.0.1:{logs.PORT}", "$(NODE)": "minion"}
        self._sender = [f"/{logs.SENDER}", *arguments(logs.SENDER, at)]

    def keep(self) -> None:
        keeper = [f"/srv/{logs.NAME}/{logs.NAME}", *arguments(logs.NAME, {})]
        self._unit("keeper.service", [], keeper)

    def send(self) -> None:
        """As root without capabilities, in a root folder with the pod's mounts and nothing else."""
        _, sender = template(ON, "DaemonSet")["spec"]["containers"]
        mounts = [
            f"{'BindReadOnlyPaths' if mount.get('readOnly') else 'BindPaths'}={mount['mountPath']}"
            for mount in sender["volumeMounts"]
        ]
        confined = [f"RootDirectory=/srv/{logs.SENDER}", "MountAPIVFS=yes", *mounts]
        confined += ["CapabilityBoundingSet=", "NoNewPrivileges=yes", "Environment=GOMAXPROCS=1"]
        # Its own lines go to a file, as in a pod, and not into the journal that it reads.
        confined += ["StandardOutput=append:/srv/report", "StandardError=append:/srv/report"]
        self._unit(self.SENDER, confined, self._sender)

    def _unit(self, name: str, properties: list[str], command: list[str]) -> None:
        given = [f"--property={row}" for row in properties]
        self.machine.call("systemd-run", f"--unit={name}", "--collect", *given, "--", *command)

    def end(self, name: str, signal: str = "TERM") -> None:
        self.machine.call("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", name)
        eventually(
            f"{name} has ended",
            lambda: self.machine.shown(name)[0]["ActiveState"] in ("inactive", "failed"),
        )

    def say(self, message: str) -> None:
        """A service of the machine writes a line."""
        unit = "--unit=kube-apiserver.service"
        self.machine.call("systemd-run", unit, "--wait", "--collect", "--", "echo", message)

    def search(self, query: str) -> list[dict[str, str]]:
        url = f"http://127.0.0.1:{logs.PORT}/select/logsql/query"
        ask = ("curl", "--silent", "--show-error", "--fail", "--data-urlencode", f"query={query}")
        try:
            output = self.machine.call(*ask, url)
        except RuntimeError:
            return []
        return [json.loads(line) for line in output.splitlines()]

    def report(self) -> str:
        path = self.machine.path("/srv/report")
        return path.read_text() if path.exists() else ""

    def memory(self, unit: str) -> str:
        pid = self.machine.shown(unit)[0]["MainPID"]
        return memory(self.machine.read(f"/proc/{pid}/status"))


@as_root
@pytest.mark.container
def test_a_services_lines_are_found_by_unit_and_machine_and_none_is_lost(
    new_machine: Callable[..., Container], tmp_path: Path
) -> None:
    of = JournalOfTest(new_machine(), tmp_path)
    of.say("before anybody read")
    of.send()
    query = 'machine:=minion unit:="kube-apiserver.service"'
    eventually("it says that nobody answers", lambda: "wait in the journal" in of.report())
    of.keep()
    eventually("the line is there", lambda: of.search(f'{query} "anybody read"'), reason=of.report)
    (row,) = of.search('"before anybody read" program:=echo')
    assert row["level"] == "info"
    assert "echo" in row["_stream"]
    eventually("it reports", lambda: logs.REPORTED in of.report(), reason=of.report)
    started = f'{query} program:=systemd "Started"'
    eventually("and what systemd says", lambda: of.search(started))
    cursor = of.machine.read(f"{logs.STATE}/journal")
    of.say("a second line")
    eventually("lines follow", lambda: of.search('"a second line" program:=echo'))
    eventually("so does the cursor", lambda: of.machine.read(f"{logs.STATE}/journal") != cursor)
    print("journal-sender:", of.memory(of.SENDER), "VictoriaLogs:", of.memory("keeper.service"))
    of.end(of.SENDER, "KILL")
    of.say("while nobody read")
    of.send()
    eventually("it is made up for", lambda: of.search('"while nobody read" program:=echo'))
    assert len(of.search('"a second line" program:=echo')) == 1, "and nothing comes twice"
    of.end("keeper.service")
    of.say("while nobody kept")
    of.keep()
    eventually("it waits in the journal", lambda: of.search('"while nobody kept" program:=echo'))
    assert len(of.search('"before anybody read" program:=echo')) == 1, "the history stays"


@pytest.mark.engine
def test_the_condition_names_the_machines_whose_reports_arrive(tmp_path: Path) -> None:
    (known,) = (
        row.check
        for row in conditions(ON)
        if isinstance(row.check, Known) and row.name == "logs-arrive"
    )
    keeping = Keeping(tmp_path)

    def known_machines() -> set[str]:
        answer = keeping.get(known.path, query=known.query)
        assert answer.is_success, answer.text
        return {row["metric"][known.label] for row in answer.json()["data"]["result"]}

    with keeping.running():
        rows = [
            (known.values[0], f"{logs.SENDER}: {logs.REPORTED}: 7 entries sent"),
            (known.values[1], f"{logs.SENDER}: VictoriaLogs takes no entries"),
        ]
        lines = "\n".join(
            json.dumps({"machine": machine, "_msg": text, "kubernetes.container_name": logs.SENDER})
            for machine, text in rows
        )
        url = f"http://127.0.0.1:{keeping.port}/insert/jsonline"
        httpx.post(url, content=lines, trust_env=False).raise_for_status()
        eventually("one of them", lambda: known_machines() == {known.values[0]})
