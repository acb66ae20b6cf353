"""What a good spec says, and what follows from it."""

from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lab.paths import PROJECT
from plan import layout
from spec.cluster import (
    API_PORT,
    Balancer,
    Cluster,
    Machine,
    Networks,
    Role,
    SpecError,
    mac_address,
    parse,
)
from spec.hypervisor import Libvirt
from spec.network import RESERVED_PORTS

GOOD: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "m1": {"address": "192.168.1.11"},
    },
}


def test_a_good_spec_has_its_defaults_and_the_stacks_name() -> None:
    cluster = parse(GOOD, name="dev")
    assert cluster.name == "dev"
    assert cluster.versions.kubernetes == "1.37.1"
    assert cluster.networks.gateways == (IPv4Address("192.168.1.1"),)
    assert cluster.networks.api_service == IPv4Address("192.168.3.1")
    assert cluster.networks.dns_service == IPv4Address("192.168.3.10")
    assert cluster.machines["master"].memory == 2048
    assert cluster.machines["m1"].roles == {Role.MINION}
    assert cluster.api_url == "https://192.168.1.10:6443"
    assert parse({**GOOD, "name": "own"}, name="dev").name == "own"


def test_a_cluster_can_be_made_without_parse_and_is_checked_all_the_same() -> None:
    networks = Networks.model_validate(GOOD["networks"])
    machine = Machine(address=IPv4Address("192.168.1.10"), roles=frozenset(Role))
    cluster = Cluster(name="dev", networks=networks, machines={"master": machine})
    assert cluster.etcd_members == ("master",)
    assert cluster == parse(
        {
            "networks": GOOD["networks"],
            "machines": {"master": {"address": "192.168.1.10", "roles": "aie"}},
        },
        name="dev",
    )
    with pytest.raises(ValidationError, match="write name: dev"):
        Cluster(name="Dev", networks=networks, machines={"master": machine})


def test_a_parsed_cluster_cannot_be_changed() -> None:
    cluster = parse(GOOD, name="dev")
    with pytest.raises(ValidationError):
        cluster.name = "other"
    assert isinstance(cluster, Cluster)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a", {Role.CONTROL_PLANE}),
        ("i", {Role.MINION}),
        ("ai", {Role.CONTROL_PLANE, Role.MINION}),
        ("eai", set(Role)),
        (["etcd", "control-plane"], {Role.ETCD, Role.CONTROL_PLANE}),
    ],
)
def test_roles_are_words_or_the_old_letters(written: Any, meant: set[Role]) -> None:
    machine = Machine.model_validate({"address": "192.168.1.10", "roles": written})
    assert machine.roles == meant


def test_the_only_machine_does_everything_unless_it_says_otherwise() -> None:
    alone = {**GOOD, "machines": {"one": {"address": "192.168.1.10"}}}
    cluster = parse(alone, name="dev")
    assert cluster.control_planes == cluster.etcd_members == cluster.nodes == ("one",)
    assert cluster.machines["one"].roles == {Role.CONTROL_PLANE, Role.MINION}


def test_a_hypervisor_without_a_kind_is_a_libvirt() -> None:
    where = {"uri": "qemu:///system", "image": "base"}
    cluster = parse({**GOOD, "hypervisor": where}, name="dev")
    assert cluster.hypervisor == Libvirt(uri="qemu:///system", image="base")


def test_members_apart_are_no_nodes_and_control_planes_are() -> None:
    machines = {
        name: {"address": f"192.168.1.{number}", "roles": roles}
        for number, (name, roles) in enumerate({"c": "a", "e": "e", "m": "i"}.items(), 20)
    }
    endpoint = {"kind": "balancer", "host": "api.example.org"}
    cluster = parse({**GOOD, "machines": machines, "endpoint": endpoint}, name="dev")
    assert cluster.etcd_members == ("e",)
    assert cluster.nodes == ("c", "m")
    assert isinstance(cluster.endpoint, Balancer)
    assert cluster.api_url == "https://api.example.org:6443"


def test_a_mac_address_is_unicast_and_differs_by_cluster_and_address() -> None:
    addresses = [IPv4Address("192.168.1.10") + number for number in range(200)]
    macs = {mac_address(cluster, address) for cluster in ("dev", "test") for address in addresses}
    assert len(macs) == 400
    for mac in macs:
        assert int(mac.split(":")[0], 16) & 1 == 0
        assert len(bytes.fromhex(mac.replace(":", ""))) == 6


def test_the_default_stack_is_good() -> None:
    stack = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text())
    parse(stack["config"]["hardway:cluster"], name="dev")


def test_the_ports_of_the_plan_are_reserved() -> None:
    for port in (
        API_PORT,
        layout.LOCAL_BALANCER_PORT,
        layout.ETCD_CLIENT_PORT,
        layout.ETCD_PEER_PORT,
        layout.ETCD_METRICS_PORT,
    ):
        assert port in RESERVED_PORTS


def test_five_hundred_machines_are_read_in_under_a_second(benchmark_clock: Any) -> None:
    machines = {
        f"m{number}": {"address": f"10.1.{number // 200 + 1}.{number % 200 + 1}"}
        for number in range(500)
    }
    machines["m0"]["roles"] = "ai"
    value = {"networks": {"machines": "10.1.0.0/16", "pods": "10.64.0.0/12"}, "machines": machines}
    assert benchmark_clock(lambda: parse(value, name="large")) < 1


@pytest.fixture
def benchmark_clock() -> Any:
    from time import process_time

    def clock(work: Any) -> float:
        started = process_time()
        work()
        return process_time() - started

    return clock


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"networks": {"machines": "x"}, "machines": {"m": {}}}, name="Dev!")
    assert len(str(caught.value).splitlines()) == 3
