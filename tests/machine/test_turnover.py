"""All authorities of a master and a minion turn over, and back once, update by update."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plan import layout
from tests.machine.drift import starts
from tests.machine.lab import Lab, at_length, brought_up, meanwhile
from tests.machine.people import Person
from tests.plan.test_authorities import in_pem

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400), at_length]

MASTER, MINION = "master", "minion1"
CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        MASTER: {"address": "192.168.1.10", "roles": "ai", "cpus": 2},
        MINION: {"address": "192.168.1.11"},
    },
    "addons": {"metrics_server": True},
}
ALL = ("kubernetes", "etcd", "front_proxy")
SERVICES = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("containerd", "kubelet", "kube-proxy", "flanneld"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtturn", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def pods(lab: Lab) -> dict[str, str]:
    """The pods' unique numbers, by what they run."""
    items = lab.objects("pods", "--all-namespaces")["items"]
    return {item["metadata"]["uid"]: item["metadata"]["name"] for item in items}


def test_each_update_shows_what_it_does_and_the_cluster_serves_all_the_time(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    lab.hardway("validate", "--wait", "1200")
    first = Person(lab, "first")
    person = first
    for stage, (numbers, phrase) in enumerate(
        (
            ((1, 2), "number 2 is trusted as well"),
            ((2, 1), "number 2 signs in place of 1"),
            ((1, 2), "number 1 signs in place of 2"),
            ((2, 1), "number 2 signs in place of 1"),
            ((2,), "number 1 is not trusted any more"),
        )
    ):
        before = of_machines(lab), pods(lab)
        lab.describe({**CLUSTER, "authorities": {key: [*numbers] for key in ALL}})
        shown = lab.hardway("preview", "--live").stdout
        assert phrase in shown
        assert "PRIVATE KEY" not in shown
        began, answers = time.monotonic(), person.answers
        with meanwhile(person.ask):
            lab.hardway("up")
            lab.hardway("validate", "--wait", "1200")
        assert person.answers > answers, "the kubeconfig of before is good for this update"
        lab.pulumi("preview", "--expect-no-changes")
        after = of_machines(lab), pods(lab)
        anew = sorted(after[1][uid] for uid in after[1].keys() - before[1].keys())
        restarted = {
            name: sorted(unit for unit, start in units.items() if before[0][name][unit] != start)
            for name, units in after[0].items()
        }
        outcome = {
            "seconds": round(time.monotonic() - began),
            "answers": person.answers,
            "longest without": round(person.longest, 1),
            "restarted": restarted,
            "pods anew": anew,
        }
        record_property(f"{stage} {numbers}", json.dumps(outcome))
        if {*numbers} == {1, 2} and stage:
            assert not anew, "no pod starts where only another one signs"
        assert lab.kubectl("top", "nodes").count("\n") == 3
        person = Person(lab, f"after-{stage}")
        assert person.asks("get", "nodes").returncode == 0
    # What the first one signed is refused by an API server that it knows.
    first.trust(person)
    refused = first.asks("get", "nodes")
    assert "must be logged in" in refused.stderr, refused
    for name in CLUSTER["machines"]:
        assert in_pem(lab.on(name, f"cat {layout.AUTHORITY}")) == ["kubernetes-ca-2"]
    lab.hardway("drift")


def of_machines(lab: Lab) -> dict[str, dict[str, str]]:
    """Machine and service to a number that changes with every start."""
    return {name: starts(lab, name, SERVICES) for name in CLUSTER["machines"]}
