"""A master and a minion where people get notebooks, by https at the master's address."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import libvirt
from plan.addons import notebooks
from spec.notebooks import HUB_PORT, SERVER_PORT
from tests.engine.stack import eventually
from tests.machine.add_ons import have_state_and_memory, leave_nothing, with_add_ons
from tests.machine.lab import Lab, at_length, brought_up
from tests.plan import notebook_user
from tests.plan.notebook_user import NotebookUser

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(5400),
    at_length,
]

CLUSTER = with_add_ons(storage=True, network_policy=True, notebooks={"idle": 5})
NAMESPACES = {notebooks.NAMESPACE, notebooks.PROXY_NAMESPACE, "local-path-storage"}
HOST = f"{notebooks.PROXY}.{notebooks.PROXY_NAMESPACE}.svc.cluster.local"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtnotebooks", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


@pytest.fixture(scope="module")
def authority(lab: Lab) -> Path:
    """A file with the cluster's authority, as a person gets it."""
    file = lab.folder / "ca.crt"
    file.write_text(lab.on("master", "cat /etc/kubernetes/pki/ca.crt"))
    return file


def opened(lab: Lab) -> tuple[str, str]:
    """The URL and the password that a person is given."""
    url, password = lab.hardway("open", "--print", "notebooks").stdout.splitlines()
    return url, password


def computed_at_the_master(lab: Lab, authority: Path, port: int, name: str, code: str) -> str:
    """What a kernel prints for a program in the machines' network, at the master's own address."""
    url = f"https://192.168.1.10:{port}"
    done = subprocess.run(
        [*lab.enter, *libvirt.enter(lab.libvirt()), sys.executable, notebook_user.__file__]
        + [url, str(authority), HOST, name, code],
        input=f"{opened(lab)[1]}\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pods_of_people(lab: Lab) -> list[str]:
    selector = ",".join(f"{key}={value}" for key, value in notebooks.SERVERS.items())
    listed = lab.objects("pods", "--namespace", notebooks.NAMESPACE, "--selector", selector)
    return [item["metadata"]["name"] for item in listed["items"]]


def test_a_second_update_has_nothing_to_do(lab: Lab) -> None:
    assert "the notebooks answer by https from outside" in lab.transcript
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")


def test_each_add_on_has_its_state_and_memory(lab: Lab) -> None:
    have_state_and_memory(lab)


def test_the_password_is_in_no_log_and_no_preview(lab: Lab) -> None:
    before = lab.transcript
    _, password = opened(lab)
    assert len(password) > 20
    assert before
    assert password not in before
    assert password not in lab.hardway("preview").stdout
    logs = lab.kubectl(
        *("logs", "--namespace", notebooks.NAMESPACE, f"deployment/{notebooks.NAME}")
    )
    assert logs
    assert password not in logs


def test_a_kernel_computes_at_the_masters_address(lab: Lab, authority: Path) -> None:
    code = "open('kept', 'w').write('homework'); print(6 * 7)"
    assert computed_at_the_master(lab, authority, HUB_PORT, "ann", code) == "42\n"
    (pod,) = pods_of_people(lab)
    spec = lab.objects("pod", pod, "--namespace", notebooks.NAMESPACE)["spec"]
    assert spec["automountServiceAccountToken"] is False


def test_a_server_reaches_neither_the_api_nor_other_programs(lab: Lab, authority: Path) -> None:
    """By the second port, which is the same door."""
    service = lab.objects("service", "kubernetes")["spec"]["clusterIP"]
    proxy = lab.objects("pods", "--namespace", notebooks.PROXY_NAMESPACE)["items"][0]
    targets = [("192.168.1.10", 6443), (service, 443), (proxy["status"]["podIP"], 8001)]
    code = (
        "import socket\n"
        f"for pair in {targets!r}:\n"
        "    with socket.socket() as way:\n"
        "        way.settimeout(10)\n"
        "        print(way.connect_ex(pair) != 0)\n"
    )
    assert computed_at_the_master(lab, authority, SERVER_PORT, "ann", code) == "True\n" * 3


def test_a_home_outlives_its_server_and_an_idle_server_ends(lab: Lab, authority: Path) -> None:
    eventually("it is ended", lambda: not pods_of_people(lab))
    url, password = opened(lab)
    with NotebookUser(url.rstrip("/"), str(authority), HOST, "ann") as ann:
        assert ann.logged_in(password)
        ann.begin()
        assert ann.computed("print(open('kept').read())") == "homework\n"


def test_what_is_switched_off_leaves_nothing_in_the_cluster(lab: Lab) -> None:
    """The notebooks before the storage, which takes their volumes away."""
    others = {key: value for key, value in CLUSTER["addons"].items() if key != "notebooks"}
    lab.describe({**lab.cluster, "addons": others})
    lab.hardway("up")
    eventually(
        "the volumes are gone",
        lambda: not lab.objects("persistentvolumes")["items"],
        reason=lambda: lab.kubectl("get", "persistentvolumes"),
    )
    leave_nothing(lab, NAMESPACES)
    bound = lab.kubectl("get", "clusterroles,clusterrolebindings", "--output", "name")
    assert "jupyter" not in bound
