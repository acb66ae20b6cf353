"""A cluster on real machines, from nothing to nothing, as a person would use it.

The tests of this module tell one story and run in this order on the same cluster, the default
stack's. `make test` tells its chief parts, `make test-all` the whole of it.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from certs.ssh import new_key_pair
from lab import libvirt
from lab.cache import Cache
from lab.oci import write_archive
from lab.paths import PROJECT
from plan import layout
from tests import readme
from tests.machine import drift, living, previews
from tests.machine.lab import STACK, Lab, at_length, brought_up
from tests.plan.stored import inside, stored

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

MASTER = "master"
MINIONS = ("minion1", "minion2")
FIRST, LAST = MINIONS
ADDRESS = "192.168.1.10"
API = f"https://{ADDRESS}:6443"
SECRET = "hardway-was-here"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    cluster = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text())["config"]["hardway:cluster"]
    machines = {name: cluster["machines"][name] for name in (MASTER, *MINIONS)}

    def up(lab: Lab) -> None:
        _cut_off(lab)
        lab.make("up")
        for node in (FIRST, LAST):
            assert f"the machine {lab.stack}-{node} was shutoff: start" in lab.transcript

    cluster = {**cluster, "machines": machines}
    yield from brought_up(STACK, cluster, tmp_path_factory, request.session, up)


def _cut_off(lab: Lab) -> None:
    """Kill a first ``up`` in the middle, and two machines: all that follows happens on their rest.

    One is in the middle of its first boot, which has to be gone through again. The other has just
    said that it is ready, so what it holds must outlast a loss of power.
    """
    update = lab.start_up()
    booting = threading.Thread(target=_lose_power, args=(lab, FIRST))
    update.begins(f"{FIRST}-scripts", "create")
    booting.start()
    update.begins(f"{LAST}-identity", "create")
    booting.join()
    os.killpg(update.process.pid, signal.SIGKILL)
    update.process.wait()
    # The engine and its plugins lead groups of their own.
    for pid in _below(str(lab.paths.state)):
        os.kill(pid, signal.SIGKILL)
    lab.transcript += update.printed()
    lab.virsh("destroy", f"{lab.stack}-{LAST}")


def _lose_power(lab: Lab, node: str) -> None:
    """Kill a machine at the moment at which somebody listens for SSH."""
    address = lab.cluster["machines"][node]["address"]
    listens = f"until {{ true </dev/tcp/{address}/22; }} 2>/dev/null; do sleep 0.1; done"
    lab.inside("bash", "-c", listens, timeout=900)
    lab.virsh("destroy", f"{lab.stack}-{node}")


def _below(state: str) -> Iterator[int]:
    """The processes of Pulumi that work on this state."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"pulumi" in command and state.encode() in environment:
            yield int(folder.name)


def until(what: str, true: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(3)


def started(lab: Lab, node: str, *units: str) -> str:
    """When the services of a machine were started, and its boot."""
    services = " ".join(units or ("containerd", "kubelet", "kube-proxy", "flanneld"))
    return lab.on(
        node,
        f"cat /proc/sys/kernel/random/boot_id; systemctl show -p ExecMainStartTimestampMonotonic "
        f"{services}",
    )


# -- up --------------------------------------------------------------------------------------------


def test_up_went_on_from_where_it_was_cut_off_and_the_cluster_is_healthy(lab: Lab) -> None:
    report = json.loads(lab.hardway("validate", "--json", "--wait", "1200").stdout)
    assert report["verdict"] == "healthy", report
    assert {condition["name"] for condition in report["conditions"]} >= {
        "members",
        "api",
        "nodes",
        "dns",
    }
    nodes = {node["metadata"]["name"]: node for node in lab.objects("nodes")["items"]}
    assert nodes.keys() == {MASTER, *MINIONS}
    versions = {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes.values()}
    assert versions == {f"v{lab.outputs()['versions']['kubernetes']}"}


def test_a_second_preview_is_empty_and_no_operation_is_pending(lab: Lab) -> None:
    lab.pulumi("preview", "--expect-no-changes")
    state = json.loads(lab.pulumi("stack", "export").stdout)
    assert not state["deployment"].get("pending_operations")


def test_the_outputs_name_everything_and_hide_the_kubeconfig(lab: Lab) -> None:
    shown = json.loads(lab.pulumi("stack", "output", "--json").stdout)
    assert shown["endpoint"] == API
    assert shown["addresses"] == {
        name: machine["address"] for name, machine in lab.cluster["machines"].items()
    }
    assert shown["kubeconfig"] == shown["ssh_private_key"] == "[secret]"
    assert "client-key-data" in lab.outputs()["kubeconfig"]


@at_length
def test_the_machine_holds_the_artifacts_with_the_right_bytes(lab: Lab) -> None:
    digests = lab.on(LAST, "cd /var/lib/hardway/store/sha256 && sha256sum *")
    rows = [line.split() for line in digests.splitlines()]
    assert len(rows) >= 20
    assert all(digest == name for digest, name in rows)
    served = json.loads(lab.hardway("status", "--json").stdout)["mirror"]
    digest = rows[0][0]
    digest_line = lab.on(LAST, f"curl -fsS {served}/sha256/{digest} | sha256sum")
    assert digest_line.split()[0] == digest


SLOW = (
    "./hardway diagnose",
    "./hardway preview --live",
    "./hardway pulumi preview --refresh --diff",
)
"""Their parts are tried by themselves as well."""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[at_length] if command in SLOW else [])
        for command in readme.ON_A_CLUSTER
    ],
)
def test_a_command_of_the_readme_works_on_it(lab: Lab, command: str) -> None:
    folder = lab.folder / "readme"
    folder.mkdir(exist_ok=True)
    (folder / "hardway").unlink(missing_ok=True)
    (folder / "hardway").symlink_to(PROJECT / "hardway")
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**lab.environment, "KUBECONFIG": str(folder / "kubeconfig")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lab.transcript += f"$ {command}\n{done.stdout}{done.stderr}\n"
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or done.stderr or command.startswith("eval")


# -- what the cluster can do -----------------------------------------------------------------------


def _workload(image: str, generation: int) -> dict[str, Any]:
    corefile = ".:1053 {\n    health :8080\n    ready :8181\n    log\n    whoami\n}\n"
    labels = {"app": "probe"}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "probe"},
                "data": {"Corefile": corefile},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "probe"},
                "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "probe"},
                "spec": {
                    "replicas": 2,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels, "annotations": {"turn": str(generation)}},
                        "spec": {
                            "topologySpreadConstraints": [
                                {
                                    "maxSkew": 1,
                                    "topologyKey": "kubernetes.io/hostname",
                                    "whenUnsatisfiable": "DoNotSchedule",
                                    "labelSelector": {"matchLabels": labels},
                                }
                            ],
                            "containers": [
                                {
                                    "name": "probe",
                                    "image": image,
                                    "imagePullPolicy": "Never",
                                    "args": ["-conf", "/etc/probe/Corefile"],
                                    "volumeMounts": [{"name": "c", "mountPath": "/etc/probe"}],
                                    "readinessProbe": {
                                        "httpGet": {"path": "/ready", "port": 8181},
                                        "periodSeconds": 3,
                                    },
                                }
                            ],
                            "volumes": [{"name": "c", "configMap": {"name": "probe"}}],
                        },
                    },
                },
            },
        ],
    }


def _apply(lab: Lab, value: dict[str, Any]) -> None:
    file = lab.folder / "manifest.json"
    file.write_text(json.dumps(value))
    # An emulated API server takes longer to describe all that it knows than kubectl waits.
    lab.kubectl("apply", "--validate=false", "--filename", str(file))


def test_a_deployment_rolls_and_its_service_answers_by_name_from_every_machine(lab: Lab) -> None:
    dns = lab.objects("deployment", "coredns", "--namespace", "kube-system")
    image = dns["spec"]["template"]["spec"]["containers"][0]["image"]
    for generation in (1, 2):
        _apply(lab, _workload(image, generation))
        lab.kubectl("rollout", "status", "deployment/probe", "--timeout=600s")
    pods = lab.objects("pods", "--selector", "app=probe")["items"]
    pods = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    service = lab.objects("service", "probe")["spec"]["clusterIP"]
    for node in (MASTER, *MINIONS):
        for address in [pod["status"]["podIP"] for pod in pods]:
            assert lab.on(node, f"curl -fsS -m 20 http://{address}:8080/health") == "OK"
        assert lab.on(node, f"curl -fsS -m 20 http://{service}/health") == "OK"


def test_an_image_without_a_registry_runs_on_every_node_and_leaves(lab: Lab) -> None:
    folder = lab.folder / "shop"
    folder.mkdir()
    program = inside(stored("pause"), "pause", folder)
    write_archive(
        program,
        folder / "shop.tar",
        name="pause",
        reference="docker.io/library/shop:1",
        architecture="amd64",
        user="1:1",
    )
    (folder / "hardway").symlink_to(PROJECT / "hardway")

    def typed(command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder,
            env=lab.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        lab.transcript += f"$ {command}\n{done.stdout}{done.stderr}\n"
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    loads, removes = readme.IMAGES
    assert f"on {MASTER}, {FIRST} and {LAST}" in typed(loads)
    assert f"{MASTER} (had it), {FIRST} (had it) and {LAST} (had it)" in typed(loads)
    assert "library/shop:1" in typed("./hardway images list")
    # As the examples of Kubernetes have it: the runtime is asked before a registry would be.
    for node in (MASTER, *MINIONS):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"shop-{node}", "labels": {"app": "shop"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "shop", "image": "shop:1"}],
            },
        }
        _apply(lab, pod)
    lab.kubectl("wait", "pod", "-l", "app=shop", "--for=condition=Ready", "--timeout=300s")
    remove = removes.split()[1:]
    refused = lab.hardway(*remove, ok=False)
    assert refused.returncode == 1
    assert "has the image docker.io/library/shop:1" in " ".join(refused.stderr.split())
    lab.kubectl("delete", "pod", "-l", "app=shop", "--wait=true")
    until(
        "the kubelets have removed the containers",
        lambda: lab.hardway(*remove, ok=False).returncode == 0,
    )
    assert "library/shop:1" not in typed("./hardway images list")


def test_logs_exec_and_port_forward_work(lab: Lab) -> None:
    pods = lab.objects("pods", "--selector", "app=probe")["items"]
    (pod, *_) = [
        candidate["metadata"]["name"]
        for candidate in pods
        if "deletionTimestamp" not in candidate["metadata"]
    ]
    assert "CoreDNS-" in lab.kubectl("logs", pod)
    assert "CoreDNS-" in lab.kubectl("exec", pod, "--", "/coredns", "-version")
    forward = lab.start("kubectl", "port-forward", pod, "18080:8080")
    try:
        assert forward.stdout is not None
        assert "Forwarding from" in forward.stdout.readline()
        answer = lab.inside("curl", "-fsS", "-m", "20", "http://127.0.0.1:18080/health")
        assert answer.stdout == "OK", answer.stderr
    finally:
        os.killpg(forward.pid, signal.SIGKILL)
        forward.wait()


def test_a_persons_own_kubectl_reaches_the_api_and_pods_from_outside_of_the_lab(lab: Lab) -> None:
    file = lab.folder / "own-kubeconfig"
    file.touch(mode=0o600)
    file.write_text(lab.hardway("kubeconfig").stdout)
    own = [str(stored("kubectl")), "--kubeconfig", str(file)]

    def asked(*arguments: str) -> str:
        done = subprocess.run([*own, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert set(asked("get", "nodes", "--output", "name").split()) == {
        f"node/{name}" for name in (MASTER, *MINIONS)
    }
    assert "CoreDNS-" in asked("logs", "deployment/probe")
    assert "CoreDNS-" in asked("exec", "deployment/probe", "--", "/coredns", "-version")
    forward = subprocess.Popen(
        [*own, "port-forward", "deployment/probe", ":8080"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert forward.stdout is not None
        port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert port
        url = f"http://127.0.0.1:{port[1]}/health"
        done = subprocess.run(["curl", "-fsS", "-m", "20", url], capture_output=True, text=True)
        assert done.stdout == "OK", done.stderr
    finally:
        forward.kill()
        forward.wait()


def test_a_persons_own_programs_reach_services_from_outside_of_the_lab(lab: Lab) -> None:
    def answer(address: str, path: str) -> str:
        curl = ["curl", "-fsS", "-m", "60", f"http://{address}{path}"]
        done = subprocess.run(curl, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else done.stderr

    # A cluster address, which only nodes know.
    metrics = ("kube-dns", "metrics", "--namespace", "kube-system")
    exposed = lab.hardway("expose", *metrics).stdout
    assert re.fullmatch(r"kube-system/kube-dns: 127\.0\.0\.1:\d+\n", exposed)
    address = exposed.split()[1]
    assert "coredns_build_info" in answer(address, "/metrics")
    # A node port.
    options = ("--name", "web", "--type", "NodePort", "--port", "8080")
    lab.kubectl("expose", "deployment", "probe", *options)
    expose, opens = (command.split()[1:] for command in readme.SERVICES)
    web = lab.hardway(*expose).stdout.split()[1]
    assert web != address
    # The node's kube-proxy learns of a new Service a moment later.
    until("the Service answers", lambda: answer(web, "/health") == "OK")
    assert lab.hardway(*opens).stdout == f"http://{web}/\n"
    status = json.loads(lab.hardway("status", "--json").stdout)["ways in"]
    assert any(
        row.startswith(f"{lab.stack}:default.web.8080: {web} to 192.168.1.") for row in status
    )
    lab.hardway("expose", *metrics, "--stop")
    assert "onnect" in answer(address, "/metrics")
    assert answer(web, "/health") == "OK"
    lab.hardway(*expose, "--stop")
    lab.kubectl("delete", "service", "web")
    missing = lab.hardway(*expose, ok=False)
    assert "the namespace default has no Service web" in " ".join(missing.stderr.split())


# -- what must not be possible ---------------------------------------------------------------------


def test_the_api_refuses_who_is_nobody_and_who_is_somebody_elses(lab: Lab) -> None:
    code = ("curl", "-sk", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}")
    assert lab.inside(*code, f"{API}/api/v1/nodes").stdout == "401"
    key, certificate = lab.folder / "foreign.key", lab.folder / "foreign.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-subj", "/O=system:masters/CN=admin", "-days", "1"]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    foreign = ("--cert", str(certificate), "--key", str(key))
    assert lab.inside(*code, *foreign, f"{API}/api/v1/nodes").stdout in ("401", "000")


def test_etcd_refuses_a_client_without_a_certificate(lab: Lab) -> None:
    url = f"https://{ADDRESS}:{layout.ETCD_CLIENT_PORT}/version"
    done = lab.inside("curl", "-sk", "-m", "30", url)
    assert done.returncode != 0
    assert done.stdout == ""


def test_another_host_key_is_refused(lab: Lab) -> None:
    key = lab.folder / "key"
    key.touch(0o600)
    key.write_text(lab.access().ssh_key)
    known = lab.folder / "known_hosts"
    known.write_text(f"{ADDRESS} {new_key_pair().public}\n")
    done = lab.inside(
        *("ssh", "-i", str(key), "-F", "none", "-o", f"UserKnownHostsFile={known}"),
        *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", f"root@{ADDRESS}", "true"),
    )
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_secrets_are_encrypted_in_etcd_and_the_audit_log_tells_who_made_them(lab: Lab) -> None:
    lab.kubectl("create", "secret", "generic", "proof", f"--from-literal=word={SECRET}")
    client = " ".join(
        [
            f"--cacert={layout.MEMBER_AUTHORITY}",
            f"--cert={layout.certificate('etcd-healthcheck-client')}",
            f"--key={layout.private_key('etcd-healthcheck-client')}",
        ]
    )
    stored = lab.on(
        MASTER, f"etcdctl {client} get --write-out=json /registry/secrets/default/proof"
    )
    value = base64.b64decode(json.loads(stored)["kvs"][0]["value"])
    assert value.startswith(b"k8s:enc:secretbox:v1:key1:")
    assert SECRET.encode() not in value
    line = lab.on(MASTER, 'grep \'"name":"proof"\' /var/log/kubernetes/audit.log | tail -1')
    event = json.loads(line)
    assert event["user"]["username"] == "kubernetes-admin"
    assert SECRET not in line


def test_nothing_secret_is_in_the_state_the_logs_or_the_checkout(lab: Lab) -> None:
    outputs = lab.outputs()
    key = "".join(outputs["ssh_private_key"].splitlines()[1:-1])[:60]
    kubeconfig = yaml.safe_load(outputs["kubeconfig"])
    client = kubeconfig["users"][0]["user"]["client-key-data"][40:100]
    assert len(key) == len(client) == 60
    files = [*lab.paths.backend.rglob("*.json*"), *lab.paths.logs.rglob("*"), lab.file]
    for file in files:
        text = file.read_text(errors="replace").replace("\\n", "") if file.is_file() else ""
        for secret in (key, client, "PRIVATE KEY-----"):
            assert secret not in text, file
    for secret in (key, client):
        assert secret not in lab.transcript
    assert "encryptionsalt" not in lab.file.read_text()
    assert (lab.paths.state / "passphrase").stat().st_mode & 0o777 == 0o600


# -- previews --------------------------------------------------------------------------------------


def test_a_preview_with_a_host_and_one_without_tell_the_same(lab: Lab) -> None:
    previews.with_a_host_and_without_one_they_are_the_same(lab)


def test_a_preview_changes_nothing(lab: Lab) -> None:
    previews.it_changes_nothing(lab)


def test_a_preview_tells_no_secret_and_nothing_else_does(lab: Lab) -> None:
    previews.no_secret_is_told(lab)


@at_length
def test_a_preview_needs_no_running_cluster(lab: Lab) -> None:
    previews.it_needs_no_running_cluster(lab)


# -- drift -----------------------------------------------------------------------------------------

SERVICES = [f"{name}.service" for name in ("containerd", "kubelet", "kube-proxy", "flanneld")]


def test_machines_that_nobody_touched_have_not_drifted(lab: Lab) -> None:
    assert drift.differing(lab, LAST) == {}
    assert lab.changes("--refresh") == {}


@pytest.fixture(scope="module")
def drifted(lab: Lab) -> dict[str, Any]:
    return drift.all_done(lab, LAST)


@at_length
@pytest.mark.parametrize("name", drift.DRIFTS)
def test_a_drift_is_told(drifted: dict[str, Any], name: str) -> None:
    drift.is_told(drifted, name)


@at_length
def test_a_preview_names_the_machine_and_what_drifted(lab: Lab) -> None:
    drift.is_told_in_a_preview(lab, LAST)


@at_length
def test_up_mends_exactly_what_drifted(lab: Lab) -> None:
    drift.is_mended(lab, LAST, SERVICES)


# -- what changes ----------------------------------------------------------------------------------


def test_an_update_that_is_cut_off_is_gone_on_with_and_the_living_cluster_follows(
    lab: Lab,
) -> None:
    living.changed(lab, MASTER, LAST, (MASTER, *MINIONS))


def test_a_taint_and_a_label_leave_a_living_node(lab: Lab) -> None:
    living.changed_back(lab, LAST)


def test_a_machine_that_was_lost_is_made_anew_with_all_its_steps_in_one_update(lab: Lab) -> None:
    living.lost_and_back(lab, LAST, (MASTER, *MINIONS))


@pytest.mark.parametrize(
    ("node", "fields", "sentence"),
    [
        (MASTER, {"disk": 8}, f"machines.{MASTER}.disk is 11 GiB and cannot become 8"),
        (
            LAST,
            {"roles": "e"},
            f"machines.{LAST}.roles would leave none of etcd's members {MASTER}",
        ),
    ],
)
def test_what_would_lose_data_is_refused_by_whatever_updates(
    lab: Lab, node: str, fields: dict[str, Any], sentence: str
) -> None:
    living.refused(lab, sentence, **{node: fields})


@at_length
def test_a_third_minion_costs_one_minion_and_touches_no_other_machine(lab: Lab) -> None:
    before = {node: started(lab, node) for node in (MASTER, *MINIONS)}
    cluster = lab.cluster
    cluster["machines"]["minion3"] = {"address": "192.168.1.13"}
    lab.describe(cluster)
    planned = lab.changes()
    others = {name: op for name, op in planned.items() if not name.startswith("minion3")}
    applied = {"master-add-ons-apply", "master-add-ons-nodes"}
    assert others.keys() <= {"specification", "ready"} | applied
    assert set(others.values()) == {"update"}
    assert sum(op == "create" for op in planned.values()) <= 11, "ten and their component"
    lab.hardway("up")
    assert {node: started(lab, node) for node in before} == before
    names = {node["metadata"]["name"] for node in lab.objects("nodes")["items"]}
    assert names == {MASTER, *MINIONS, "minion3"}


@at_length
def test_a_minion_that_goes_is_drained_first_and_its_node_and_machine_are_gone(lab: Lab) -> None:
    before = {node: started(lab, node) for node in (MASTER, *MINIONS)}
    cluster = lab.cluster
    del cluster["machines"]["minion3"]
    lab.describe(cluster)
    lab.hardway("up")
    assert {node: started(lab, node) for node in before} == before
    names = {node["metadata"]["name"] for node in lab.objects("nodes")["items"]}
    assert names == {MASTER, *MINIONS}
    assert "minion3" not in lab.virsh("list", "--all", "--name")
    audit = lab.on(MASTER, "grep -h '\"minion3\"' /var/log/kubernetes/audit.log | tail -400")
    verbs = [json.loads(line)["verb"] for line in audit.splitlines() if line.startswith("{")]
    assert verbs.index("patch") < len(verbs) - 1 - verbs[::-1].index("delete"), "cordoned first"
    lab.pulumi("preview", "--expect-no-changes")


def _anew(lab: Lab, **fields: int) -> dict[str, str]:
    """Write other fields for the last minion and bring that about; what was planned."""
    before = {node: started(lab, node) for node in (MASTER, MINIONS[0])}
    lab.on(LAST, "touch /var/lib/kubelet/was-here")
    cluster = lab.cluster
    cluster["machines"][LAST].update(fields)
    lab.describe(cluster)
    planned = lab.changes()
    lab.hardway("up")
    assert {node: started(lab, node) for node in before} == before
    nodes = {node["metadata"]["name"] for node in lab.objects("nodes")["items"]}
    assert nodes == {MASTER, *MINIONS}
    lab.pulumi("preview", "--expect-no-changes")
    return planned


@at_length
def test_a_minion_with_more_memory_is_made_anew_around_its_disk(lab: Lab) -> None:
    planned = _anew(lab, memory=2304)
    assert f"{lab.stack}-{LAST} has not shut down" not in lab.transcript
    assert "replace" in planned[LAST]
    assert f"{LAST}-disk" not in planned
    assert not {name for name in planned if name.startswith((MASTER, MINIONS[0]))}
    assert int(lab.on(LAST, "awk '/MemTotal/ { print $2 }' /proc/meminfo")) > 2100 * 1024
    lab.on(LAST, "test -e /var/lib/kubelet/was-here")


@at_length
def test_disks_grow_under_etcd_and_under_pods_without_a_reboot(lab: Lab) -> None:
    booted = "cat /proc/sys/kernel/random/boot_id"
    before = {node: (started(lab, node), lab.on(node, booted)) for node in (MASTER, *MINIONS)}
    lab.kubectl("create", "configmap", "kept", "--from-literal=by=etcd")
    lab.on(LAST, "touch /var/lib/kubelet/was-here")
    cluster = lab.cluster
    for node in (MASTER, LAST):
        cluster["machines"][node]["disk"] = 12
    lab.describe(cluster)
    planned = lab.changes()
    assert set(planned.values()) == {"update"}
    assert planned.keys() == {"specification", "ready", f"{MASTER}-ready", f"{LAST}-ready"}
    lab.hardway("up")
    for node in (MASTER, LAST):
        assert int(lab.on(node, "df --output=size -BG / | tail -1").strip(" G\n")) >= 11
    assert {node: (started(lab, node), lab.on(node, booted)) for node in before} == before
    assert "etcd" in lab.kubectl("get", "configmap", "kept", "--output", "jsonpath={.data.by}")
    lab.on(LAST, "test -e /var/lib/kubelet/was-here")
    lab.kubectl("delete", "configmap", "kept")
    assert lab.changes("--refresh") == {}


def test_a_change_that_a_living_cluster_cannot_take_is_refused_before_anything(lab: Lab) -> None:
    good = lab.cluster
    bad = {**good, "networks": {**good["networks"], "pods": "172.20.0.0/16"}}
    lab.describe(bad)
    try:
        done = lab.hardway("up", ok=False)
    finally:
        lab.describe(good)
    assert done.returncode == 1
    assert re.search(r"networks\.pods is 172\.16\.0\.0/16 and cannot become", done.stdout)
    lab.pulumi("preview", "--expect-no-changes")


@at_length
def test_after_a_reset_of_all_machines_the_cluster_comes_back_by_itself(lab: Lab) -> None:
    domains = [f"{lab.stack}-{name}" for name in (MASTER, *MINIONS)]
    before = lab.on(MASTER, "cat /proc/sys/kernel/random/boot_id")
    for domain in domains:
        lab.virsh("reset", domain)

    def rebooted() -> bool:
        done = lab.hardway("ssh", MASTER, "--", "cat /proc/sys/kernel/random/boot_id", ok=False)
        return done.returncode == 0 and done.stdout != before

    until("the master boots again", rebooted)
    lab.hardway("validate", "--wait", "1200")
    lab.kubectl("rollout", "status", "deployment/probe", "--timeout=600s")
    lab.pulumi("preview", "--expect-no-changes")


# -- down ------------------------------------------------------------------------------------------


def test_down_works_with_a_machine_gone_and_one_hung_and_leaves_only_the_cache(lab: Lab) -> None:
    lab.virsh("destroy", f"{lab.stack}-{FIRST}")
    lab.virsh("undefine", f"{lab.stack}-{FIRST}")
    lab.virsh("suspend", f"{lab.stack}-{LAST}")
    paths = lab.paths
    began = time.monotonic()
    lab.make("down")
    assert time.monotonic() - began < 300, "nobody waits for a dead machine"
    assert libvirt.processes(paths) == []
    assert not Path(f"/run/netns/{paths.namespace}").exists()
    assert not paths.run.exists()
    assert not paths.state.exists()
    assert paths.namespace not in Path("/proc/self/mountinfo").read_text()
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"{lab.stack}-{MASTER}" not in left
    assert str(paths.state) not in left
    again = lab.hardway("down")
    assert "Traceback" not in again.stderr


@at_length
@pytest.mark.parametrize("command", readme.GIGABYTES)
def test_all_artifacts_go_through_one_file_to_a_machine_without_network(
    command: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "hardway").unlink(missing_ok=True)
    (folder / "hardway").symlink_to(PROJECT / "hardway")
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    if "import" in command:
        empty = folder / "cache" / "hardway"
        empty.mkdir(parents=True)
        (empty / "venvs").symlink_to(Cache().root / "venvs")
        environment["XDG_CACHE_HOME"] = str(empty.parent)
        environment["DIGEST"] = (folder / "digest").read_text()
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "export" in command:
        (folder / "digest").write_text(done.stdout.split()[-1])
    if "import" in command:
        (folder / "parts.tar").unlink()
        verify = [str(PROJECT / "hardway"), "artifacts", "verify"]
        done = subprocess.run(verify, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(folder)
