"""MetalLB as an add-on: its objects in a real API, its controller with no more than its rights."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.progress import Silence
from lab.recorded_crds import definitions, recorded
from plan.addons import load_balancer, wanted
from plan.needs import ports
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import inside
from tests.plan.test_node_objects import NodesWorld, world_in

FIRST = "192.168.1.200-192.168.1.201"
SECOND = ["192.168.1.224/30", "192.168.1.230"]


def described(addresses: Any = None) -> Cluster:
    """A cluster of two nodes with these addresses for Services, or without the add-on."""
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    addons = {"load_balancer": {"addresses": addresses}} if addresses else {}
    return cluster(machines=machines, addons={"coredns": False, **addons})


def test_the_recorded_kinds_are_those_of_the_module(progress: Silence) -> None:
    (module,) = (row for row in recorded() if row.file == load_balancer.DEFINITIONS.name)
    assert load_balancer.DEFINITIONS.read_text() == definitions(module, progress)


def test_speakers_reach_each_other_and_nothing_else_is_opened() -> None:
    with_it = set(ports(described(FIRST), "minion"))
    more = {
        (port.number, port.protocol, port.from_machines)
        for port in with_it - set(ports(described(), "minion"))
    }
    assert more == {(7946, "tcp", True), (7946, "udp", True), (17472, "tcp", False)}
    for manifest in wanted(described(FIRST))["load-balancer"]:
        if manifest["kind"] in ("Deployment", "DaemonSet"):
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            assert "--port=0" in container["args"], "no metrics on the machines' network"
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_nodes_answer_for_addresses_of_their_own_subnet() -> None:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.2.11"},
    }
    spec = cluster(
        networks={"machines": ["192.168.1.0/24", "192.168.2.0/24"], "routed": True},
        machines=machines,
        addons={"load_balancer": {"addresses": ["192.168.2.200/30", FIRST]}},
    )
    pools, nodes = {}, {}
    for manifest in wanted(spec)["load-balancer"]:
        if manifest["kind"] == "IPAddressPool":
            pools[manifest["metadata"]["name"]] = manifest["spec"]["addresses"]
        if manifest["kind"] == "L2Advertisement":
            (pool,) = manifest["spec"]["ipAddressPools"]
            (selector,) = manifest["spec"]["nodeSelectors"]
            (nodes[pool],) = (row["values"] for row in selector["matchExpressions"])
    assert pools == {"machines": [FIRST], "machines-1": ["192.168.2.200-192.168.2.203"]}
    assert nodes == {"machines": ["master"], "machines-1": ["minion"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("metallb")) as world:
        yield world


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = stored_program("metallb-controller", described().versions)
    return inside(archive, "metallb-controller", tmp_path_factory.mktemp("program"))


@contextmanager
def running(world: NodesWorld, program: Path, log: Path) -> Iterator[None]:
    """The controller with the token of its service account, as the pod of its Deployment."""
    kubectl = f"-n {load_balancer.NAMESPACE}"
    token = world.kubectl(f"{kubectl} create token {load_balancer.CONTROLLER}").strip()
    config = json.loads(world.kubectl("config view --raw --output json"))
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig = log.with_suffix(".conf")
    kubeconfig.write_text(json.dumps(config))
    (deployment,) = (
        manifest
        for manifest in wanted(described(FIRST))["load-balancer"]
        if manifest["kind"] == "Deployment"
    )
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    own = {"name": "as-a-pod", "namespace": load_balancer.NAMESPACE}
    world.kubectl("apply -f -", {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": own})
    environment = {row["name"]: row.get("value", own["name"]) for row in container["env"]}
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, *container["args"], "--health-probe-port=0"],
            stdout=output,
            stderr=output,
            env={**os.environ, **environment, "KUBECONFIG": str(kubeconfig)},
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def address(world: NodesWorld, name: str) -> str:
    service = json.loads(world.kubectl(f"get service {name} --output json"))
    ingress = service["status"]["loadBalancer"].get("ingress", [])
    return ",".join(row["ip"] for row in ingress)


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": name}},
    }


def test_services_get_addresses_of_the_spec_also_of_another_one(
    world: NodesWorld, controller: Path, tmp_path: Path
) -> None:
    done = world.applied(described(FIRST))
    assert done.returncode == 0, done.stdout + done.stderr
    log = tmp_path / "controller.log"
    with running(world, controller, log):
        for name in ("one", "two", "three"):
            world.kubectl("apply -f -", service(name))
        eventually(
            "two have an address, and a third is not there",
            lambda: (
                {"192.168.1.200", "192.168.1.201", ""}
                == {address(world, name) for name in ("one", "two", "three")}
            ),
        )
        done = world.applied(described(SECOND))
        assert done.returncode == 0, done.stdout + done.stderr
        new = {f"192.168.1.{number}" for number in (224, 225, 226, 227, 230)}
        eventually(
            "all three have an address of the new ranges",
            lambda: {address(world, name) for name in ("one", "two", "three")} <= new,
        )
        keys = json.loads(world.kubectl(f"-n {load_balancer.NAMESPACE} get secrets --output json"))[
            "items"
        ]
        assert [secret["metadata"]["name"] for secret in keys] == [load_balancer.KEY]
    assert "forbidden" not in log.read_text(), "its rights suffice"


def test_switched_off_it_leaves_nothing(world: NodesWorld) -> None:
    assert world.applied(described(FIRST)).returncode == 0
    assert "ipaddresspools.metallb.io" in world.kubectl("get customresourcedefinitions")
    done = world.applied(described())
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = "customresourcedefinitions,clusterroles,clusterrolebindings"
    eventually("nothing of it is left", lambda: "metallb" not in world.kubectl(f"get {kinds}"))
