"""Labels and taints of nodes: a real API server, whose nodes follow one spec after the other."""

import asyncio
import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from plan import addons, cni, control_plane, etcd, kubelet, layout, node, objects
from plan.addons import coredns
from plan.cluster import cluster_plan
from plan.held import ROLLS, Difference, held, mending
from plan.item import Item, Kind
from plan.model import Kubeconfig, Step
from plan.objects import Manifest
from plan.rbac import service_account
from probe.machines import Done
from probe.observation import observed
from spec.cluster import API_PORT, Cluster
from tests.plan.limited import limited
from tests.plan.running import LocalCluster, LocalMachine, programs, run
from tests.plan.shell import cluster

OF_A_CONTROLLER = {
    "key": "node.kubernetes.io/unreachable",
    "effect": "NoExecute",
    "timeAdded": "2030-01-02T03:04:05Z",
}
OF_A_PERSON = {"key": "maintenance", "value": "disk", "effect": "NoSchedule"}
NOT_READY = "node.kubernetes.io/not-ready"
ROLE = "node-role.kubernetes.io/control-plane"


def described(addons: Any = None, **minion: Any) -> Cluster:
    """The cluster with these fields of its minion, and these add-ons."""
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11", **minion},
    }
    return cluster(machines=machines, **({"addons": addons} if addons else {}))


def taint(key: str, value: str = "", effect: str = "NoSchedule") -> dict[str, str]:
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


class NodesWorld:
    """A member of etcd and an API server that run, and what is done to their nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spec = folder, described()
        self.cluster = LocalCluster(self.spec, folder)
        self.master, self.minion = (LocalMachine(self.cluster, n) for n in self.spec.machines)
        self.path = programs(folder / "bin", self.spec, ("etcdctl", "kubectl"))
        self.etcd = etcd.step(self.spec, "master")
        self.plane = control_plane.step(self.spec, "master")
        self.master.furnish(self.etcd, self.plane, node.step(self.spec, "master"))
        self.minion.furnish(node.step(self.spec, "minion"))
        source = Kubeconfig("super-admin", f"https://127.0.0.1:{API_PORT}")
        self.people = people = self.cluster.keys.of_people()
        self.admin = self.master.here(self.cluster.keys.content(source, people))

    def kubectl(self, line: str, given: Any = None, *, minion: bool = False) -> str:
        """What kubectl says to the admin, or to the kubelet of the minion."""
        admin = self.folder / "admin.conf"
        admin.write_text(self.admin)
        config = self.minion.root / layout.kubeconfig("kubelet")[1:] if minion else admin
        done = subprocess.run(
            [self.path / "kubectl", "--kubeconfig", config, *line.split()],
            input=json.dumps(given) if given else None,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HOME": str(self.folder)},
        )
        return done.stdout

    def furnish(self, namespace: str) -> None:
        """A namespace with the account that pods have there."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.apply(service_account({"name": "default", "namespace": namespace}))

    def begin(self, namespace: str, name: str) -> None:
        """A pod on the minion, which no kubelet starts."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "nodeName": "minion",
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "main", "image": "none"}],
                },
            }
        )

    def apply(self, manifest: Manifest) -> None:
        self.kubectl("apply --server-side --filename -", manifest)

    def registered(self, spec: Cluster) -> None:
        """Both nodes anew, the minion by its kubelet's identity with what a kubelet gives it."""
        self.kubectl("delete nodes --all --ignore-not-found")
        self.kubectl("-n kube-system delete configmap hardway-nodes --ignore-not-found")
        for name in spec.nodes:
            machine = spec.machines[name]
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name, **machine.labels},
                },
                "spec": {"taints": kubelet.taints(machine)},
            }
            self.kubectl("create -f -", node, minion=name == "minion")

    def given(
        self, spec: Cluster, path: Path | None = None, seconds: int = 300
    ) -> subprocess.CompletedProcess[str]:
        """The step for a spec, with programs from ``path``."""
        return self.carried_out(addons.nodes(spec), spec, path, seconds)

    def applied(self, spec: Cluster, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The step that makes the cluster's objects, with programs from ``path``."""
        for file in addons.files(spec):
            self.master._write(file.path, file.content, 0o600)
        return self.carried_out(addons.apply(spec), spec, path)

    def carried_out(
        self, step: Step, spec: Cluster, path: Path | None = None, seconds: int = 300
    ) -> subprocess.CompletedProcess[str]:
        """A step with the admin's credential, with programs from ``path``."""
        (record,) = (file for file in addons.files(spec) if file.path == addons.NODES)
        self.master._write(record.path, record.content, 0o600)
        pairs = {**self.people, **self.cluster.keys.of_add_ons(spec)}
        for secret in step.secret_files:
            content = self.cluster.keys.content(secret.source, pairs)
            self.master._write(secret.path, content, 0o600)
        text = self.master.script(step, path or self.path)
        for secret in step.secret_files:
            text = text.replace(secret.path, f"{self.master.root}{secret.path}")
        return run(limited(text, seconds), HOME=str(self.folder))

    def follows(self, spec: Cluster) -> None:
        done = self.given(spec)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout

    def node(self, name: str = "minion") -> tuple[dict[str, str], list[dict[str, str]]]:
        """Its labels but for the kubelet's own, and its taints by key.

        The API server itself taints every new node as not ready, and no controller takes that away
        here.
        """
        node = json.loads(self.kubectl(f"get node {name} --output json"))
        labels = node["metadata"]["labels"]
        del labels["kubernetes.io/hostname"]
        taints = [given for given in node["spec"].get("taints", []) if given["key"] != NOT_READY]
        return labels, sorted(taints, key=lambda given: str(given["key"]))


@contextmanager
def world_in(folder: Path) -> Iterator[NodesWorld]:
    """A member of etcd and an API server that run and are ready."""
    made = NodesWorld(folder)
    with ExitStack() as stack:
        stack.enter_context(made.master.running(made.etcd.units[0]))
        assert run(made.master.script(made.etcd, made.path)).returncode == 0
        stack.enter_context(made.master.running(made.plane.units[0]))
        ready = [
            "await_api",
            "600",
            *(made.plane.settings[setting] for setting in ("api", "authority")),
        ]
        waits = replace(made.plane, script=None, settings={}, outcome="")
        done = run(
            f"{made.master.script(waits, made.path)}\n{made.master.here(' '.join(ready))} unit"
        )
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("nodes")) as made:
        yield made


@pytest.mark.engine
class TestNodes:
    def test_labels_and_taints_of_the_spec_come_change_and_go(self, world: NodesWorld) -> None:
        world.registered(described())
        world.follows(described())
        assert world.node("master") == ({ROLE: ""}, [])
        assert world.node() == ({}, [])
        gpu, build = {"gpu": "a100"}, taint("dedicated", "build")
        for labels, taints in (
            (gpu, [build]),
            ({"gpu": "h100", "example.org/disk": "ssd"}, [taint("dedicated", "test")]),
            ({"gpu": "h100"}, [taint("dedicated", "test", "NoExecute"), taint("zone")]),
            ({"gpu": ""}, []),
            ({}, []),
        ):
            world.follows(described(labels=labels, taints=taints))
            assert world.node() == (labels, taints)
        assert world.node("master") == ({ROLE: ""}, [])
        assert NOT_READY in world.kubectl("get node minion --output json")

    def test_what_a_kubelet_registered_goes_when_the_spec_no_longer_names_it(
        self, world: NodesWorld
    ) -> None:
        first = described(labels={"gpu": "a100"}, taints=[taint("dedicated", "build")])
        world.registered(first)
        world.follows(first)
        assert world.node() == ({"gpu": "a100"}, [taint("dedicated", "build")])
        world.follows(described())
        assert world.node() == ({}, [])

    def test_what_others_gave_stays(self, world: NodesWorld) -> None:
        world.registered(described())
        first = described(labels={"gpu": "a100"}, taints=[taint("dedicated", "build")])
        world.follows(first)
        world.kubectl("label node minion owner=ann")
        others = {"spec": {"taints": [OF_A_PERSON, taint("dedicated", "build"), OF_A_CONTROLLER]}}
        world.kubectl(f"patch node minion --type merge --patch {_compact(others)}")
        for spec in (first, described(labels={"gpu": "h100"}), described()):
            world.follows(spec)
            labels, taints = world.node()
            assert labels.items() >= {"owner": "ann"}.items()
            own = [given for given in taints if given["key"] == "dedicated"]
            assert own == ([taint("dedicated", "build")] if spec is first else [])
            assert [given for given in taints if given not in own] == [OF_A_PERSON, OF_A_CONTROLLER]
        assert world.node()[0] == {"owner": "ann"}

    def test_a_node_cannot_name_what_is_taken_from_it(self, world: NodesWorld) -> None:
        world.registered(described())
        world.follows(described())
        record = "-n kube-system patch configmap hardway-nodes --type merge --patch "
        change = {"data": {"minion": "taint"}}
        with pytest.raises(subprocess.CalledProcessError) as refused:
            world.kubectl(record + _compact(change), minion=True)
        assert "Forbidden" in refused.value.stderr
        world.kubectl(record + _compact(change))

    @pytest.mark.parametrize("call", range(1, 15))
    def test_a_cut_and_another_spec_leave_nothing_behind(
        self, world: NodesWorld, call: int
    ) -> None:
        specs = [
            described(labels={name: "x"}, taints=[taint(name)]) for name in ("one", "two", "three")
        ]
        world.registered(specs[0])
        world.follows(specs[0])
        world.given(specs[1], _cutting(world, call))
        world.follows(specs[2])
        assert world.node() == ({"three": "x"}, [taint("three")])

    def test_who_changes_a_node_at_the_same_time_loses_nothing(self, world: NodesWorld) -> None:
        world.registered(described())
        path = _meddling(world)
        done = world.given(described(labels={"gpu": "a100"}, taints=[taint("dedicated")]), path)
        assert done.returncode == 0, done.stderr
        labels, taints = world.node()
        assert labels == {"gpu": "a100"}
        assert taints == [taint("dedicated"), OF_A_PERSON]

    def test_a_node_that_is_not_there_is_named(self, world: NodesWorld) -> None:
        world.registered(described())
        world.kubectl("delete node minion")
        done = world.given(described(labels={"gpu": "a100"}), seconds=1)
        assert done.returncode == 1
        assert (
            "the node minion is not registered: ./hardway up --refresh has its kubelet do so"
            in done.stderr
        )


# -- the cluster's own objects ---------------------------------------------------------------------


@pytest.mark.engine
class TestObjects:
    def test_they_are_made_as_written_and_again_where_somebody_changed_them(
        self, world: NodesWorld
    ) -> None:
        spec = described()
        made = [manifest for group in addons.wanted(spec).values() for manifest in group]
        for _ in range(2):
            done = world.applied(spec)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            for manifest in made:
                made_object = json.loads(world.kubectl(f"get --raw {objects.path(manifest)}"))
                assert made_object["kind"] == manifest["kind"]
                assert made_object["metadata"]["labels"].items() >= addons.LABELS.items()
            corefile = "-n kube-system get configmap coredns --output jsonpath={.data.Corefile}"
            assert world.kubectl(corefile) == coredns.corefile(spec)
            change = _compact({"data": {"Corefile": "other"}})
            world.kubectl(f"-n kube-system patch configmap coredns --type merge --patch {change}")

    def test_an_object_with_keys_has_them_and_no_file_is_left(self, world: NodesWorld) -> None:
        done = world.applied(described(addons={"metrics_server": True}))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        get = "get --raw /api/v1/namespaces/hardway-addons/secrets/metrics-server-tls"
        kept = json.loads(world.kubectl(get))["data"]
        data = {name: b64decode(text) for name, text in kept.items()}
        assert b"PRIVATE KEY" in data["tls.key"]
        certificate = x509.load_pem_x509_certificate(data["tls.crt"])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["metrics-server.hardway-addons.svc"]
        service = json.loads(world.kubectl("get apiservices v1beta1.metrics.k8s.io --output json"))[
            "spec"
        ]
        (authority,) = x509.load_pem_x509_certificates(b64decode(service["caBundle"]))
        certificate.verify_directly_issued_by(authority)
        assert "insecureSkipTLSVerify" not in service
        assert not list((world.master.root / "run/hardway").glob("*.json"))
        key = data["tls.key"].decode().splitlines()[1]
        assert key not in done.stdout + done.stderr
        recorded = world.kubectl("-n kube-system get configmap hardway-objects --output yaml")
        assert "/secrets/metrics-server-tls" in recorded
        assert world.applied(described()).returncode == 0
        assert "metrics" not in world.kubectl("get apiservices,clusterroles --output name")
        namespaces = json.loads(world.kubectl("get namespaces --output json"))["items"]
        (left,) = (row for row in namespaces if row["metadata"]["name"] == "hardway-addons")
        assert left["status"]["phase"] == "Terminating", "no controller is there to empty it"

    def test_what_is_switched_off_goes_and_what_was_never_there_is_no_error(
        self, world: NodesWorld
    ) -> None:
        assert world.applied(described()).returncode == 0
        for _ in range(2):
            done = world.applied(described(addons={"coredns": False}))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            left = world.kubectl("-n kube-system get deployments,services --output name")
            assert "dns" not in left
        assert "hardway:cluster-admins" in world.kubectl("get clusterrolebindings --output name")

    def test_what_somebody_else_made_stays(self, world: NodesWorld) -> None:
        mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}
        assert world.applied(described()).returncode == 0
        world.kubectl("-n kube-system create -f -", mine)
        assert world.applied(described(addons={"coredns": False})).returncode == 0
        assert world.kubectl("-n kube-system delete configmap mine").split()[1] == '"mine"'

    @pytest.mark.parametrize("call", range(4, 10))
    def test_a_cut_leaves_no_object_out_and_none_behind(self, world: NodesWorld, call: int) -> None:
        """Whoever cut it off may have changed their mind."""
        everything, without = described(), described(addons={"coredns": False})
        dns = "-n kube-system get deployments,services,configmaps --output name"
        for cut, whole, there in (
            (everything, everything, True),
            (without, without, False),
            (everything, without, False),
            (without, everything, True),
        ):
            before = everything if whole is without else without
            assert world.applied(before).returncode == 0
            name = f"objects-{cut is without}-{whole is without}"
            assert world.applied(cut, _cutting(world, call, name)).returncode != 0
            done = world.applied(whole)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert ("coredns" in world.kubectl(dns)) == there

    def test_what_the_api_refuses_is_told_in_its_words(self, world: NodesWorld) -> None:
        path = f"{addons.FOLDER}/wrong.yaml"
        wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}}
        text = f"---\n# /api/v1/namespaces/default/configmaps/x\n{json.dumps(wrong)}\n"
        world.master._write(path, text, 0o600)
        step = addons.apply(world.spec)
        step = replace(step, settings={**step.settings, "manifests": path})
        done = world.carried_out(step, world.spec, seconds=2)
        assert done.returncode == 1
        assert "the API server has the add-ons' objects" in done.stderr
        assert ".dta: field not declared in schema" in done.stderr

    def test_a_node_that_the_spec_does_not_name_goes(self, world: NodesWorld) -> None:
        world.registered(described())
        stranger = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "old"}}
        world.kubectl("create -f -", stranger)
        done = world.applied(described())
        assert done.returncode == 0, done.stderr
        assert world.kubectl("get nodes --output name").split() == ["node/master", "node/minion"]


# -- a node whose object is gone -------------------------------------------------------------------

STARTED_HERE = f"started=({kubelet.UNIT})"
"""As after a step that started the kubelet itself."""


def _joining(
    world: NodesWorld, preset: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """The end of the minion's node step, where ``systemctl`` restarts a kubelet.

    All that it does of a kubelet's work is what one does at its start, and never again: it
    registers its node. The calls are noted in ``systemctl.calls``.
    """
    step = node.step(world.spec, "minion")
    step = replace(step, settings={**step.settings, **settings}, outcome="")
    folder = world.folder / "joining"
    folder.mkdir(exist_ok=True)
    node_object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "minion"}}
    config = world.minion.root / layout.kubeconfig("kubelet")[1:]
    for name, body in {
        "curl": 'case $* in */healthz) echo ok ;; *) exec /usr/bin/curl "$@" ;; esac',
        "systemctl": f"""echo "$*" >>{world.folder}/systemctl.calls
case $* in
*restart*) echo '{_compact(node_object)}' |
    {world.path}/kubectl --kubeconfig {config} create --filename - >/dev/null ;;
esac""",
    }.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    listed = world.minion.root / cni.LIST[1:]
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("{}\n")
    (world.folder / "systemctl.calls").write_text("")
    path = f"PATH={folder}:$PATH\n"
    text = world.minion.script(step, folder).replace(path, f"{path}{preset}\n")
    return run(limited(text, 2), HOME=str(world.folder))


def _restarts(world: NodesWorld) -> list[str]:
    calls = (world.folder / "systemctl.calls").read_text().splitlines()
    return [call for call in calls if "restart" in call]


@pytest.mark.engine
class TestGone:
    def test_the_kubelet_restarts_once_and_registers_its_node_again(
        self, world: NodesWorld
    ) -> None:
        world.registered(described())
        world.kubectl("delete node minion")
        done = _joining(world)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout.splitlines() == [
            "the API has no node minion: its kubelet restarts, since it registers only at its start"
        ]
        assert _restarts(world) == [f"--no-block restart {kubelet.UNIT}"]
        assert "minion" in world.kubectl("get nodes --output name")

    def test_a_kubelet_whose_node_is_there_goes_on(self, world: NodesWorld) -> None:
        world.registered(described())
        done = _joining(world)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert _restarts(world) == []

    def test_a_kubelet_that_the_step_started_registers_by_itself(self, world: NodesWorld) -> None:
        world.registered(described())
        world.kubectl("delete node minion")
        done = _joining(world, STARTED_HERE)
        assert done.returncode == 1
        assert "the node is registered (minion)" in done.stderr
        assert _restarts(world) == []

    def test_no_other_answer_than_that_it_is_gone_restarts_a_kubelet(
        self, world: NodesWorld
    ) -> None:
        world.registered(described())
        world.kubectl("delete node minion")
        # A kubelet may ask for no other node than its own: whatever there is, the answer is 403.
        of_master = world.master.root / layout.kubeconfig("kubelet")[1:]
        done = _joining(world, kubeconfig=str(of_master))
        assert done.returncode == 1
        assert "403" in done.stderr
        assert _restarts(world) == []

    def test_drift_is_told_of_a_node_that_is_gone_and_its_own_step_mends_it(
        self, world: NodesWorld
    ) -> None:
        plan = cluster_plan(world.spec).nodes["minion"]
        (item,) = [candidate for candidate in held(plan) if candidate.kind is Kind.NODE]
        assert (item.name, item.mark) == ("minion", layout.kubeconfig("kubelet"))
        own = replace(item, mark=f"{world.minion.root}{item.mark}")
        others = replace(item, mark=f"{world.master.root}{item.mark}")
        world.registered(described())
        assert _told(world, own) == item.wanted
        world.kubectl("annotate node minion hardway/rolling=waits")
        assert _told(world, own) == ROLLS
        world.kubectl("delete node minion")
        assert _told(world, own) == "missing"
        assert _told(world, others) == item.wanted, "who may not ask does not know"
        assert _told(world, replace(own, mark="/nowhere")) == item.wanted
        differing = [Difference(item=item, observed="missing")]
        mends = mending(differing, held(plan), [step.name for step in plan.steps])
        assert (mends.steps, mends.restarts, mends.marks) == (("node",), (), ())


def _told(world: NodesWorld, item: Item) -> str:
    """What an observation says of a Node object."""

    class Here:
        async def run(self, node: str, script: str, **given: Any) -> Done:
            del node
            script = script.replace(" PATH=", f" PATH={world.path}:")
            done = subprocess.run(
                ["bash", "-c", script], input=given["input"], capture_output=True, text=True
            )
            return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    states = asyncio.run(observed(Here(), "minion", [item], {}))  # type: ignore[arg-type]
    return states[item.key]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _instead(world: NodesWorld, name: str, body: str) -> Path:
    """A folder with a kubectl and a curl of this body; ``$real`` is the real program."""
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    for program, real in (("kubectl", f"{world.path}/kubectl"), ("curl", "/usr/bin/curl")):
        (folder / program).unlink(missing_ok=True)
        (folder / program).write_text(f"#!/bin/bash\nreal={real}\n{body}\n")
        (folder / program).chmod(0o755)
    return folder


def _cutting(world: NodesWorld, call: int, name: str = "cut") -> Path:
    """Ends the whole script at a call: an odd one was done. Each ``name`` counts for itself."""
    work = '"$real" "$@" >/dev/null' if call % 2 else ":"
    folder = world.folder / f"{name}-{call}"
    return _instead(
        world,
        folder.name,
        f"echo >>{folder}/calls\n"
        f'[ "$(wc -l <{folder}/calls)" -eq {(call + 1) // 2} ] || exec "$real" "$@"\n'
        f"{work}\nkill -9 0",
    )


def _meddling(world: NodesWorld) -> Path:
    """A person taints the node just before the first patch of it."""
    change = _compact({"spec": {"taints": [OF_A_PERSON]}})
    done = world.folder / "meddled"
    return _instead(
        world,
        "meddling",
        f'if [[ "$*" == *PATCH*/nodes/minion* ]] && [ ! -e {done} ]; then touch {done}; '
        f"{world.path}/kubectl --kubeconfig {world.folder}/admin.conf "
        "patch node minion --type merge "
        f'--patch \'{change}\' >/dev/null; fi\nexec "$real" "$@"',
    )
