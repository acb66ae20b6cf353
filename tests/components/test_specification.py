"""A change that a living cluster cannot take is refused when the engine checks it."""

from typing import Any

import pytest
import yaml

from components.specification import SpecificationProvider, written
from spec.cluster import parse
from tests.plan.golden import GOLDEN, NAMES

ONE: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "minion1": {"address": "192.168.1.11"},
    },
}


def failures(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = ({"spec": written(parse(value, name="dev"))} for value in (before, after))
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
    new = {"spec": written(parse(ONE, name="dev"))}
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
            "etcd's members are master and cannot become minion1",
        ),
    ],
)
def test_what_would_break_it_is_told(changed: dict[str, Any], sentence: str) -> None:
    told = failures(ONE, {**ONE, **changed})
    assert any(sentence in one for one in told), told
