"""A cluster is brought from one minor version to the next, twice, node by node."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plan import roll
from spec.versions import Versions, catalogue
from tests.machine.lab import Lab, at_length, brought_up, meanwhile
from tests.machine.people import ConfigMapWriter, Person

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(7200),
    at_length,
]

STAGES = [row for row in catalogue() if row.kubernetes in ("1.35.4", "1.36.3", "1.37.1")][::-1]
"""A version of each minor, the oldest first; people who cannot download them have a recipe."""
MASTER, MINION = "master", "minion1"

CLUSTER = {
    "kubernetes": STAGES[0].kubernetes,
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        MASTER: {"address": "192.168.1.10", "roles": "ai", "cpus": 2},
        MINION: {"address": "192.168.1.11"},
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtnewer", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def kubelets(lab: Lab) -> set[str]:
    return {node["status"]["nodeInfo"]["kubeletVersion"] for node in lab.objects("nodes")["items"]}


def etcd(lab: Lab) -> str:
    return lab.on(MASTER, "etcdctl version").splitlines()[0].split()[-1]


def pods(lab: Lab) -> set[str]:
    """The numbers of the shop's pods, which no other pod will have."""
    items = lab.objects("pods", "--selector", "app=shop")["items"]
    return {pod["metadata"]["uid"] for pod in items if "deletionTimestamp" not in pod["metadata"]}


def shop(image: str) -> list[dict[str, Any]]:
    """Two pods, of which a budget keeps one."""
    labels = {"app": "shop"}
    container = {
        "name": "shop",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["/coredns", "-dns.port=1053"],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "shop"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
    ]


def began(lab: Lab, node: str, unit: str) -> float:
    """When a service was started, in seconds; the machines' clocks are one."""
    shown = f"systemctl show --property ExecMainStartTimestamp --value {unit}"
    return float(lab.on(node, f'date --date "$({shown})" +%s.%N'))


@pytest.fixture(scope="module")
def writer(lab: Lab) -> ConfigMapWriter:
    lab.kubectl("create", "secret", "generic", "kept", "--from-literal", "word=here")
    (dns,) = lab.objects("deployments", "--selector", "k8s-app=kube-dns", "-A")["items"]
    image = dns["spec"]["template"]["spec"]["containers"][0]["image"]
    file = lab.folder / "shop.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": shop(image)}))
    lab.kubectl("apply", "--filename", str(file))
    lab.kubectl("rollout", "status", "deployment/shop", "--timeout=900s")
    return ConfigMapWriter(Person(lab, "writer").creates)


@pytest.mark.parametrize(
    ("old", "new"), [*itertools.pairwise(STAGES)], ids=lambda row: row.kubernetes
)
def test_all_of_it_is_upgraded_in_order_and_pods_move_node_by_node(
    lab: Lab,
    writer: ConfigMapWriter,
    record_property: Callable[[str, object], None],
    old: Versions,
    new: Versions,
) -> None:
    assert (kubelets(lab), etcd(lab)) == ({f"v{old.kubernetes}"}, old.etcd)
    before = pods(lab)
    lab.describe({**CLUSTER, "kubernetes": new.kubernetes})
    preview = lab.hardway("preview", "--live").stdout
    assert new.kubernetes in preview
    assert f"{MASTER} and {MINION} give their pods to other nodes, 1 at a time" in preview
    acknowledged, refused = len(writer.acknowledged), writer.refused
    start = time.monotonic()
    with meanwhile(writer.write):
        lab.hardway("up")
    outcome = {
        "seconds": round(time.monotonic() - start),
        "acknowledged": len(writer.acknowledged) - acknowledged,
        "refused": writer.refused - refused,
    }
    record_property("outcome", json.dumps(outcome))
    print(json.dumps(outcome))
    lab.hardway("validate", "--wait", "1200")
    assert not writer.lost(lab)
    assert (kubelets(lab), etcd(lab)) == ({f"v{new.kubernetes}"}, new.etcd)
    lab.kubectl("rollout", "status", "deployment/shop", "--timeout=900s")
    assert not pods(lab) & before, "each node was empty once"
    for node in lab.objects("nodes")["items"]:
        assert "unschedulable" not in node["spec"]
        assert roll.ROLLING not in node["metadata"].get("annotations", {})
    tickets = lab.objects("configmap", roll.NAME, "--namespace", roll.NAMESPACE)
    assert not tickets.get("data")
    assert lab.objects("secret", "kept")["data"]["word"] == "aGVyZQ=="
    serves = began(lab, MASTER, "kube-apiserver")
    assert began(lab, MASTER, "etcd") < serves
    for node in (MASTER, MINION):
        assert serves < began(lab, node, "kubelet")
    lab.pulumi("preview", "--expect-no-changes")
