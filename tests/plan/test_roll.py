"""Nodes that roll: kubelets' own requests to a real API server, which restricts them as it does."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from certs.table import Authority
from plan import layout, render, roll, runtime
from plan import node as node_step
from plan.model import Rolling
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan import inline
from tests.plan.limited import limited
from tests.plan.running import LocalMachine
from tests.plan.shell import cluster
from tests.plan.test_node_objects import NodesWorld, described, world_in

NODES, PODS = "/api/v1/nodes", "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
TICKETS = f"/api/v1/namespaces/{roll.NAMESPACE}/configmaps/{roll.NAME}"
MERGE = {"content-type": "application/merge-patch+json"}
SYSTEMCTL = """#!/bin/bash
case $1 in
is-active) cat "$KUBELET" ;;
show) echo 'Sun 2026-01-04 00:00:00 UTC' ;;
esac
"""
CALLS = 18
"""How often a node asks the API while it moves a pod away and takes pods again."""


class RollingWorld:
    """A real API server with the nodes master and minion; the test plays kubelets' part."""

    def __init__(self, world: NodesWorld, stack: ExitStack) -> None:
        self.world, self.folder = world, world.folder
        authority = world.cluster.keys.signers[Authority.KUBERNETES].certificate
        pair = world.people["super-admin"]
        file = world.folder / "rolling-admin.pem"
        file.write_text(pair.certificate + pair.key)
        context = ssl.create_default_context(cadata=authority)
        context.load_cert_chain(file)
        url = f"https://127.0.0.1:{world.cluster.ports['master', 6443]}"
        self.client = stack.enter_context(httpx.Client(base_url=url, verify=context, timeout=120))
        for name, body in (("systemctl", SYSTEMCTL), ("journalctl", "#!/bin/bash\n")):
            (world.path / name).write_text(body)
            (world.path / name).chmod(0o755)
        self.kubelet = world.folder / "kubelet"
        self._done = threading.Event()
        self._kubelets = threading.Thread(target=self._end_pods)
        self._kubelets.start()
        stack.callback(self._kubelets.join)
        stack.callback(self._done.set)

    def anew(self) -> None:
        """Both nodes Ready and no pods, budgets or tickets."""
        for path in (PODS, BUDGETS):
            self.client.delete(path, params={"gracePeriodSeconds": "0"})
        self.world.registered(described())
        for name in ("master", "minion"):
            self.change(f"{NODES}/{name}", {"spec": {"taints": None}})
            self.ready(name)
        held = self.tickets()
        self.change(TICKETS, {"data": dict.fromkeys(held)})
        self.kubelet.write_text("active\n")

    def change(self, path: str, change: Any) -> None:
        answer = self.client.patch(path, json=change, headers=MERGE)
        assert answer.is_success, answer.text

    def ready(self, name: str, status: str = "True") -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": status, "lastHeartbeatTime": now}
        self.change(f"{NODES}/{name}/status", {"status": {"conditions": [condition]}})

    def pod(self, name: str, owner: str | None, node: str = "minion", phase: str = "") -> None:
        reference = {"apiVersion": "apps/v1", "kind": owner, "name": "own", "uid": "u"}
        owners = [{**reference, "controller": True}] if owner else []
        metadata = {"name": name, "labels": {"app": "own"}, "ownerReferences": owners}
        containers = [{"name": "own", "image": "none"}]
        body = {"metadata": metadata, "spec": {"nodeName": node, "containers": containers}}
        answer = self.client.post(PODS, json=body)
        assert answer.status_code == 201, answer.text
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": phase or "Running", "conditions": ready}
        self.change(f"{PODS}/{name}/status", {"status": status})

    def budget(self, allowed: int) -> None:
        """A budget as the disruption controller leaves it."""
        selector = {"matchLabels": {"app": "own"}}
        spec = {"minAvailable": 1, "selector": selector}
        self.client.post(BUDGETS, json={"metadata": {"name": "own"}, "spec": spec})
        counts = {"currentHealthy": 1 + allowed, "desiredHealthy": 1, "expectedPods": 1 + allowed}
        status = {"disruptionsAllowed": allowed, "observedGeneration": 1, **counts}
        self.change(f"{BUDGETS}/own/status", {"status": status})

    def node(self, name: str) -> tuple[bool, str | None]:
        """Whether it is cordoned, and how far it is."""
        return _state(self.client.get(f"{NODES}/{name}").json())

    def pods(self) -> set[str]:
        items = self.client.get(PODS).json()["items"]
        return {item["metadata"]["name"] for item in items}

    def tickets(self) -> dict[str, str]:
        return dict(self.client.get(TICKETS).json().get("data") or {})

    def is_clean(self) -> bool:
        """Whether nothing of a rollout is left."""
        nodes = [self.node(name) for name in ("master", "minion")]
        return nodes == [(False, None)] * 2 and not self.tickets()

    def _end_pods(self) -> None:
        while not self._done.wait(0.2):
            for item in self.client.get(PODS).json()["items"]:
                if "deletionTimestamp" in item["metadata"]:
                    name = item["metadata"]["name"]
                    self.client.delete(f"{PODS}/{name}", params={"gracePeriodSeconds": "0"})

    # -- what a node does ----------------------------------------------------------------------

    def machine(self, name: str) -> LocalMachine:
        return {"master": self.world.master, "minion": self.world.minion}[name]

    def link(self, name: str) -> Path:
        return self.folder / f"{name}-kubelet"

    def older(self, *names: str) -> None:
        """Let these nodes have another kubelet than they should."""
        for name in names:
            self.link(name).unlink(missing_ok=True)
            self.link(name).symlink_to("/older")

    def text(self, name: str, *after: str, path: Path | None = None, seconds: int = 300) -> str:
        """A step that replaces the kubelet, with what comes after its drain."""
        here = self.machine(name).here
        kubeconfigs = [here(layout.kubeconfig(of)) for of in ("kubelet", "kube-proxy")]
        record = " ".join(["rolls", name, *kubeconfigs, f"{self.link(name)}=/newer"])
        functions = here(inline.functions("prelude", "roll"))
        lines = (f"PATH={path or self.world.path}:{self.world.path}:$PATH", "trap - EXIT", record)
        return limited("\n".join((functions, *lines, *after, "")), seconds)

    def begin(self, text: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "KUBELET": str(self.kubelet)},
        )

    def run(self, text: str) -> tuple[int, str, str]:
        with self.begin(text) as child:
            output, errors = child.communicate()
            return child.returncode, output, errors

    def rolled(self, name: str, path: Path | None = None) -> tuple[int, str, str]:
        """The whole of it: drain, change, and back."""
        return self.run(self.text(name, self.replaced(name), "rolled", path=path))

    def replaced(self, name: str) -> str:
        return f"ln -sfn /newer {self.link(name)}"


def _state(node: Any) -> tuple[bool, str | None]:
    stage = node["metadata"].get("annotations", {}).get(roll.ROLLING)
    return bool(node["spec"].get("unschedulable")), stage


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RollingWorld]:
    with ExitStack() as stack:
        world = stack.enter_context(world_in(tmp_path_factory.mktemp("rolling")))
        world.registered(described())
        done = world.applied(described())
        assert done.returncode == 0, done.stderr
        yield RollingWorld(world, stack)


@pytest.fixture
def world(api: RollingWorld) -> RollingWorld:
    api.anew()
    api.older("master", "minion")
    return api


@pytest.mark.engine
class TestRolling:
    def test_pods_leave_before_the_change_and_may_come_after_it(self, world: RollingWorld) -> None:
        world.pod("web", "ReplicaSet")
        world.pod("of-each-node", "DaemonSet")
        world.pod("over", "Job", phase="Succeeded")
        world.pod("elsewhere", "ReplicaSet", node="master")
        code, _, errors = world.run(world.text("minion"))
        assert (code, errors) == (0, "")
        assert world.pods() == {"of-each-node", "over", "elsewhere"}
        assert world.node("minion") == (True, "is changed, cordoned for that")
        assert list(world.tickets()) == ["minion"]
        # The step of the runtime ends so, and that of the node goes on.
        assert world.rolled("minion")[::2] == (0, "")
        assert world.is_clean()

    def test_a_kubelet_must_report_after_its_start(self, world: RollingWorld) -> None:
        world.ready("minion", "False")
        code, _, errors = world.run(
            world.text("minion", world.replaced("minion"), "rolled", seconds=2)
        )
        assert code == 1
        assert "the node is Ready again (minion)" in errors
        assert world.node("minion") == (True, "is changed, cordoned for that")
        assert list(world.tickets()) == ["minion"], "others must not begin"
        world.ready("minion")
        assert world.rolled("minion")[::2] == (0, "")
        assert world.is_clean()

    def test_a_pod_that_its_budget_keeps_is_named(self, world: RollingWorld) -> None:
        world.pod("web", "ReplicaSet")
        world.budget(0)
        code, _, errors = world.run(world.text("minion", seconds=4))
        assert code == 1
        assert errors.startswith("failed: the pods of minion do not move within ")
        assert "default/web: Cannot evict pod as it would violate the pod's disruption" in errors
        assert "The disruption budget own needs 1 healthy pods and has 1 currently" in errors
        assert world.pods() == {"web"}
        assert world.is_clean()

    def test_a_pod_moves_once_its_budget_lets_it(self, world: RollingWorld) -> None:
        world.pod("web", "ReplicaSet")
        world.budget(0)
        with world.begin(world.text("minion")) as child:
            eventually(
                "others can read what it waits for",
                lambda: world.node("minion")[1] == "drains default/web, cordoned for that",
            )
            assert world.pods() == {"web"}
            world.budget(1)
            _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
        assert not world.pods()

    def test_pods_that_nobody_makes_again_are_not_ended(self, world: RollingWorld) -> None:
        world.pod("mine", None)
        world.pod("web", "ReplicaSet")
        code, _, errors = world.run(world.text("minion"))
        assert code == 1
        assert "minion has pods that no controller makes again: default/mine. Delete" in errors
        assert world.pods() == {"mine", "web"}
        assert world.is_clean()

    def test_a_node_that_a_person_cordoned_stays_so(self, world: RollingWorld) -> None:
        world.pod("web", "ReplicaSet")
        world.change(f"{NODES}/minion", {"spec": {"unschedulable": True}})
        assert world.rolled("minion")[::2] == (0, "")
        assert not world.pods()
        assert world.node("minion") == (True, None)
        assert not world.tickets()

    @pytest.mark.parametrize("why", ["cordoned", "not ready", "tainted", "stopped"])
    def test_pods_stay_where_nobody_can_take_them(self, world: RollingWorld, why: str) -> None:
        world.pod("web", "ReplicaSet")
        tainted = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
        if why == "not ready":
            world.ready("master", "False")
        elif why == "stopped":
            world.kubelet.write_text("failed\n")
        else:
            spec = {"unschedulable": True} if why == "cordoned" else {"taints": tainted}
            world.change(f"{NODES}/master", {"spec": spec})
        code, output, errors = world.rolled("minion")
        assert (code, errors) == (0, "")
        reason = "its kubelet does not run" if why == "stopped" else "no other node can take them"
        assert f"the pods of minion stay, since {reason}\n" in output
        assert world.pods() == {"web"}
        assert world.node("minion") == (False, None)
        assert not world.tickets()

    def test_a_first_installation_and_the_same_again_ask_nobody(self, world: RollingWorld) -> None:
        nobody = world.folder / "nobody"
        nobody.mkdir(exist_ok=True)
        for name in ("curl", "kubectl"):
            (nobody / name).write_text("#!/bin/bash\nexit 99\n")
            (nobody / name).chmod(0o755)
        world.link("minion").unlink()
        done = world.run(world.text("minion", '[ -z "$rolling" ]', path=nobody))
        assert done == (0, "", "")
        world.run(world.replaced("minion"))
        done = world.run(world.text("minion", '[ "$rolling" = minion ]', path=nobody))
        assert done == (0, "", "")

    # -- turns ---------------------------------------------------------------------------------

    def test_two_nodes_are_never_cordoned_at_once(self, world: RollingWorld) -> None:
        since = world.client.get(NODES).json()["metadata"]["resourceVersion"]
        for name in ("master", "minion"):
            world.pod(f"on-{name}", "ReplicaSet", node=name)
        texts = [world.text(name, world.replaced(name), "rolled") for name in ("master", "minion")]
        children = [world.begin(text) for text in texts]
        errors = [child.communicate()[1] for child in children]
        assert ([child.returncode for child in children], errors) == ([0, 0], ["", ""])
        assert world.is_clean()
        assert not world.pods()
        cordoned: dict[str, bool] = {}
        most: list[int] = []
        watch = {"watch": "1", "resourceVersion": since, "timeoutSeconds": "1"}
        for line in world.client.get(NODES, params=watch).text.splitlines():
            node = json.loads(line)["object"]
            cordoned[node["metadata"]["name"]] = _state(node)[0]
            most.append(sum(cordoned.values()))
        assert max(most) == 1
        assert cordoned == {"master": False, "minion": False}

    def test_as_many_as_the_spec_says_have_their_turn(self, world: RollingWorld) -> None:
        world.change(TICKETS, {"metadata": {"annotations": {roll.AT_ONCE: "2"}}})
        try:
            for name in ("minion", "master"):
                assert world.run(world.text(name))[0] == 0
            assert sorted(world.tickets()) == ["master", "minion"]
        finally:
            world.change(TICKETS, {"metadata": {"annotations": {roll.AT_ONCE: "1"}}})

    def test_who_has_not_come_back_is_named_and_the_rest_untouched(
        self, world: RollingWorld
    ) -> None:
        world.pod("web", "ReplicaSet", node="master")
        assert world.run(world.text("minion"))[0] == 0
        world.ready("minion", "Unknown")
        code, _, errors = world.run(world.text("master", seconds=3))
        assert code == 1
        assert errors.startswith("failed: the turn of master does not come within ")
        assert "(minion is changed, cordoned for that, not Ready; no news" in errors
        assert "nothing of master was changed" in errors
        assert world.pods() == {"web"}
        assert world.node("master") == (False, None)
        world.ready("minion")
        for name in ("minion", "master"):
            assert world.rolled(name)[::2] == (0, "")
        assert world.is_clean()

    @pytest.mark.parametrize("holder", ["gone", "minion"])
    def test_the_ticket_of_who_does_not_roll_is_void(
        self, world: RollingWorld, holder: str
    ) -> None:
        world.change(TICKETS, {"data": {holder: "2026-01-04T00:00:00Z"}})
        assert world.rolled("master")[::2] == (0, "")
        assert world.is_clean()

    def test_before_the_tickets_are_there_it_waits_for_them(self, world: RollingWorld) -> None:
        kept = world.client.get(TICKETS).json()
        world.client.delete(TICKETS)
        try:
            code, _, errors = world.run(world.text("minion", seconds=2))
            assert code == 1
            assert "the add-ons have not made the ConfigMap hardway-rollout yet" in errors
            assert world.node("minion") == (False, None)
        finally:
            del kept["metadata"]["resourceVersion"]
            path = TICKETS.rpartition("/")[0]
            assert world.client.post(path, json=kept).status_code == 201

    # -- cut off -------------------------------------------------------------------------------

    @pytest.mark.parametrize("call", range(1, CALLS + 1))
    def test_a_cut_is_gone_on_with(self, world: RollingWorld, call: int) -> None:
        world.pod("web", "ReplicaSet")
        code, _, _ = world.rolled("minion", _ending(world, call))
        assert code == -9, "there are fewer calls than the test believes"
        assert world.rolled("minion")[::2] == (0, "")
        if world.link("minion").readlink() == Path("/newer") and not world.is_clean():
            # The link was replaced before the cut: only the end of the step was left.
            assert world.rolled("minion")[::2] == (0, "")
        assert world.is_clean()
        assert not world.pods()


def _ending(world: RollingWorld, call: int) -> Path:
    """Programs that end the whole step before this call of the API, in order."""
    folder = world.folder / f"ending-{call}"
    folder.mkdir()
    for program, real in (("kubectl", f"{world.world.path}/kubectl"), ("curl", "/usr/bin/curl")):
        (folder / program).write_text(
            f"#!/bin/bash\necho >>{folder}/calls\n"
            f'[ "$(wc -l <{folder}/calls)" -lt {call} ] || kill -9 0\nexec {real} "$@"\n'
        )
        (folder / program).chmod(0o755)
    return folder


# -- what the plan says ----------------------------------------------------------------------------


def test_both_steps_of_a_node_roll_before_they_change_anything() -> None:
    spec = cluster()
    for step in (runtime.step(spec, "minion"), node_step.step(spec, "minion")):
        data = render.text(step)
        assert "roll" in render.used(step)
        after = data.index("\nrolls\tminion\t")
        assert data.index("\nnot_newer\t") < after < data.index("\nalone\n")
        assert all(data.find(f"\n{kind}\t") > after for kind in ("file", "link", "unit"))


@pytest.mark.parametrize("kind", ["containerd", "docker"])
def test_another_runtime_alone_has_the_node_step_run_too(kind: str) -> None:
    spec = cluster(runtime=kind)
    rolls = _rolling(spec)
    assert {link.path for link in runtime.commands(spec)} < {link.path for link in rolls.programs}


def _rolling(spec: Cluster) -> Rolling:
    rolls = node_step.step(spec, "minion").rolling
    assert rolls is not None
    return rolls


@pytest.mark.parametrize(
    ("nodes", "number"),
    [(1, "1"), (3, "3"), ("25%", "1"), ("100%", "2"), ("50%", "1"), ("99%", "1")],
)
def test_the_tickets_say_how_many_nodes_may_roll_at_once(nodes: int | str, number: str) -> None:
    config_map = roll.tickets(cluster(rollout={"nodes": nodes}))[0]
    assert config_map["metadata"]["annotations"] == {roll.AT_ONCE: number}
    assert "data" not in config_map, "applied anew, it must not take tickets away"
