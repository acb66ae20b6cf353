"""A restart of machines: what it asks first, and how pods leave a node of a real API server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.problem import Problem
from ops import kubectl, restart
from ops.restart import RESTARTING, Restart, demand_machines, effects, preview
from plan.condition import Restarted
from probe.restarts import BOOT
from spec.cluster import Cluster
from tests.certs.clusters import cluster
from tests.plan.running import stored_program
from tests.plan.stored import as_root
from tests.probe.asking import asked_once
from tests.probe.cluster import NODE_INFO, VERSION, RunningCluster, running

PAIR = cluster({"m1": ("192.168.1.11", "ai"), "m2": ("192.168.1.12", "i")})
PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


# -- what is said before ---------------------------------------------------------------------------


def test_the_effects_are_said_before() -> None:
    assert [*effects(PAIR, "m2", ["default/web-1"])] == [
        "m2: pods move to other nodes, where volumes of their own begin empty: default/web-1",
        "m2 reboots",
    ]
    master = [*effects(PAIR, "m1", [])]
    assert master[0] == "m1 reboots"
    assert "the API is away" in master[1]
    assert "etcd is away" in master[2]
    alone = cluster({"m1": ("192.168.1.11", "ai")})
    assert "is the only node" in next(effects(alone, "m1", ["default/web-1"]))
    three = cluster(
        {f"m{number}": (f"192.168.1.1{number}", "ai") for number in range(3)},
        endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
    )
    assert [*effects(three, "m1", [])] == ["m1 reboots"]


def test_a_stranger_and_a_repeated_name_are_refused() -> None:
    demand_machines(PAIR, ["m2", "m1"])
    with pytest.raises(Problem, match="has no machine m3: name m1 or m2"):
        demand_machines(PAIR, ["m1", "m3"])
    with pytest.raises(Problem, match="m1 stands twice"):
        demand_machines(PAIR, ["m1", "m2", "m1"])


# -- pods that leave a node ------------------------------------------------------------------------


class Draining:
    """A real API server with two nodes, whose kubelets' part the test plays."""

    def __init__(self, api: RunningCluster) -> None:
        self.running = api
        self._done = threading.Event()
        self._kubelets = threading.Thread(target=self._end_pods)

    def reached(self, spec: Cluster = PAIR) -> Any:
        stack = SimpleNamespace(name="dev")
        access = self.running.access
        return SimpleNamespace(spec=spec, access=access, kubeconfig=access.kubeconfig, stack=stack)

    def restart(self, machine: str, *, timeout: int = 600, force: bool = False) -> Restart:
        return Restart(cast(Any, self.reached()), machine, timeout=timeout, force=force)

    def pod(self, name: str, owner: str | None, node: str = "m2") -> None:
        reference = {"apiVersion": "apps/v1", "kind": owner, "name": "own", "uid": "u"}
        owners = [{**reference, "controller": True}] if owner else []
        metadata = {"name": name, "labels": {"app": "own"}, "ownerReferences": owners}
        containers = [{"name": "own", "image": "none"}]
        self.running.post(
            PODS, {"metadata": metadata, "spec": {"nodeName": node, "containers": containers}}
        )
        self.running.status(f"{PODS}/{name}", running("10.200.0.9"))

    def budget(self) -> None:
        """A budget that allows nothing, as the disruption controller leaves it."""
        selector = {"matchLabels": {"app": "own"}}
        self.running.post(
            BUDGETS,
            {"metadata": {"name": "own"}, "spec": {"minAvailable": 1, "selector": selector}},
        )
        counts = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
        status = {"disruptionsAllowed": 0, "observedGeneration": 1, **counts}
        self.running.status(f"{BUDGETS}/own", status)

    def node(self, name: str) -> Any:
        return self.running.client.get(f"/api/v1/nodes/{name}").json()

    def pods(self) -> set[str]:
        items = self.running.client.get(PODS).json()["items"]
        return {item["metadata"]["name"] for item in items}

    def is_cordoned(self, name: str) -> bool:
        return bool(self.node(name)["spec"].get("unschedulable"))

    def is_marked(self, name: str) -> bool:
        return RESTARTING in self.node(name)["metadata"].get("annotations", {})

    @contextmanager
    def kubelets(self) -> Iterator[None]:
        self._kubelets.start()
        try:
            yield
        finally:
            self._done.set()
            self._kubelets.join()

    def _end_pods(self) -> None:
        while not self._done.wait(0.2):
            for item in self.running.client.get(PODS).json()["items"]:
                if "deletionTimestamp" in item["metadata"]:
                    self.running.remove(f"{PODS}/{item['metadata']['name']}")


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[Draining]:
    with ExitStack() as stack:
        own = RunningCluster(tmp_path_factory.mktemp("cluster"), stack)
        own.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        draining = Draining(own)
        stack.enter_context(draining.kubelets())
        yield draining


@pytest.fixture
def draining(api: Draining, monkeypatch: pytest.MonkeyPatch) -> Iterator[Draining]:
    program = stored_program("kubectl", PAIR.versions)
    monkeypatch.setattr(kubectl, "program", lambda _: program)
    for name in ("m1", "m2"):
        api.running.node(name, "True")
    yield api
    for name in api.pods():
        api.running.remove(f"{PODS}/{name}")
    api.running.remove(f"{BUDGETS}/own")
    api.running.remove_all()


@as_root
def test_the_pods_of_a_node_leave_it(draining: Draining) -> None:
    draining.pod("web", "ReplicaSet")
    draining.pod("elsewhere", "ReplicaSet", node="m1")
    assert draining.restart("m2")._drained()
    assert draining.pods() == {"elsewhere"}
    assert draining.is_cordoned("m2")
    assert draining.is_marked("m2")
    # An interrupted run left it so: the next one still knows that it has to uncordon.
    again = draining.restart("m2")
    assert again._drained()
    again._uncordon()
    assert not draining.is_cordoned("m2")
    assert not draining.is_marked("m2")


@as_root
def test_a_node_that_a_person_cordoned_stays_cordoned(draining: Draining) -> None:
    draining.running.client.patch(
        "/api/v1/nodes/m2",
        json={"spec": {"unschedulable": True}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert not draining.restart("m2")._drained()
    assert draining.is_cordoned("m2")
    assert not draining.is_marked("m2")


@as_root
def test_a_pod_that_a_budget_keeps_is_named_and_the_node_uncordoned(draining: Draining) -> None:
    draining.pod("web", "ReplicaSet")
    draining.budget()
    sentence = "default/web did not leave m2 within 4 s, since a PodDisruptionBudget forbids it"
    with pytest.raises(Problem, match=sentence):
        draining.restart("m2", timeout=4)._drained()
    assert draining.pods() == {"web"}
    assert not draining.is_cordoned("m2")
    assert not draining.is_marked("m2")


@as_root
def test_pods_without_a_controller_end_only_by_force(draining: Draining) -> None:
    draining.pod("mine", None)
    draining.pod("yours", None)
    with pytest.raises(
        Problem, match="no controller makes again: default/mine, default/yours: delete"
    ):
        draining.restart("m2")._drained()
    assert draining.pods() == {"mine", "yours"}
    assert not draining.is_cordoned("m2")
    assert draining.restart("m2", force=True)._drained()
    assert draining.pods() == set()


@as_root
def test_a_machine_does_not_restart_with_its_pods_where_the_api_gives_no_answer(
    draining: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = draining.restart("m2")
    gone = own.reached.kubeconfig.replace(draining.running.url, "https://127.0.0.1:1")
    monkeypatch.setattr(own.reached, "kubeconfig", gone)
    monkeypatch.setattr(restart, "PATIENCE", 1)
    with pytest.raises(Problem, match=r"gives no answer .* nothing was restarted"):
        own._drained()
    assert not draining.is_cordoned("m2")


@as_root
def test_a_moment_without_an_answer_costs_no_pod(
    draining: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    draining.pod("web", "ReplicaSet")
    own = draining.restart("m2")
    right = own.reached.kubeconfig
    answers = iter((right.replace(draining.running.url, "https://127.0.0.1:1"),))

    class Moving:
        """A cluster whose API is elsewhere at the first question."""

        spec, access, stack = own.reached.spec, own.reached.access, own.reached.stack

        @property
        def kubeconfig(self) -> str:
            return next(answers, right)

    assert replace(own, reached=cast(Any, Moving()))._drained()
    assert draining.pods() == set()


@as_root
def test_a_machine_without_a_node_restarts_at_once(draining: Draining) -> None:
    draining.running.remove("/api/v1/nodes/m2")
    assert not draining.restart("m2")._drained()


@as_root
def test_a_person_hears_before_that_no_pod_can_move(draining: Draining) -> None:
    reached = draining.reached()
    lines, silent = asyncio.run(preview(reached, ["m2"]))
    assert (silent, "m2 reboots" in lines) == (set(), True)
    nowhere = reached.kubeconfig.replace(draining.running.url, "https://127.0.0.1:1")
    reached.access = replace(reached.access, kubeconfig=nowhere)
    lines, silent = asyncio.run(preview(reached, ["m2"]))
    assert silent == {"m2"}
    assert lines[0].startswith("no pod of m2 moves first")


# -- a machine that comes back ---------------------------------------------------------------------


@as_root
def test_a_machine_is_back_once_its_kubelet_reports_the_new_boot(draining: Draining) -> None:
    present = Path(BOOT.split()[1]).read_text().strip()
    access = draining.running.access

    def why(before: str, *, is_node: bool = True) -> str | None:
        unmet = asked_once(Restarted(machine="m2", before=before, is_node=is_node), access)
        return None if unmet is None else str(unmet)

    assert why(present) == "m2 has not begun to reboot"
    assert why("before", is_node=False) is None
    assert why("before") == "the kubelet of m2 has not reported since the reboot"
    for ready, expected in (("False", "the node m2 is not Ready yet"), ("True", None)):
        info = dict.fromkeys(NODE_INFO, "x") | {"kubeletVersion": VERSION, "bootID": present}
        conditions = [{"type": "Ready", "status": ready}]
        draining.running.status("/api/v1/nodes/m2", {"conditions": conditions, "nodeInfo": info})
        assert why("before") == expected
