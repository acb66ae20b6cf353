"""The cluster's own objects, how they are made, and when the cluster is ready."""

import dataclasses
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from certs.table import certificates
from plan import addons, runtime
from plan.addons import coredns
from plan.condition import (
    ApiServers,
    Clocks,
    Condition,
    Members,
    Nodes,
    Pods,
    PodsReach,
)
from plan.conditions import conditions
from plan.model import Certificate, PrivateKey, Step
from spec.cluster import Cluster
from spec.description import AuthorityNumbers
from tests.plan.shell import StandIn, cluster, stand_in
from tests.plan.stored import as_root, inside, stored

SERVERS = ("192.0.2.53", "192.0.2.54")
SPECS = {
    "default": cluster(),
    "forwarding": cluster(addons={"name_servers": SERVERS}),
    "forwarding-as-machines": cluster(
        networks={"machines": "192.168.1.0/24", "name_servers": SERVERS}
    ),
    "flannel-api": cluster(flannel={"store": "kubernetes"}),
    "without-dns": cluster(addons={"coredns": False}),
    "metrics": cluster(addons={"metrics_server": True}),
    "monitoring": cluster(addons={"monitoring": True}),
    "problems": cluster(addons={"problem_detector": True}),
    "logs": cluster(addons={"logs": True}),
    "ingress": cluster(addons={"ingress": True}),
    "dashboard": cluster(addons={"dashboard": True}),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def many(nodes: int, **more: Any) -> Cluster:
    """A cluster with so many nodes."""
    machines: dict[str, Any] = {
        f"n{number}": {"address": f"10.0.{number // 200}.{10 + number % 200}"}
        for number in range(nodes)
    }
    machines["n0"] |= {"roles": "ai", "memory": 3072}
    networks = {"machines": "10.0.0.0/16", "pods": "10.64.0.0/12"}
    return cluster(machines=machines, networks=networks, **more)


def objects(spec: Cluster) -> list[dict[str, Any]]:
    """Everything that is applied, as kubectl reads it."""
    files = {file.path: file.content for file in addons.files(spec)}
    names = addons.apply(spec).settings["manifests"].split()
    return [document for name in names for document in yaml.safe_load_all(files[name])]


def of_kind(spec: Cluster, kind: str) -> list[dict[str, Any]]:
    return [document for document in objects(spec) if document["kind"] == kind]


# -- objects ---------------------------------------------------------------------------------------


@every_spec
def test_each_object_is_made_once_and_says_whose_it_is(spec: Cluster) -> None:
    every = objects(spec)
    names = Counter(addons._identity(manifest) for manifest in every)
    assert max(names.values()) == 1
    for manifest in every:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "hardway"
        kind = manifest["kind"]
        of_cluster = kind.startswith("Cluster") or kind in ("Namespace", "IngressClass")
        assert ("namespace" in manifest["metadata"]) != of_cluster, manifest["metadata"]


@every_spec
def test_each_role_that_is_bound_is_there_and_each_subject_exists(spec: Cluster) -> None:
    own = {role["metadata"]["name"] for role in of_kind(spec, "ClusterRole")}
    people = {row.common_name for row in certificates(spec)}
    groups = {row.organization for row in certificates(spec)}
    accounts = {account["metadata"]["name"] for account in of_kind(spec, "ServiceAccount")}
    built_in = {"cluster-admin", "system:kubelet-api-admin", "system:auth-delegator"}
    built_in |= {"system:monitoring", "system:node-problem-detector", "view"}
    exist: dict[str, set[Any]] = {"User": people, "Group": groups, "ServiceAccount": accounts}
    for binding in of_kind(spec, "ClusterRoleBinding"):
        assert binding["roleRef"]["name"] in own | built_in
        for subject in binding["subjects"]:
            assert subject["name"] in exist[subject["kind"]], subject


@every_spec
def test_no_role_of_ours_has_wildcards_or_writes(spec: Cluster) -> None:
    """CIS 5.1.3; flannel writes the state of nodes, Traefik that of Ingresses."""
    written = [(["nodes/status"], {"patch"}), (["ingresses/status"], {"update"})]
    for role in of_kind(spec, "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in json.dumps(rule)
            writes = set(rule["verbs"]) - {"get", "list", "watch"}
            assert not writes or (rule["resources"], writes) in written


def test_one_group_may_do_anything_and_it_is_the_admins() -> None:
    bound = [
        b
        for b in of_kind(cluster(), "ClusterRoleBinding")
        if b["roleRef"]["name"] == "cluster-admin"
    ]
    (subject,) = (subject for binding in bound for subject in binding["subjects"])
    admin = next(row for row in certificates(cluster()) if row.name == "admin")
    assert (subject["kind"], subject["name"]) == ("Group", admin.organization)


def test_the_api_server_may_call_kubelets() -> None:
    """Else neither logs nor exec work."""
    caller = next(row for row in certificates(cluster()) if row.name == "apiserver-kubelet-client")
    (bound,) = (
        binding
        for binding in of_kind(cluster(), "ClusterRoleBinding")
        if binding["roleRef"]["name"] == "system:kubelet-api-admin"
    )
    (subject,) = bound["subjects"]
    assert (subject["kind"], subject["name"]) == ("User", caller.common_name)


def test_a_pod_without_an_account_of_its_own_gets_no_token() -> None:
    """CIS 5.1.5."""
    accounts = [
        a for a in of_kind(cluster(), "ServiceAccount") if a["metadata"]["name"] == "default"
    ]
    namespaces = {account["metadata"]["namespace"] for account in accounts}
    assert namespaces == {"default", "kube-system", "kube-public", "kube-node-lease"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


@every_spec
def test_each_pod_is_confined(spec: Cluster) -> None:
    """CIS 5.2 and 5.6.2, 5.6.3."""
    for deployment in of_kind(spec, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert not {"hostPID", "hostIPC", "hostNetwork"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["serviceAccountName"] != "default"
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert {"limits", "requests"} <= container["resources"].keys()


@every_spec
def test_each_image_is_one_that_every_node_has(spec: Cluster) -> None:
    there = {image.reference for image in runtime.images(spec)}
    for deployment in of_kind(spec, "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container["image"] in there
            assert container["imagePullPolicy"] == "IfNotPresent"


def test_the_service_finds_coredns_at_the_address_that_pods_are_told() -> None:
    spec = cluster()
    (service,) = of_kind(spec, "Service")
    (deployment,) = of_kind(spec, "Deployment")
    (budget,) = of_kind(spec, "PodDisruptionBudget")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        service["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"],
        budget["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert service["spec"]["clusterIP"] == str(spec.networks.dns_service)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    open_ports = {(port["containerPort"], port["protocol"]) for port in container["ports"]}
    assert {(port["port"], port["protocol"]) for port in service["spec"]["ports"]} <= open_ports


def test_the_real_kubectl_knows_each_field_of_the_deployment(tmp_path: Path) -> None:
    """kubectl reads it into its own types, which drops what they do not have."""
    (deployment,) = of_kind(cluster(), "Deployment")
    assert _through_kubectl(deployment, tmp_path) == deployment
    strange = json.loads(json.dumps(deployment))
    strange["spec"]["template"]["spec"]["topologySpreadConstraint"] = []
    assert _through_kubectl(strange, tmp_path) == deployment


def _through_kubectl(deployment: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "object.json"
    path.write_text(json.dumps(deployment))
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    done = subprocess.run(
        [str(stored("kubectl")), "set", "image", "--local", f"--filename={path}"]
        + ["--output=json", "coredns=another"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(folder)},
    )
    changed: dict[str, Any] = json.loads(done.stdout)
    changed.pop("status", None)
    changed["metadata"].pop("creationTimestamp", None)
    template = changed["spec"]["template"]
    template["metadata"].pop("creationTimestamp", None)
    template["spec"]["containers"][0]["image"] = image
    return changed


# -- CoreDNS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inside(stored("coredns"), "coredns", tmp_path_factory.mktemp("coredns"))


def _starts(program: Path, corefile: str, folder: Path) -> tuple[bool, str]:
    """Whether CoreDNS understands the file, up to asking an API that is not there."""
    path = folder / "Corefile"
    path.write_text(
        corefile.replace("pods insecure", "pods insecure\n endpoint http://127.0.0.1:1")
    )
    # A network of its own: every port is free, and none of this computer's is touched.
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    output = ""
    with subprocess.Popen(
        [*alone, program, "-conf", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            output += line
            if "waiting for Kubernetes API" in line:
                child.kill()
                return True, output
    return False, output


@as_root
@pytest.mark.parametrize("name", ["default", "forwarding"])
def test_coredns_understands_its_configuration(program: Path, name: str, tmp_path: Path) -> None:
    understood, output = _starts(program, coredns.corefile(SPECS[name]), tmp_path)
    assert understood, output


@as_root
def test_a_block_on_one_line_is_none(program: Path, tmp_path: Path) -> None:
    """Pitfall 10: the reason why blocks are written in several lines."""
    corefile = coredns.corefile(cluster())
    one_line = corefile.replace("{\n        lameduck 5s\n    }", "{ lameduck 5s }")
    assert one_line != corefile
    assert not _starts(program, one_line, tmp_path)[0]


def test_loops_are_looked_for_where_something_is_forwarded_and_nowhere_else() -> None:
    """Pitfall 10."""
    for name, spec in SPECS.items():
        directives = coredns.corefile(spec).split()
        assert ("loop" in directives) == ("forward" in directives) == name.startswith("forwarding")
    for name in ("forwarding", "forwarding-as-machines"):
        assert set(SERVERS) <= set(coredns.corefile(SPECS[name]).split())
    as_machines = SPECS["forwarding-as-machines"].networks.model_dump(mode="json")
    own = cluster(networks=as_machines, addons={"name_servers": ["192.0.2.99"]})
    assert "forward . 192.0.2.99 {" in coredns.corefile(own), "its own come first"


def test_a_changed_configuration_is_rolled_out() -> None:
    first, second = (of_kind(SPECS[name], "Deployment")[0] for name in ("default", "forwarding"))
    assert first["spec"]["template"] != second["spec"]["template"]


@pytest.mark.parametrize("before", list(SPECS))
def test_pods_that_have_the_apis_authorities_start_anew_where_those_change(before: str) -> None:
    spec = SPECS[before]

    def templates(*numbers: int) -> dict[str, Any]:
        """Workload to its pods' template, where these authorities are trusted."""
        declared = AuthorityNumbers(kubernetes=numbers)
        wanted = addons.wanted(spec.model_copy(update={"authorities": declared}))
        every = [manifest for manifests in wanted.values() for manifest in manifests]
        return {
            f"{manifest['kind']} {manifest['metadata']['name']}": manifest["spec"]["template"]
            for manifest in every
            if "template" in manifest.get("spec", {})
        }

    first = templates(1)
    reading = {
        name
        for name, template in first.items()
        if template["spec"].get("automountServiceAccountToken") is not False
        or "kube-root-ca.crt" in json.dumps(template["spec"])
    }
    for numbers, sooner in (((1, 2), (1,)), ((2,), (1, 2))):
        now_is, was = templates(*numbers), templates(*sooner)
        assert {name for name in now_is if now_is[name] != was[name]} == reading
    assert templates(1, 2) == templates(2, 1)
    assert first == templates(1)


def test_the_number_of_replicas_follows_the_nodes() -> None:
    counts = {nodes: coredns.replicas(many(nodes)) for nodes in (1, 2, 3, 32, 33, 48, 49, 500)}
    assert counts == {1: 1, 2: 2, 3: 2, 32: 2, 33: 3, 48: 3, 49: 4, 500: 32}


REPELLED = {"key": "dedicated", "value": "build", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taints", "count"),
    [
        ([[REPELLED]], 1),
        ([[{**REPELLED, "effect": "NoExecute"}]], 1),
        ([[{**REPELLED, "effect": "PreferNoSchedule"}]], 2),
        ([[{"key": "CriticalAddonsOnly", "effect": "NoSchedule"}]], 2),
        ([[REPELLED], []], 2),
        ([[REPELLED], [{"key": "zone", "effect": "NoExecute"}]], 1),
    ],
)
def test_no_replica_is_wanted_on_a_node_that_would_not_take_it(
    taints: list[list[dict[str, str]]], count: int
) -> None:
    """Else it is waited for in vain."""
    machines: dict[str, Any] = {
        f"minion-{number}": {"address": f"192.168.1.{number}", "taints": own}
        for number, own in enumerate(taints, start=20)
    }
    machines["master"] = {"address": "192.168.1.10", "roles": "ai", "memory": 3072}
    spec = cluster(machines=machines)
    (deployment,) = of_kind(spec, "Deployment")
    assert deployment["spec"]["replicas"] == count
    counted = [
        condition.check.count for condition in conditions(spec) if isinstance(condition.check, Pods)
    ]
    assert counted == [count]
    (reach,) = (
        condition.check for condition in conditions(spec) if isinstance(condition.check, PodsReach)
    )
    assert (set(reach.nodes), reach.pods.count) == (set(machines), count)


def test_a_control_plane_that_is_no_minion_takes_coredns() -> None:
    assert coredns.hosts(HIGHLY_AVAILABLE) == ("a1", "a2", "i1")


def test_another_minion_seldom_changes_the_add_ons() -> None:
    sizes = (*range(2, 6), *range(31, 35))
    plans = [addons.files(many(nodes)) for nodes in sizes]
    changes = sum(before != after for before, after in pairwise(plans))
    assert changes == 1


def test_replicas_are_on_different_nodes_also_where_they_started_early() -> None:
    (deployment,) = of_kind(many(3), "Deployment")
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["minDomains"] == deployment["spec"]["replicas"]
    # Else an update of as many replicas as nodes could not begin.
    assert spread["matchLabelKeys"] == ["pod-template-hash"]


# -- the script ------------------------------------------------------------------------------------

LOCK_FREE = 'flock --nonblock "$FOLDER/state/lock" true && echo free >>"$FOLDER/lock"\n'
SEEN = """ls "$FOLDER"/admin.* >>"$FOLDER/seen" 2>/dev/null
cat /dev/fd/7 /dev/fd/8 >>"$FOLDER/read"
"""
FAILS = 'case "$*" in *"%s"*) echo refused; exit 22;; esac\n'
ANSWERS = r"""case "$*" in
*"/nodes?"*) echo '{"rows":[%s]}' ;;
*"--request GET "*/hardway-objects*) printf '%s' ;;
*DELETE*) for word; do
    case $word in "%%{http_code} "*) printf "${word/\%%\{http_code\}/%s}" ;; esac
done ;;
esac
"""


GONE = "/api/v1/namespaces/kube-system/configmaps/gone"
RECORDED = rf'{{"kind":"ConfigMap","data":{{"objects":"{GONE}\\n"}}}}\n200'


def answers(*nodes: str, deleted: int = 200, recorded: str = RECORDED) -> str:
    """What the API answers: its nodes, the record of objects, and the result of each deletion."""
    rows = ",".join(f'{{"cells":["{node}","Ready"]}}' for node in nodes)
    return ANSWERS % (rows, recorded, deleted)


@pytest.fixture
def machine_with_api(tmp_path: Path) -> StandIn:
    own = LOCK_FREE + SEEN
    return stand_in(tmp_path, kubectl=own, curl=own + answers())


def _apply(machine: StandIn, spec: Cluster | None = None, **more: str) -> Any:
    """The step, with files of its manifests and of its credential."""
    spec = spec or cluster()
    manifests = [file for file in addons.files(spec) if file.path != addons.NODES]
    for file in manifests:
        (machine.folder / Path(file.path).name).write_text(file.content)
    step = addons.apply(spec)
    here = {"manifests": re.sub(r"\S*/", f"{machine.folder}/", step.settings["manifests"])}
    for name in ("crt", "key"):
        (machine.folder / f"admin.{name}").write_text("secret\n")
    paths = {
        "admin_certificate": str(machine.folder / "admin.crt"),
        "admin_key": str(machine.folder / "admin.key"),
    }
    return machine.run(step, **here, **paths, **more)


def test_nothing_is_said_when_all_is_well(machine_with_api: StandIn) -> None:
    outcome = _apply(machine_with_api)
    assert (outcome.code, outcome.output, outcome.errors) == (0, "", "")
    calls = "\n".join(outcome.calls)
    record = 2 * calls.count("--request DELETE")
    assert calls.count("--request PATCH") == len(objects(cluster())) + record
    assert re.findall(r"--request DELETE \S*6443(\S*)", calls) == [GONE]
    assert len(outcome.of("curl")) == 6, "the health, the record, objects, deletion, record, nodes"
    assert not outcome.of("kubectl")


def test_the_credential_is_gone_before_it_is_used(machine_with_api: StandIn) -> None:
    outcome = _apply(machine_with_api)
    assert not (machine_with_api.folder / "seen").read_text()
    read = (machine_with_api.folder / "read").read_text().split()
    assert read == ["secret"] * 2 * len(outcome.of("curl"))
    assert "secret" not in " ".join(outcome.calls)


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
def test_a_failure_is_told_and_leaves_no_credential(machine_with_api: StandIn, verb: str) -> None:
    broken = machine_with_api.with_programs(curl=FAILS % f" {verb} " + answers())
    outcome = _apply(broken)
    assert outcome.code == 1
    assert "refused" in outcome.errors
    assert not list(broken.folder.glob("admin.*"))


def test_what_may_not_be_deleted_is_named(machine_with_api: StandIn) -> None:
    outcome = _apply(machine_with_api.with_programs(curl=answers(deleted=403)))
    assert outcome.code == 1
    assert f"answers with 403 when {GONE} is to be deleted" in outcome.errors


def test_a_run_that_was_killed_leaves_no_credential(machine_with_api: StandIn) -> None:
    # curl runs in a subshell of a subshell of the script, each of them a bash.
    stop = """script=$PPID
    while read -r _ _ _ parent _ </proc/$script/stat && [ "$(</proc/$parent/comm)" = bash ]; do
        script=$parent
    done
    kill -KILL $script"""
    kill = f'case "$*" in *PATCH*) {stop} ;; esac\n{answers()}'
    outcome = _apply(machine_with_api.with_programs(curl=kill))
    assert outcome.code == -9
    assert not list(machine_with_api.folder.glob("admin.*"))


def test_other_steps_of_the_machine_need_not_wait(machine_with_api: StandIn) -> None:
    outcome = _apply(machine_with_api)
    free = (machine_with_api.folder / "lock").read_text().split()
    assert free == ["free"] * len(outcome.of("curl"))


# -- nodes that the spec no longer names -----------------------------------------------------------

ASKED = """case "$*" in
*"get node old-1 "*) echo %(ready)s ;;
*"drain old-1 "*) echo "cannot evict pod as it would violate the budget"; exit %(drain)s ;;
esac
"""
OLD = answers("n0", "old-1", "old-2")


def _verbs(outcome: Any) -> list[str]:
    """What kubectl was called for, behind its five options."""
    return [" ".join(call.split()[11:14]) for call in outcome.of("kubectl")]


@pytest.mark.parametrize(("drain", "ready"), [(0, True), (1, False)])
def test_a_node_that_the_spec_does_not_name_is_drained_and_deleted(
    machine_with_api: StandIn, drain: int, ready: bool
) -> None:
    asked = ASKED % {"ready": ready, "drain": drain}
    outcome = _apply(machine_with_api.with_programs(kubectl=asked, curl=OLD), many(1))
    assert outcome.code == 0, outcome.errors
    assert "n0" in many(1).nodes
    verbs = _verbs(outcome)
    for node in ("old-1", "old-2"):
        drained = verbs.index(f"drain {node} --ignore-daemonsets")
        assert drained < verbs.index(f"delete node {node}")
    assert not any("node n0" in verb or "drain n0" in verb for verb in verbs)


def test_a_node_whose_pods_may_not_move_stays_and_the_person_is_told(
    machine_with_api: StandIn,
) -> None:
    asked = ASKED % {"ready": True, "drain": 1}
    outcome = _apply(machine_with_api.with_programs(kubectl=asked, curl=OLD), many(1))
    assert outcome.code == 1
    assert "pods of the node old-1 do not move" in outcome.errors
    assert "violate the budget" in outcome.errors
    assert not any(verb.startswith("delete node") for verb in _verbs(outcome))


def test_nodes_that_cannot_be_listed_are_not_taken_for_none(machine_with_api: StandIn) -> None:
    outcome = _apply(machine_with_api.with_programs(curl=FAILS % "/nodes?" + answers()))
    assert outcome.code == 1
    assert "does not list the nodes: refused" in outcome.errors


@pytest.mark.parametrize("of", [addons.apply, addons.nodes])
def test_a_step_that_bears_the_credential_bears_nothing_else(of: Callable[[Cluster], Step]) -> None:
    step = of(cluster())
    sources = [file.source for file in step.secret_files]
    assert sources == [PrivateKey("super-admin"), Certificate("super-admin")]
    assert all(file.path.startswith("/run/") for file in step.secret_files)
    assert {file.mode for file in step.secret_files} == {0o600}
    assert (step.files, step.units, step.artifacts) == ((), (), ())


def test_what_changes_in_a_manifest_changes_what_applies_it() -> None:
    first, second = (addons.apply(SPECS[name]).settings for name in ("default", "forwarding"))
    assert first["manifests"] == second["manifests"]
    assert first != second


# -- conditions ------------------------------------------------------------------------------------

HIGHLY_AVAILABLE = cluster(
    machines={
        "e1": {"address": "192.168.1.21", "roles": "e"},
        "e2": {"address": "192.168.1.22", "roles": "e"},
        "e3": {"address": "192.168.1.23", "roles": "e"},
        "a1": {"address": "192.168.1.31", "roles": "a", "memory": 3072},
        "a2": {"address": "192.168.1.32", "roles": "a", "memory": 3072},
        "i1": {"address": "192.168.1.41", "roles": "i"},
    },
    endpoint={"kind": "virtual-ip", "address": "192.168.1.5"},
)


def _all_conditions() -> Iterator[tuple[Condition, ...]]:
    for spec in (*SPECS.values(), HIGHLY_AVAILABLE, many(1)):
        yield conditions(spec)


def test_each_condition_has_its_name_its_sentence_and_its_deadline() -> None:
    for every in _all_conditions():
        assert len({condition.name for condition in every}) == len(every)
        for condition in every:
            assert 0 < condition.deadline <= 900
            assert not condition.waits_for.endswith(".")
            assert dataclasses.asdict(condition)["check"]["kind"]


def test_conditions_are_in_the_order_in_which_they_can_come_true() -> None:
    order = [
        *("clocks", "members", "space", "api", "keys", "nodes"),
        *("dns-runs", "pods-reach", "service", "dns", "metrics-run", "metrics"),
        *("exporters", "monitoring", "history", "problem-detector", "node-problems"),
        *("logs", "log-readers", "logs-arrive"),
        *("ingress-runs", "ingress", "dashboard", "services"),
    ]
    for every in _all_conditions():
        positions = [order.index(condition.name) for condition in every]
        assert positions == sorted(positions)
    of_default = [condition.name for condition in conditions(cluster())]
    of_add_ons = {
        *("metrics-run", "metrics", "exporters", "monitoring", "history"),
        *("problem-detector", "node-problems", "logs", "log-readers", "logs-arrive"),
        *("ingress-runs", "ingress", "dashboard"),
    }
    assert of_default == [name for name in order if name not in of_add_ons]


def test_the_conditions_name_exactly_the_machines_of_the_spec() -> None:
    checks = [condition.check for condition in conditions(HIGHLY_AVAILABLE)]
    (clocks,) = (check for check in checks if isinstance(check, Clocks))
    assert set(clocks.machines) == HIGHLY_AVAILABLE.machines.keys()
    (members,) = (check for check in checks if isinstance(check, Members))
    (servers,) = (check for check in checks if isinstance(check, ApiServers))
    (nodes,) = (check for check in checks if isinstance(check, Nodes))
    assert members.members == {f"e{n}": f"https://192.168.1.2{n}:2379" for n in (1, 2, 3)}
    assert servers.servers == {f"a{n}": f"https://192.168.1.3{n}:6443" for n in (1, 2)}
    assert nodes.nodes == ("a1", "a2", "i1")
    assert servers.version == nodes.version == f"v{HIGHLY_AVAILABLE.kubernetes}"


def test_one_machine_alone_reaches_no_other() -> None:
    assert "pods-reach" not in {condition.name for condition in conditions(many(1))}


def test_without_pods_of_ours_only_the_machines_are_asked() -> None:
    names = [condition.name for condition in conditions(SPECS["without-dns"])]
    assert names == ["clocks", "members", "space", "api", "keys", "nodes", "services"]
