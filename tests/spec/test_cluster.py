"""A spec is refused in sentences that say what to write instead."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from spec.cluster import SpecError, parse

GOOD: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": {"address": "192.168.1.10"}, "m1": {"address": "192.168.1.11"}},
}


def test_a_good_spec_has_its_defaults_and_the_stacks_name() -> None:
    cluster = parse(GOOD, name="dev")
    assert cluster.name == "dev"
    assert cluster.networks.gateway == IPv4Address("192.168.1.1")
    assert cluster.machines["master"].memory == 2048
    assert parse({**GOOD, "name": "own"}, name="dev").name == "own"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"machines": {"m": {"address": "10.0.0.1"}}}, "outside networks.machines"),
        ({"machines": {"m": {"address": "192.168.1.1"}}}, "used by the gateway"),
        ({"machines": {"m": {"address": "192.168.1.255"}}}, "reserved by the network"),
        (
            {"machines": {"a": {"address": "192.168.1.9"}, "b": {"address": "192.168.1.9"}}},
            "already used by a",
        ),
        ({"machines": {"Master": {"address": "192.168.1.9"}}}, "machines.Master"),
        ({"machines": {}}, "machines: .*at least 1"),
        ({"machines": {"m": {"address": "192.168.1.9", "memory": 1}}}, "machines.m.memory"),
        ({"machines": {"m": {"address": "192.168.1.9", "ram": 1}}}, "machines.m.ram"),
        (
            {"networks": {"machines": "192.168.1.7/24"}},
            "networks.machines: .*not a valid IPv4 network",
        ),
        ({"base_image": {"source": "a.img"}}, "base_image.*write the sha256"),
        ({"base_image": {"source": "a.img", "sha256": "12"}}, r"base_image\.sha256"),
        ({"hypervisor": {"kind": "libvirt"}}, "hypervisor.uri"),
    ],
)
def test_a_mistake_names_its_field(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        parse({**GOOD, **change}, name="dev")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"networks": {"machines": "x"}, "machines": {"m": {}}}, name="Dev!")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("value", [None, [], "text"])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match="must be a mapping"):
        parse(value, name="dev")
