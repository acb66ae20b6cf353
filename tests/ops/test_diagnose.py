"""``collect`` with a real API server, real SSH servers, and secrets where they could come in."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from lab.paths import LabPaths
from ops import diagnose
from ops.diagnose import Collected, collect
from ops.evidence import LAST_APPLIED, Question, questions, without_values
from plan.cluster import node_plan
from preview.registration import SECRET, SIGNATURE
from probe.access import Access, MachineAccess
from spec.cluster import Cluster
from tests.certs.clusters import SINGLE, cluster
from tests.engine.sshd import privilege_separation_directory
from tests.plan.golden import digests
from tests.plan.stored import as_root
from tests.probe.cluster import RunningCluster
from tests.probe.machine import access, with_clocks

__all__ = ["privilege_separation_directory"]

SPEC = cluster(
    {
        "m1": ("192.168.1.10", "ai"),
        "m2": ("192.168.1.11", "i"),
        "gone": ("192.168.1.12", "i"),
    },
    artifacts={"digests": digests(None)},
)

DOCKER = cluster(
    {"m": ("192.168.1.9", "ai")}, runtime="docker", artifacts={"digests": digests(None)}
)

PULL = (
    'Back-off pulling image "a.example/shop:2": ErrImagePull: failed to pull and unpack image '
    '"a.example/shop:2": failed to resolve image: a.example/shop:2: not found'
)
UNPULLED = {
    "containerStatuses": [
        {
            "name": "c",
            "image": "none",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": PULL}},
        }
    ]
}
"""The status of a pod whose image its registry does not have."""

OF_STATE = "a passphrase of the stack, which no look tells"
OF_A_POD = "an environment's password"
OF_KUBERNETES = "the content of a Secret"
"""Secrets of the test, each brought in another way."""


@dataclass(frozen=True)
class Case:
    """One archive, and everything that must not be in it."""

    collected: Collected
    files: Mapping[str, str]
    secrets: Mapping[str, str]
    messages: list[str]


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        texts = {}
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            texts[member.name.partition("/")[2]] = content.read().decode()
        return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diagnose")


@pytest.fixture(scope="module")
def running(folder: Path, privilege_separation_directory: None) -> Iterator[RunningCluster]:
    with ExitStack() as stack:
        yield RunningCluster(folder, stack)


def furnish(running: RunningCluster, token: str, access: Access, paths: LabPaths) -> None:
    """Put secrets where they could come in from."""
    running.node("m1", "True")
    running.post(
        "/api/v1/namespaces/default/secrets",
        {"metadata": {"name": "mine"}, "stringData": {"text": OF_KUBERNETES}},
    )
    running.post("/api/v1/namespaces/kube-system/pods", pod())
    running.status("/api/v1/namespaces/kube-system/pods/secretive", UNPULLED)
    paths.logs.mkdir(parents=True)
    line = f"Authorization: Bearer {token}\n"
    (paths.logs / "libvirt.log").write_text(f"{access.ssh_key}{line}{OF_STATE}\n")
    console = paths.state / "console"
    console.mkdir()
    (console / "test-m1.log").write_text(f"it boots\n{access.kubeconfig}\n{new_key_pair().private}")
    (console / "other-m1.log").write_text("another cluster's\n")


def pod() -> dict[str, object]:
    variables = [{"name": "PASSWORD", "value": OF_A_POD}]
    containers = [{"name": "c", "image": "none", "env": variables}]
    annotations = {LAST_APPLIED: json.dumps(containers)}
    return {
        "metadata": {"name": "secretive", "annotations": annotations},
        "spec": {"containers": containers},
    }


@pytest.fixture(scope="module")
def case(running: RunningCluster, folder: Path) -> Case:
    paths = LabPaths(name="diagnose", state=folder / "state", run=folder / "run")
    public = new_key_pair().public
    opened = running.access
    machines = {
        **opened.machines,
        "gone": MachineAccess(address="127.0.0.1", port=9, host_key=public),
    }
    opened = replace(opened, machines=machines)
    token = b64encode(os.urandom(24)).decode()
    furnish(running, token, opened, paths)
    # Everybody sees the words of a command.
    shown = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", OF_STATE])
    messages: list[str] = []
    try:
        diagnosis = collect(
            SPEC, opened, folder / "out.tar.gz", messages.append, state=state(), paths=paths
        )
    finally:
        shown.kill()
        shown.wait()
    secrets = {
        "token": token,
        "of the state": OF_STATE,
        "of a pod": OF_A_POD,
        "of Kubernetes": OF_KUBERNETES,
        "of Kubernetes, as the API has it": b64encode(OF_KUBERNETES.encode()).decode(),
        **{f"SSH key, {n}": line for n, line in enumerate(opened.ssh_key.splitlines()[1:-1])},
    }
    for row in (*running.keys.of_people().values(), *running.keys.of("master").values()):
        for line in row.key.splitlines()[1:-1]:
            secrets[f"{len(secrets)}"] = line
            secrets[f"{len(secrets)}"] = b64encode(line.encode()).decode()[4:-4]
    return Case(diagnosis, read(diagnosis.path), secrets, messages)


def state() -> dict[str, object]:
    envelope = {SIGNATURE: SECRET, "plaintext": json.dumps(OF_STATE)}
    resource = {
        "urn": "urn:pulumi:dev::hardway::x::m1-vm",
        "type": "x",
        "outputs": {"secret": envelope},
    }
    return {"deployment": {"resources": [resource]}}


@pytest.mark.machine
def test_no_secret_is_in_it(case: Case) -> None:
    for name, secret in case.secrets.items():
        for file, text in case.files.items():
            assert secret not in text, f"{name} in {file}"
    for file, text in case.files.items():
        assert "PRIVATE KEY-----" not in text, file


@pytest.mark.machine
def test_the_search_looks_at_what_had_secrets(case: Case) -> None:
    assert "[secret left out]" in case.files["lab/libvirt.log"]
    assert "it boots" in case.files["lab/console/test-m1.log"]
    assert "time.sleep(600) [secret left out]" in case.files["machines/m1/processes.txt"]
    assert "secretive" in case.files["cluster/pods.json"]
    assert "PASSWORD" in case.files["cluster/pods.json"]
    assert not any("other-m1" in file for file in case.files)


@pytest.mark.machine
def test_it_is_for_its_owner_alone_and_whole(case: Case) -> None:
    assert stat.S_IMODE(case.collected.path.stat().st_mode) == 0o600
    assert case.collected.size == case.collected.path.stat().st_size
    assert case.collected.files == len(case.files)
    left = [path.name for path in case.collected.path.parent.glob(".out*")]
    assert left == []


@pytest.mark.machine
def test_each_machine_that_answers_was_asked_everything(case: Case) -> None:
    for node in ("m1", "m2"):
        for question in questions(SPEC, node_plan(SPEC, node)):
            text = case.files[f"machines/{node}/{question.name}.txt"]
            assert text.startswith(f"# {question.script}")
            assert "# exit status" in text
    assert os.uname().release in case.files["machines/m1/system.txt"]
    assert any("m1: " in line for line in case.messages)


@pytest.mark.machine
def test_the_plans_files_are_there_by_digest_and_mode_alone(case: Case) -> None:
    text = case.files["machines/m1/files.txt"]
    assert "/etc/kubernetes/pki/ca.key" in text
    assert "-rw------- root:root" in text


@pytest.mark.machine
def test_a_machine_that_does_not_answer_is_noted_and_stops_nothing(case: Case) -> None:
    assert any(line.startswith("machine gone, after 0") for line in case.collected.missing)
    assert not any(file.startswith("machines/gone/") for file in case.files)
    assert case.files["missing.txt"].splitlines() == list(case.collected.missing)


@pytest.mark.machine
def test_the_api_says_what_there_is(case: Case) -> None:
    nodes = json.loads(case.files["cluster/nodes.json"])
    assert [node["metadata"]["name"] for node in nodes["items"]] == ["m1"]
    version = json.loads(case.files["cluster/version.json"])
    assert version["gitVersion"] == f"v{SINGLE.versions.kubernetes}"
    assert "[+]etcd ok" in case.files["cluster/readyz.txt"]
    unpulled = (
        "kube-system/secretive: the image a.example/shop:2 cannot be pulled: its registry has no "
        "such image"
    )
    assert case.files["cluster/images.txt"].splitlines() == [unpulled]
    assert unpulled in case.messages
    assert "m1-vm" in case.files["resources.json"]
    assert "192.168.1.10" in case.files["spec.yaml"]


@pytest.mark.engine
@as_root
def test_a_clock_that_differs_is_named_at_once_and_in_the_file(
    tmp_path: Path, privilege_separation_directory: None
) -> None:
    messages: list[str] = []
    with with_clocks(tmp_path / "m", m1=0, m2=400) as opened:
        machines = {**opened.machines, "gone": replace(opened.machines["m1"], port=9)}
        access = replace(opened, machines=machines)
        paths = LabPaths(name="diagnose", state=tmp_path / "state", run=tmp_path / "run")
        diagnosis = collect(SPEC, access, tmp_path / "x.tar.gz", messages.append, paths=paths)
    (line,) = [message for message in messages if "clock" in message]
    assert re.fullmatch(r"the clock of m2 is (399|400) s ahead of this computer's", line)
    named, gone = read(diagnosis.path)["clocks.txt"].splitlines()
    assert named == line
    assert gone.startswith("gone (127.0.0.1 port 9)")


@pytest.mark.machine
def test_clocks_that_agree_are_said_to(case: Case) -> None:
    assert case.files["clocks.txt"].startswith("the clocks that were asked go as this computer's")


def alone(running: RunningCluster) -> tuple[Cluster, Access]:
    return SINGLE, access(None, master=running.servers["m1"])


@pytest.mark.machine
def test_what_never_ends_is_cut_off_and_so_is_what_is_too_long(
    running: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        diagnose,
        "questions",
        lambda *_: [
            Question(name="hangs", script="echo begun; sleep 600"),
            Question(name="long", script="seq 1000000"),
            Question(name="last", script="echo done"),
        ],
    )
    monkeypatch.setattr(diagnose, "SECONDS", 5)
    monkeypatch.setattr(diagnose, "LARGEST", 1000)
    spec, opened = alone(running)
    diagnosis = collect(spec, opened, tmp_path / "x.tar.gz", print)
    files = read(diagnosis.path)
    assert len(diagnosis.missing) == 3, diagnosis.missing
    assert files["machines/master/hangs.txt"].endswith("\nbegun\n# exit status 124\n")
    script, cut, *lines, status = files["machines/master/long.txt"].splitlines()
    assert script == "# seq 1000000"
    assert "left out" in cut
    assert lines == [str(number) for number in range(1000001 - len(lines), 1000001)]
    assert 100 < len(lines) < 150
    assert status == "# exit status 0"
    assert "done" in files["machines/master/last.txt"]
    assert any("hangs: no whole answer" in line for line in diagnosis.missing)
    assert any("there is no kubeconfig" in line for line in diagnosis.missing)


def test_no_question_leads_to_another_machine() -> None:
    for spec in (SPEC, DOCKER):
        for node in spec.machines:
            for question in questions(spec, node_plan(spec, node)):
                assert "192.168." not in question.script


@pytest.mark.machine
def test_a_file_that_cannot_be_written_leaves_nothing(
    running: RunningCluster, tmp_path: Path
) -> None:
    spec, opened = alone(running)
    with pytest.raises(OSError, match="No such file"):
        collect(spec, opened, tmp_path / "no" / "x.tar.gz", print)
    target = tmp_path / "x.tar.gz"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        collect(spec, replace(opened, machines={}), target, print)
    assert os.listdir(tmp_path) == ["x.tar.gz"]


def test_values_of_variables_and_their_history_are_left_out_at_every_depth() -> None:
    thing = {"items": [{"metadata": {"managedFields": [1], "name": "x"}, "spec": pod()["spec"]}]}
    left = json.dumps(without_values(thing))
    assert OF_A_POD not in left
    assert "managedFields" not in left
    assert '"PASSWORD"' in left


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck_passes_every_question() -> None:
    scripts = {diagnose.ASK}
    for spec in (SPEC, DOCKER):
        for node in spec.machines:
            scripts |= {question.script for question in questions(spec, node_plan(spec, node))}
    # A word of its own for each: they are read apart by bash -c.
    text = "".join(f"(\n{script}\n)\n" for script in sorted(scripts))
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
