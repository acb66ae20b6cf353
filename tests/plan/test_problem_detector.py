"""Problems of nodes: the real detector with the plan's rules, and its node in a real API."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from plan.addons import problem_detector, wanted
from plan.needs import ports
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import inside
from tests.plan.test_node_objects import NodesWorld, world_in

pytestmark = pytest.mark.engine

DISK = "EXT4-fs (vda1): Remounting filesystem read-only"
RUNTIME = "INFO: task containerd-shim:4711 blocked for more than 122 seconds."
OTHER = "INFO: task kworker/u4:1:77 blocked for more than 122 seconds."


def described(**more: Any) -> Cluster:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    return cluster(machines=machines, addons={"coredns": False, **more})


ON = described(problem_detector=True)


def container() -> dict[str, Any]:
    (pod,) = (
        manifest["spec"]["template"]["spec"]
        for manifest in wanted(ON)["problem-detector"]
        if manifest["kind"] == "DaemonSet"
    )
    (container,) = pod["containers"]
    found_in: dict[str, Any] = container
    return found_in


def test_it_answers_nobody_and_writes_nowhere() -> None:
    assert ports(ON, "minion") == ports(described(), "minion")
    assert {"--port=0", "--prometheus-port=0"} <= set(container()["args"])
    assert "ports" not in container()
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in container()["volumeMounts"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("problems")) as world:
        world.registered(world.spec)
        yield world


@contextmanager
def detecting(world: NodesWorld, folder: Path) -> Iterator[Path]:
    """The detector with its account's rights, which reads a file in place of the kernel."""
    log = folder / "kernel.log"
    log.touch()
    config = json.loads(world.kubectl("config view --raw --output json"))
    account = f"-n {problem_detector.NAMESPACE} create token {problem_detector.NAME}"
    token = world.kubectl(account).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig = folder / "detector.conf"
    kubeconfig.write_text(json.dumps(config))
    for name, text in problem_detector.files().items():
        reads = {"timestamp": "^\\S+", "message": " (.*)", "timestampFormat": "2006-01-02T15:04:05"}
        own = {"plugin": "filelog", "pluginConfig": reads, "logPath": str(log)}
        (folder / name).write_text(json.dumps({**json.loads(text), **own}))
    program = inside(
        stored_program(problem_detector.NAME, ON.versions), problem_detector.NAME, folder
    )
    server = config["clusters"][0]["cluster"]["server"]
    arguments = [word.replace(problem_detector.FOLDER, str(folder)) for word in container()["args"]]
    arguments.append(f"--apiserver-override={server}?inClusterConfig=false&auth={kubeconfig}")
    with (folder / "detector.log").open("w") as output:
        process = subprocess.Popen(
            [program, *arguments],
            stdout=output,
            stderr=output,
            env={**os.environ, "NODE_NAME": "minion"},
        )
    try:
        yield log
    finally:
        process.kill()
        process.wait()


def states(world: NodesWorld) -> dict[str, tuple[str, str]]:
    """Each problem of the minion that somebody reports, with its status and reason."""
    node = json.loads(world.kubectl("get node minion --output json"))
    return {
        row["type"]: (row["status"], row["reason"])
        for row in node.get("status", {}).get("conditions", ())
        if row["type"] in problem_detector.PROBLEMS
    }


def reasons(world: NodesWorld) -> set[str]:
    """The reasons of a node's events. An API server's own events may be about no object at all."""
    events = json.loads(world.kubectl("get events --all-namespaces --output json"))["items"]
    return {event["reason"] for event in events if event["involvedObject"].get("name") == "minion"}


def write(log: Path, message: str) -> None:
    with log.open("a") as file:
        file.write(f"{datetime.now():%Y-%m-%dT%H:%M:%S} {message}\n")


def test_what_a_kernel_says_is_a_condition_or_an_event_of_its_node(
    world: NodesWorld, tmp_path: Path
) -> None:
    done = world.applied(ON)
    assert done.returncode == 0, done.stdout + done.stderr
    well = {name: ("False", reason) for name, (reason, _) in problem_detector.PROBLEMS.items()}
    with detecting(world, tmp_path) as log:

        def shown() -> str:
            return (tmp_path / "detector.log").read_text()[-3000:]

        eventually("it says that all is well", lambda: states(world) == well, reason=shown)
        write(log, OTHER)
        eventually("it makes an event", lambda: "TaskHung" in reasons(world), reason=shown)
        assert states(world) == well, "the runtime goes on"
        write(log, DISK)
        disk = {"ReadonlyFilesystem": ("True", "FilesystemIsReadOnly")}
        eventually("the disk", lambda: states(world) == {**well, **disk}, reason=shown)
        write(log, RUNTIME)
        hung = {"KernelDeadlock": ("True", "RuntimeHung")}
        eventually("the runtime, too", lambda: states(world) == {**disk, **hung}, reason=shown)
        assert "forbidden" not in (tmp_path / "detector.log").read_text(), "its rights suffice"
    log.write_text("")
    with detecting(world, tmp_path):
        eventually("started again it is well", lambda: states(world) == well, reason=shown)


def test_switched_off_it_leaves_nothing_but_what_it_said(world: NodesWorld) -> None:
    assert world.applied(ON).returncode == 0
    kinds = "daemonsets,configmaps,serviceaccounts,clusterrolebindings --all-namespaces"
    assert problem_detector.NAME in world.kubectl(f"get {kinds}")
    done = world.applied(described())
    assert done.returncode == 0, done.stdout + done.stderr
    left = world.kubectl(f"get {kinds}").replace(f"system:{problem_detector.NAME}", "")
    assert problem_detector.NAME not in left
