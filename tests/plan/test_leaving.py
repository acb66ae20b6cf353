"""Of a machine that stays, nothing is left behind that its plan no longer has."""

from typing import Any

import pytest

from plan import leaving
from spec.cluster import Cluster, parse
from spec.versions import catalogue
from tests.declared import described
from tests.plan.golden import NAMES
from tests.spec.sentences import check

FLOATING = {"kind": "virtual-ip", "address": "192.168.1.5"}
BALANCED = {"kind": "balancer", "host": "api.example.org"}
THREE = {"a": "eai", "b": "eai", "c": "eai", "m": "i"}
APART = {"a": "a", "b": "a", "e": "e", "m": "i", "n": "i"}


def left_behind(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """What is refused where the machines have no lists yet."""
    return leaving.left_behind(before, after, lists=False)


def spec(roles: dict[str, str], endpoint: dict[str, str] | None = FLOATING) -> Cluster:
    machines = {
        name: {"address": f"192.168.1.{10 + ord(name) - ord('a')}", "roles": letters}
        for name, letters in roles.items()
    }
    value: dict[str, Any] = {"networks": {"machines": "192.168.1.0/24"}, "machines": machines}
    return parse({**value, "endpoint": endpoint} if endpoint else value, name="dev")


def test_a_control_plane_that_becomes_a_node_would_keep_the_clusters_keys() -> None:
    (sentence,) = left_behind(spec(THREE), spec({**THREE, "c": "ei"}))
    check(sentence)
    assert sentence.startswith("machines.c would keep kube-apiserver.service, ")
    assert "/etc/kubernetes/" in sentence
    (sentence,) = left_behind(
        spec(THREE, BALANCED), spec({**THREE, "b": "ei", "c": "ei"}, BALANCED)
    )
    assert sentence.startswith("machines.b would beside c keep kube-apiserver.service, ")


@pytest.mark.parametrize(
    ("before", "after", "thing"),
    [
        ({**APART, "x": "ei"}, {**APART, "x": "e"}, "containerd.service"),
        ({**APART, "x": "ei"}, {**APART, "x": "i"}, "etcd.service"),
    ],
)
def test_a_role_that_leaves_a_machine_leaves_its_services(
    before: dict[str, str], after: dict[str, str], thing: str
) -> None:
    (sentence,) = left_behind(*(spec(_odd(roles)) for roles in (before, after)))
    check(sentence)
    assert sentence.startswith("machines.x would keep ")
    assert thing in sentence


def _odd(roles: dict[str, str]) -> dict[str, str]:
    """With one more member of etcd where their number is even."""
    members = sum("e" in letters for letters in roles.values())
    return roles if members % 2 else {**roles, "z": "e"}


def test_another_endpoint_would_leave_balancers_and_the_virtual_address() -> None:
    sentences = left_behind(spec(APART), spec(APART, BALANCED))
    for sentence in sentences:
        check(sentence)
    planes, nodes = sorted(sentences)
    assert planes.startswith("machines.a would beside b keep keepalived.service, which")
    assert nodes.startswith("machines.m would beside n keep haproxy.service, which")
    alone = {name: roles for name, roles in APART.items() if name != "b"}
    (sentence,) = left_behind(spec(APART), spec(alone))
    assert "haproxy.service" in sentence


def test_machines_come_and_go() -> None:
    for name in ("m", "n", "b"):
        less = {machine: letters for machine, letters in APART.items() if machine != name}
        more = {**less, "x": "i", "y": "a"}
        assert left_behind(spec(APART), spec({**less, "y": "a"})) == ()
        assert left_behind(spec({**less, "y": "a"}), spec(more)) == ()
    assert left_behind(spec({"a": "ai"}, None), spec({"a": "ai", "b": "a", "c": "a"})) == ()


@pytest.mark.parametrize("name", NAMES)
def test_versions_and_settings_leave_nothing_behind(name: str) -> None:
    value = described(name)
    changes: list[dict[str, Any]] = [
        *({"kubernetes": row.kubernetes} for row in catalogue()),
        {"proxy_mode": "iptables"},
        {"addons": {"coredns": False}},
        {"flannel": {**value.get("flannel", {}), "backend": "host-gw", "vni": 7, "port": 4789}},
        {"artifacts": {"mirror": "http://192.0.2.1"}},
    ]
    spec = parse(value, name=name)
    for changed in (parse({**value, **change}, name=name) for change in changes):
        assert left_behind(spec, changed) == ()
        assert left_behind(changed, spec) == ()


# -- where the machines have lists -----------------------------------------------------------------


def test_roles_and_balancers_may_leave_machines_that_have_lists() -> None:
    for before, after in (
        (spec(THREE), spec({**THREE, "c": "ei"})),
        (spec(APART), spec(APART, BALANCED)),
        (spec(_odd({**APART, "x": "ei"})), spec(_odd({**APART, "x": "e"}))),
    ):
        assert left_behind(before, after)
        assert leaving.left_behind(before, after, lists=True) == ()


def test_a_member_of_etcd_leaves_a_machine_that_has_lists() -> None:
    before, after = spec(_odd({**APART, "x": "ei"})), spec(_odd({**APART, "x": "i"}))
    (sentence,) = left_behind(before, after)
    check(sentence)
    assert "etcd.service" in sentence
    assert leaving.left_behind(before, after, lists=True) == ()


def test_a_role_does_not_leave_a_machine_that_is_made_anew_around_its_disk() -> None:
    before, after = spec(THREE), spec({**THREE, "c": "ei"})
    larger = after.machines["c"].model_copy(update={"memory": 8192})
    after = after.model_copy(update={"machines": {**after.machines, "c": larger}})
    (sentence,) = leaving.left_behind(before, after, lists=True)
    check(sentence)
    assert "size" in sentence
