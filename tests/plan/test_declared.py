"""What differs of objects: by the owners of their fields, and in a real API server."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from certs.table import ADMINS
from plan import addons
from plan.contents import OBJECTS
from plan.declared import DeclaredObject, differences
from plan.item import AS_KEPT
from probe.objects import differing
from spec.cluster import Cluster
from tests.declared import described as of_golden
from tests.plan.shell import cluster
from tests.plan.test_catalogue import with_everything
from tests.plan.test_node_objects import NodesWorld, world_in

PATH = "/apis/apps/v1/namespaces/n/deployments/d"
WANTED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "n", "labels": {"example.org/a": "x"}},
    "spec": {
        "paused": False,
        "replicas": 2,
        "selector": {"matchLabels": {"app": "d"}},
        "finalizers": ["a"],
        "containers": [
            {"name": "c", "args": ["--a"], "ports": [{"containerPort": 1, "name": "p"}]},
            {"name": "e", "image": "i"},
        ],
    },
    "data": {"tls.key": AS_KEPT},
}
PORT = 'k:{"containerPort":1,"protocol":"TCP"}'
FIELDS: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:example.org/a": {}}},
    "f:spec": {
        "f:paused": {},
        "f:replicas": {},
        "f:selector": {},
        "f:finalizers": {'v:"a"': {}},
        "f:containers": {
            'k:{"name":"c"}': {
                ".": {},
                "f:name": {},
                "f:args": {},
                "f:ports": {PORT: {".": {}, "f:containerPort": {}, "f:name": {}}},
            },
            'k:{"name":"e"}': {".": {}, "f:name": {}, "f:image": {}},
        },
    },
    "f:data": {"f:tls.key": {}},
}
"""As the API server notes it: with the default of a key, and with a field whose zero it omits."""


def live() -> dict[str, Any]:
    """The object as the API has it after it was applied."""
    made: dict[str, Any] = json.loads(json.dumps(WANTED))
    del made["spec"]["paused"]
    made["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP"
    made["spec"]["strategy"] = {"type": "RollingUpdate"}
    made["data"]["tls.key"] = "c2VjcmV0"
    fields = json.loads(json.dumps(FIELDS))
    made["metadata"]["managedFields"] = [owner("hardway", fields, operation="Apply")]
    return made


def owner(manager: str, fields: Any, operation: str = "Update") -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "time": "2030-01-02T03:04:05Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def sentences(made: dict[str, Any] | None) -> list[str]:
    declared = DeclaredObject(path=PATH, manifest=WANTED)
    return [difference.sentence for difference in differences(declared, made)]


def test_what_was_applied_does_not_differ() -> None:
    assert sentences(live()) == []


def test_what_is_gone_is_missing() -> None:
    assert sentences(None) == ["object Deployment n/d is missing and should be as declared"]


def test_a_value_of_somebody_else_is_told_with_who_set_it_and_when() -> None:
    made = live()
    made["spec"]["replicas"] = 5
    owners = made["metadata"]["managedFields"]
    del owners[0]["fieldsV1"]["f:spec"]["f:replicas"]
    owners.append(owner("kubectl", {"f:spec": {"f:replicas": {}}}))
    (sentence,) = sentences(made)
    assert sentence == (
        "object Deployment n/d spec.replicas is 5 (set by kubectl at 2030-01-02T03:04:05Z) and "
        "should be 2"
    )


def test_the_same_value_of_somebody_else_does_not_differ() -> None:
    made = live()
    owners = made["metadata"]["managedFields"]
    del owners[0]["fieldsV1"]["f:spec"]["f:replicas"]
    owners.append(owner("kubectl", {"f:spec": {"f:replicas": {}}}))
    assert sentences(made) == []


def test_what_others_added_does_not_differ() -> None:
    made = live()
    made["metadata"]["labels"]["b"] = "y"
    made["spec"]["containers"].insert(0, {"name": "f", "image": "g"})
    made["spec"]["containers"][1]["image"] = "j"
    fields = {
        "f:metadata": {"f:labels": {"f:b": {}}},
        "f:spec": {"f:containers": {'k:{"name":"f"}': {".": {}, "f:image": {}}}},
    }
    made["metadata"]["managedFields"].append(owner("ann", fields))
    assert sentences(made) == []


def test_an_older_value_with_our_name_on_it_differs() -> None:
    """As after a restored backup of etcd."""
    made = live()
    made["spec"]["replicas"] = 1
    made["spec"]["selector"]["matchLabels"]["app"] = "e"
    made["spec"]["finalizers"] = []
    assert sentences(made) == [
        "object Deployment n/d spec.replicas is 1 and should be 2",
        "object Deployment n/d spec.selector is other content and should be as declared",
        "object Deployment n/d spec.finalizers[a] is missing and should be a",
    ]


def test_a_field_whose_zero_is_omitted_differs_once_it_is_not_ours() -> None:
    made = live()
    del made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:paused"]
    assert sentences(made) == ["object Deployment n/d spec.paused is missing and should be false"]


def test_elements_of_lists_are_known_by_their_keys() -> None:
    made = live()
    made["spec"]["containers"].reverse()
    assert sentences(made) == []
    made["spec"]["containers"].pop(0)
    made["spec"]["containers"][0]["ports"][0]["name"] = "q"
    made["spec"]["containers"][0]["args"].append("--password=hidden")
    of_it = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]
    del of_it['k:{"name":"e"}'], of_it['k:{"name":"c"}']["f:args"]
    container = "object Deployment n/d spec.containers"
    assert sentences(made) == [
        f"{container}[c].args is other content and should be as declared",
        f"{container}[c].ports[1].name is q and should be p",
        f"{container}[e] is missing and should be as declared",
    ]


def test_of_a_key_only_its_owner_is_asked() -> None:
    made = live()
    made["data"]["tls.key"] = "YW5vdGhlcg=="
    assert sentences(made) == []
    del made["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]
    made["metadata"]["managedFields"].append(owner("ann", {"f:data": {"f:tls.key": {}}}))
    (sentence,) = sentences(made)
    assert sentence == (
        "object Deployment n/d data[tls.key] is other content (set by ann at "
        "2030-01-02T03:04:05Z) and should be as kept in the state"
    )


def test_an_object_whose_owners_were_wiped_out_is_compared_by_its_values() -> None:
    made = live()
    del made["metadata"]["managedFields"]
    assert sentences(made) == [
        "object Deployment n/d spec.paused is missing and should be false",
        # Nobody knows what is a default there.
        "object Deployment n/d spec.containers is other content and should be as declared",
        "object Deployment n/d data[tls.key] is other content and should be as kept in the state",
    ]


# -- what is declared ------------------------------------------------------------------------------


def test_no_key_is_among_what_is_declared_and_everything_else_is() -> None:
    declared = addons.declared(with_everything())
    paths = [wanted.path for wanted in declared]
    assert len(set(paths)) == len(paths)
    (record,) = (wanted for wanted in declared if wanted.name.endswith("/hardway-objects"))
    assert record.manifest["data"]["objects"].split() == paths[:-1]
    kept = [wanted for wanted in declared if AS_KEPT in json.dumps(wanted.manifest)]
    assert {wanted.name for wanted in kept} >= {
        "Secret hardway-addons/metrics-server-tls",
        "APIService v1beta1.metrics.k8s.io",
    }
    secrets = [wanted for wanted in declared if wanted.manifest["kind"] == "Secret"]
    values = [value for secret in secrets for value in secret.manifest["data"].values()]
    assert set(values) == {AS_KEPT}
    assert OBJECTS.validate_json(OBJECTS.dump_json(declared)) == declared


# -- a real API server -----------------------------------------------------------------------------


SERVERS = ("192.0.2.53", "192.0.2.54")
SPECS = {
    "without-dns": cluster(addons={"coredns": False}),
    "default": cluster(),
    "forwarding": cluster(addons={"name_servers": SERVERS}),
    "flannel-api": cluster(flannel={"store": "kubernetes"}),
    "logs-without-storage": cluster(addons={"logs": True}),
    "everything": with_everything(),
    "with-settings": cluster(addons=of_golden("docker")["addons"]),
}
"""In an order in which no namespace and no claim goes: no controller is there to finish that."""
LAST = SPECS["with-settings"]

PASSWORD = b64encode(b"neither shown nor kept").decode()
KEY = f'{{"data":{{"tls.key":"{PASSWORD}"}}}}'
MERGE = "--type merge --patch"
DRIFTS = {
    f'-n kube-system patch configmap coredns {MERGE} {{"data":{{"Corefile":"other"}}}}': (
        "ConfigMap kube-system/coredns data.Corefile is other content (set by kubectl-patch) and "
        "should be as declared"
    ),
    "-n kube-system scale deployment coredns --replicas 5": (
        "Deployment kube-system/coredns spec.replicas is 5 (set by kubectl) and should be 2"
    ),
    f"-n kube-system label service kube-dns {next(iter(addons.LABELS))}-": (
        f"Service kube-system/kube-dns metadata.labels[{next(iter(addons.LABELS))}] is missing and "
        "should be hardway"
    ),
    "-n kube-system delete serviceaccount coredns": (
        "ServiceAccount kube-system/coredns is missing and should be as declared"
    ),
    f'patch clusterrole system:coredns {MERGE} {{"rules":[]}}': (
        "ClusterRole system:coredns rules is other content (set by kubectl-patch) and should be "
        "as declared"
    ),
    f"delete clusterrolebinding {ADMINS}": (
        f"ClusterRoleBinding {ADMINS} is missing and should be as declared"
    ),
    f'patch serviceaccount default {MERGE} {{"automountServiceAccountToken":null}}': (
        "ServiceAccount default/default automountServiceAccountToken is missing and should be false"
    ),
    f"-n hardway-addons patch secret metrics-server-tls {MERGE} {KEY}": (
        "Secret hardway-addons/metrics-server-tls data[tls.key] is other content (set by "
        "kubectl-patch) and should be as kept in the state"
    ),
    # What nobody declared.
    "-n kube-system annotate configmap coredns owner=ann": None,
    f'-n kube-system patch configmap coredns {MERGE} {{"data":{{"more":"x"}}}}': None,
    "-n kube-system label deployment coredns owner=ann": None,
}
"""What somebody does with kubectl, and what is told of it, where it is drift."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("declared")) as world:
        yield world


def drift(world: NodesWorld, spec: Cluster) -> set[str]:
    """What differs, without times."""
    every = asyncio.run(differing(world.admin, addons.declared(spec)))
    return {re.sub(r" at [\dTZ:-]+\)", ")", difference.sentence) for difference in every}


def apply(world: NodesWorld, spec: Cluster) -> None:
    done = world.applied(spec)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert drift(world, spec) == set()


@pytest.fixture
def as_declared(world: NodesWorld) -> NodesWorld:
    """The world with all objects as declared."""
    if drift(world, LAST):
        apply(world, LAST)
    return world


@pytest.mark.engine
class TestInTheApi:
    @pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
    def test_nothing_differs_after_the_step(self, world: NodesWorld, spec: Cluster) -> None:
        apply(world, spec)

    def test_what_others_did_is_told_as_they_did_it_and_mended(
        self, as_declared: NodesWorld
    ) -> None:
        for line in DRIFTS:
            as_declared.kubectl(line)
        assert drift(as_declared, LAST) == {
            f"object {sentence}" for sentence in DRIFTS.values() if sentence
        }
        apply(as_declared, LAST)

    def test_of_a_list_of_containers_each_is_compared(self, as_declared: NodesWorld) -> None:
        world = as_declared
        name = "node-exporter"
        (wanted,) = (
            row.manifest
            for row in addons.declared(LAST)
            if row.name.endswith(f"/{name}") and row.manifest["kind"] == "DaemonSet"
        )
        (container,) = wanted["spec"]["template"]["spec"]["containers"]
        metadata = {"name": name, "namespace": wanted["metadata"]["namespace"]}

        def applied_by_ann(*containers: dict[str, Any]) -> None:
            manifest = {
                **{name: wanted[name] for name in ("apiVersion", "kind")},
                "metadata": metadata,
                "spec": {"template": {"spec": {"containers": list(containers)}}},
            }
            world.kubectl(
                "apply --server-side --force-conflicts --field-manager ann --filename -", manifest
            )

        path = f"object DaemonSet {metadata['namespace']}/{name} spec.template.spec.containers"
        here = f"{path}[{container['name']}]"
        beside = {"name": "beside", "image": "none"}
        applied_by_ann(beside)
        assert drift(world, LAST) == set(), "another one beside it is not ours"
        applied_by_ann({"name": container["name"], "image": "other:1", "args": ["--password=x"]})
        assert drift(world, LAST) == {
            f"{here}.image is other:1 (set by ann) and should be {container['image']}",
            f"{here}.args is other content (set by ann) and should be as declared",
        }
        replaced = json.dumps(
            [{"op": "replace", "path": "/spec/template/spec/containers", "value": [beside]}],
            separators=(",", ":"),
        )
        where = f"-n {metadata['namespace']} patch daemonset {name}"
        world.kubectl(f"{where} --type json --patch {replaced}")
        assert drift(world, LAST) == {f"{here} is missing and should be as declared"}
        apply(world, LAST)
