"""A cluster of the minor version before is brought to the default one; what runs on it goes on."""

from collections.abc import Iterator

import pytest

from spec.versions import catalogue
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

NEW = catalogue()[0]
OLD = next(row for row in catalogue() if row.kubernetes == "1.36.3")
"""Has another etcd as well, and a recipe for those who cannot download it."""
MASTER, MINION = "master", "minion1"

CLUSTER = {
    "kubernetes": OLD.kubernetes,
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


def pods(lab: Lab) -> dict[str, int]:
    """A pod's own number to how often its containers were started again."""
    return {
        pod["metadata"]["uid"]: sum(
            container["restartCount"] for container in pod["status"]["containerStatuses"]
        )
        for pod in lab.objects("pods", "--all-namespaces")["items"]
    }


def began(lab: Lab, node: str, unit: str) -> float:
    """When a service was started, in seconds; the machines' clocks are one."""
    shown = f"systemctl show --property ExecMainStartTimestamp --value {unit}"
    return float(lab.on(node, f'date --date "$({shown})" +%s.%N'))


def test_all_of_it_is_upgraded_in_order_and_what_runs_goes_on(lab: Lab) -> None:
    assert (kubelets(lab), etcd(lab)) == ({f"v{OLD.kubernetes}"}, OLD.etcd)
    lab.kubectl("create", "secret", "generic", "kept", "--from-literal", "word=here")
    before = pods(lab)
    assert len(before) >= 2
    lab.describe({**CLUSTER, "kubernetes": NEW.kubernetes})
    preview = lab.hardway("preview", "--live").stdout
    assert NEW.kubernetes in preview
    lab.hardway("up")
    lab.hardway("validate", "--wait", "1200")
    assert (kubelets(lab), etcd(lab)) == ({f"v{NEW.kubernetes}"}, NEW.etcd)
    assert pods(lab) == before
    assert lab.objects("secret", "kept")["data"]["word"] == "aGVyZQ=="
    serves = began(lab, MASTER, "kube-apiserver")
    assert began(lab, MASTER, "etcd") < serves
    for node in (MASTER, MINION):
        assert serves < began(lab, node, "kubelet")
    lab.pulumi("preview", "--expect-no-changes")
