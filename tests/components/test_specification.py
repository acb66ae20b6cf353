"""A change that a living cluster cannot take is refused when the engine checks it."""

from functools import reduce
from operator import getitem
from typing import Any

import pytest
import yaml

from components.specification import SpecificationProvider
from spec.cluster import parse
from spec.hypervisor import Existing, Libvirt
from spec.kept import FOUNDERS, JOINING, LISTS, kept, read, written
from tests.plan.golden import GOLDEN, NAMES

LIBVIRT = {"uri": "qemu:///system", "image": "base"}
ONE: dict[str, Any] = {
    "hypervisor": LIBVIRT,
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "minion1": {"address": "192.168.1.11"},
    },
}


def failures(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = (kept(parse(value, name="dev")) for value in (before, after))
    return [failure.reason for failure in SpecificationProvider().check(old, new).failures]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_the_same_spec_again_and_the_same_text(name: str) -> None:
    spec = parse(yaml.safe_load((GOLDEN / name / "spec.yaml").read_text()), name=name)
    text = written(spec)
    again = parse(yaml.safe_load(text), name="")
    assert written(again) == text
    assert again.machines.keys() == spec.machines.keys()
    assert (again.nodes, again.etcd_members, again.versions, again.networks) == (
        spec.nodes,
        spec.etcd_members,
        spec.versions,
        spec.networks,
    )


def test_the_first_spec_and_an_unchanged_one_are_taken() -> None:
    new = kept(parse(ONE, name="dev"))
    assert not SpecificationProvider().check({}, new).failures
    assert not failures(ONE, ONE)


def test_minions_come_and_go() -> None:
    fewer = {**ONE, "machines": {"master": ONE["machines"]["master"]}}
    assert not failures(ONE, fewer)
    assert not failures(fewer, ONE)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"dns_domain": "other.test"}, "dns_domain is cluster.local and cannot become other.test"),
        ({"kubernetes": "1.35.4"}, "kubernetes 1.35.4 is an older minor version"),
        (
            {
                "machines": {
                    **ONE["machines"],
                    "minion1": {"address": "192.168.1.11", "roles": "ei"},
                }
            },
            "machines.minion1.roles would leave none of etcd's members master",
        ),
        (
            {"machines": {**ONE["machines"], "minion1": {"address": "192.168.1.11", "disk": 8}}},
            "machines.minion1.disk is 10 GiB and cannot become 8",
        ),
        ({"hypervisor": {**LIBVIRT, "pool": "other"}}, "hypervisor.pool is default and cannot"),
    ],
)
def test_what_would_break_it_is_told(changed: dict[str, Any], sentence: str) -> None:
    reasons = failures(ONE, {**ONE, **changed})
    assert any(sentence in reason for reason in reasons), reasons


def test_a_role_leaves_only_machines_that_have_lists() -> None:
    machines = {
        **{f"c{number}": {"address": f"192.168.1.{number}", "roles": "ea"} for number in (2, 3, 4)},
        "minion": {"address": "192.168.1.20"},
    }
    endpoint = {"kind": "balancer", "host": "api.example.org"}
    before = {**ONE, "machines": machines, "endpoint": endpoint}
    moved = {**before, "machines": {**machines, "c2": {"address": "192.168.1.2", "roles": "ei"}}}
    old, new = (kept(parse(value, name="dev")) for value in (before, moved))
    without_lists = {key: value for key, value in old.items() if key != LISTS}
    (failure,) = SpecificationProvider().check(without_lists, new).failures
    assert failure.reason.startswith("machines.c2 would keep kube-apiserver.service")
    assert failures(before, moved) == []
    (refusal,) = failures(ONE, {**ONE, "runtime": "docker"})
    assert refusal.startswith("runtime is")


BALANCED: dict[str, Any] = {**ONE, "endpoint": {"kind": "balancer", "host": "api.example.org"}}


def members(names: str, generation: int = 1) -> dict[str, str]:
    """What is kept of a cluster with these members of etcd, each a letter."""
    machines = {
        name: {"address": f"192.168.1.{ord(name)}", "roles": "e" if name in names else "i"}
        for name in "abcdefg"
    }
    value = {**BALANCED, "machines": {**ONE["machines"], **machines}}
    return kept(parse({**value, "etcd": {"generation": generation}}, name="dev"))


def test_whoever_comes_to_a_living_etcd_begins_no_cluster() -> None:
    """However often the spec changes or is checked, until all of them begin a new generation."""
    state: dict[str, Any] = {}
    for names, generation, expected in (
        ("a", 1, "a"),
        ("abc", 1, "a"),
        ("abc", 1, "a"),
        ("abcde", 1, "a"),
        ("bde", 1, ""),
        ("abd", 1, ""),
        ("abd", 2, "a b d"),
        ("abd", 2, "a b d"),
        ("abe", 2, "a b"),
        ("abd", 2, "a b"),
    ):
        result = SpecificationProvider().check(state, members(names, generation))
        assert not result.failures
        state = result.inputs
        assert state[FOUNDERS] == expected
    # A state of before there was a note: its members began the cluster.
    older = {key: value for key, value in members("abc").items() if key != FOUNDERS}
    result = SpecificationProvider().check(older, members("abd"))
    assert result.inputs[FOUNDERS] == "a b"


def test_members_join_where_others_stay() -> None:
    state = members("abc")
    for names, generation, expected in (
        ("abd", 1, "d"),
        ("abd", 1, ""),
        ("bef", 1, "e f"),
        ("xyz", 1, ""),  # nobody stays who could answer for etcd meanwhile
        ("xyw", 2, ""),  # all begin anew
    ):
        result = SpecificationProvider().check(state, members(names, generation))
        state = result.inputs
        assert state[JOINING] == expected, names


def test_the_members_change_or_their_generation() -> None:
    (failure,) = SpecificationProvider().check(members("abc"), members("abd", 2)).failures
    assert "etcd.generation" in failure.reason


def test_what_an_older_program_kept_is_read_and_another_place_is_no_change() -> None:
    provider = SpecificationProvider()
    new = kept(parse(ONE, name="dev"))
    old = {"spec": new["spec"]}
    spec = read(old)
    assert spec
    assert spec.hypervisor is None
    assert not provider.check(old, new).failures
    image = {**new, "hypervisor": new["hypervisor"].replace('"base"', '"new"')}
    assert image != new
    for earlier in (old, image):
        assert not provider.diff("", earlier, new).changes
    assert provider.diff("", {**new, "spec": "name: other"}, new).changes


@pytest.mark.parametrize(
    "path", [(), ("networks",), ("machines", "master"), ("flannel",), ("endpoint",)]
)
def test_a_description_of_a_newer_program_is_kept_from_loss_as_well(path: tuple[str, ...]) -> None:
    written = {**ONE, "endpoint": {"kind": "balancer", "host": "api.example", "port": 6443}}
    old, new = (
        kept(parse(written, name="dev")),
        kept(parse({**written, "kubernetes": "1.36.4"}, name="dev")),
    )
    value = yaml.safe_load(old["spec"])
    reduce(getitem, path, value)["speed"] = 5
    old["spec"] = yaml.safe_dump(value)
    reasons = [failure.reason for failure in SpecificationProvider().check(old, new).failures]
    assert any("kubernetes 1.36.4 is an older minor" in sentence for sentence in reasons), reasons


def test_a_description_that_todays_checks_refuse_is_kept_from_loss_as_well() -> None:
    new = kept(parse(ONE, name="dev"))
    small = new["spec"].replace("memory: 2048", "memory: 64")
    assert small != new["spec"]
    old = {**new, "spec": small.replace("disk: 10", "disk: 20")}
    reasons = [failure.reason for failure in SpecificationProvider().check(old, new).failures]
    assert [reason.split()[0] for reason in reasons] == [
        "machines.master.disk",
        "machines.minion1.disk",
    ]
    for unreadable in ("machines: {}", small.replace("1.37.1", "1.1.1"), "[]", "a: b"):
        assert not SpecificationProvider().check({"spec": unreadable}, new).failures


def test_a_hypervisor_comes_back_as_it_was_kept_beside_a_base_image() -> None:
    image = {"source": "https://example.org/a.qcow2", "sha256": "0" * 64}
    value = {key: item for key, item in ONE.items() if key != "hypervisor"} | {"base_image": image}
    where = Libvirt(
        uri="qemu:///system", image="a", disk_cache="unsafe", kernel_arguments=("quiet",)
    )
    offered = parse(value, name="dev").model_copy(update={"hypervisor": where})
    again = read(kept(offered))
    assert again
    assert again.hypervisor == where
    assert again.base_image == offered.base_image
    there = Existing(kind="existing", port=2222)
    again = read(kept(offered.model_copy(update={"hypervisor": there})))
    assert again
    assert again.hypervisor == there
