"""A cluster in several places: libvirt on two hosts and machines that exist, on routed networks."""

import json
from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml

from components.specification import SpecificationProvider
from hypervisors.adapters import kept_up
from hypervisors.existing.resources import MACHINE
from hypervisors.libvirt.resources import DOMAIN, NETWORK
from plan.cluster import cluster_plan
from plan.web_proxy import direct
from preview.change import Verb
from preview.registration import SIGNATURE, Registration
from spec.change import refused_changes
from spec.cluster import ArtifactSource, Cluster, parse
from spec.hypervisor import Libvirt
from spec.kept import described, kept, read
from spec.offer import Offer, with_offer
from tests import declared as programs
from tests.plan.golden import digests
from tests.preview.recorded import changed
from tests.spec.sentences import check

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg0sCyZ7Uo1qb0P5ZQ8yq0m1p8y5l1Zq1p8Q0m1p8y5"
NEAR = {"uri": "qemu:///system", "image": "base"}
FAR = {"uri": "qemu+ssh://admin@hv2.example.org/system?keyfile=/keys/hv2", "image": "base"}
RACK = {"kind": "existing", "user": "admin", "host_keys": {"10.2.0.10": KEY}}

CLUSTER: dict[str, Any] = {
    "hypervisor": NEAR,
    "networks": {"machines": ["192.168.1.0/24", "10.1.0.0/16", "10.2.0.0/24"], "routed": True},
    "proxy": {"http": "http://proxy.example.org:3128"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "near": {"address": "192.168.1.11"},
        "far1": {"address": "10.1.7.11", "hypervisor": FAR},
        "far2": {"address": "10.1.7.12", "hypervisor": FAR},
        "rack1": {"address": "10.2.0.10", "hypervisor": RACK},
    },
}

OFFER = Offer(
    hypervisor=Libvirt(uri="qemu:///session", image="offered"),
    artifacts=ArtifactSource(digests=digests(None)),
    name_servers=(IPv4Address("192.0.2.1"),),
)


def with_machines(**machines: Any) -> dict[str, Any]:
    every = {name: it for name, it in {**CLUSTER["machines"], **machines}.items() if it}
    return {**CLUSTER, "machines": every}


def declared(value: dict[str, Any] = CLUSTER) -> tuple[Registration, ...]:
    return programs.registrations(programs.declared(value))


def named(every: tuple[Registration, ...], kind: str) -> dict[str, Registration]:
    return {resource.name: resource for resource in every if resource.kind == kind}


def test_each_machine_is_declared_in_its_place() -> None:
    every = declared()
    uris = {name: it.inputs["uri"] for name, it in named(every, "pulumi:providers:libvirt").items()}
    assert uris == {
        "libvirt": NEAR["uri"],
        "libvirt-hv2.example.org": f"{FAR['uri']}&sshauth=privkey",
    }
    domains = named(every, DOMAIN)
    assert {name: domain.provider for name, domain in domains.items()} == {
        **dict.fromkeys(("master", "near"), "libvirt"),
        **dict.fromkeys(("far1", "far2"), "libvirt-hv2.example.org"),
    }
    assert named(every, MACHINE).keys() == {"rack1"}
    commands = [it for it in every if it.kind == "command:remote:Command"]
    assert {command.deleted_with for command in commands} == {*CLUSTER["machines"]}
    users = {
        it.deleted_with: (connection["host"], connection["user"])
        for it in commands
        for connection in [it.inputs["connection"]["value"]]
    }
    assert users["far1"] == ("10.1.7.11", "root")
    assert users["rack1"] == ("10.2.0.10", "admin")


def test_each_place_has_a_routed_network_of_its_own() -> None:
    networks = named(declared(), NETWORK)
    assert {name: (it.inputs["name"], it.inputs["addresses"]) for name, it in networks.items()} == {
        "network": ("dev", ["192.168.1.0/24"]),
        "network-hv2.example.org-10.1.0.0-16": ("dev-hv2.example.org-10.1.0.0-16", ["10.1.0.0/16"]),
    }
    assert {it.inputs["mode"] for it in networks.values()} == {"route"}


def test_one_subnet_behind_nat_is_what_it_was() -> None:
    value = {
        "hypervisor": NEAR,
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {"master": {"address": "192.168.1.10", "roles": "ai"}},
    }
    (network,) = named(declared(value), NETWORK).values()
    assert (network.name, network.inputs["name"]) == ("network", "dev")
    assert (network.inputs["mode"], network.parent) == ("nat", "machines")
    inputs = kept(parse(value, name="dev"))
    assert yaml.safe_load(inputs["spec"])["networks"]["machines"] == "192.168.1.0/24"
    assert "hypervisors" not in inputs


def test_a_machine_leaves_by_the_gateway_of_its_own_subnet() -> None:
    seeds = named(declared(), "libvirt:index/cloudInitDisk:CloudInitDisk")
    primary = {
        name: yaml.safe_load(seed.inputs["networkConfig"])["ethernets"]["primary"]
        for name, seed in seeds.items()
    }
    assert primary["master-seed"]["addresses"] == ["192.168.1.10/24"]
    assert primary["master-seed"]["routes"][0]["via"] == "192.168.1.1"
    assert primary["far1-seed"]["addresses"] == ["10.1.7.11/16"]
    assert primary["far1-seed"]["routes"][0]["via"] == "10.1.0.1"


def test_every_subnet_is_asked_without_the_proxy() -> None:
    asked = direct(parse(CLUSTER, name="dev"))
    assert {"192.168.1.1", "10.1.0.1", "192.168.1.0/24", "10.1.0.0/16", "10.2.0.0/24"} <= {*asked}


def test_flannel_is_told_each_nodes_own_address() -> None:
    spec = parse(CLUSTER, name="dev")
    plan = cluster_plan(with_offer(spec, OFFER))
    for name in spec.nodes:
        (unit,) = (
            u for s in plan.nodes[name].steps for u in s.units if u.name == "flanneld.service"
        )
        assert unit.flags["iface"] == str(spec.machines[name].address)


def test_the_upkeep_of_each_place_has_its_own_machines() -> None:
    spec = parse(CLUSTER, name="dev")
    groups = [names for _, names in kept_up(spec, spec.machines)]
    assert groups == [["master", "near"], ["far1", "far2"], ["rack1"]]


def test_an_offer_is_for_the_machines_that_are_left_to_it() -> None:
    value = {key: item for key, item in CLUSTER.items() if key != "hypervisor"}
    spec = parse(value, name="dev")
    assert spec.in_lab == ("master", "near")
    assert spec.networks_in_lab == {"dev": spec.networks.machines[0]}
    whole = with_offer(spec, OFFER)
    assert whole.hypervisor_of("master") == OFFER.hypervisor
    assert whole.hypervisor_of("far1") == spec.hypervisor_of("far1")
    assert whole.networks.name_servers == (), "the rack keeps its own"


# -- changes ---------------------------------------------------------------------------------------


def failures(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = (kept(parse(value, name="dev")) for value in (before, after))
    return [failure.reason for failure in SpecificationProvider().check(old, new).failures]


def became(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Verb]:
    every, refused = changed({"name": "dev", **before}, {"name": "dev", **after})
    assert not refused
    return {change.name: change.verb for change in every}


def subnets(*machines: str) -> dict[str, Any]:
    return {"networks": {"machines": [*machines], "routed": True}}


def test_the_state_keeps_where_each_machine_is() -> None:
    spec = parse(CLUSTER, name="dev")
    again = read(kept(spec))
    assert again == spec
    assert described(kept(spec)).machines == spec.machines


def test_what_only_existing_machines_may_have_is_read_again() -> None:
    keys = {"11.1.0.10": KEY, "12.1.0.10": KEY}
    value = {
        "hypervisor": {"kind": "existing", "host_keys": keys},
        "networks": {"machines": ["11.1.0.0/24", "12.1.0.0/24"]},
        "machines": {
            "a": {"address": "11.1.0.10", "roles": "ai"},
            "b": {"address": "12.1.0.10"},
        },
    }
    spec = parse(value, name="dev")
    assert described(kept(spec)).networks == spec.networks


def test_a_rack_joins_a_living_cluster_and_leaves_it() -> None:
    before = with_machines(rack1=None) | subnets("192.168.1.0/24", "10.1.0.0/16")
    assert not failures(before, CLUSTER)
    assert not failures(CLUSTER, before)
    verbs = became(before, CLUSTER)
    assert verbs["rack1"] is Verb.CREATE
    assert {verbs[name] for name in ("master", "far1", "network", "libvirt")} == {Verb.SAME}


MOVED = {**CLUSTER["machines"]["far1"], "hypervisor": {**FAR, "pool": "fast"}}

# what becomes of the cluster; where the only sentence begins; words of it
CHANGES: list[tuple[dict[str, Any], str, str]] = [
    (
        subnets("10.1.0.0/16", "192.168.1.0/24", "10.2.0.0/24"),
        "networks.machines is 192.168.1.0/24, 10.1.0.0/16 and 10.2.0.0/24 and cannot become",
        "with other subnets behind it",
    ),
    (
        subnets("192.168.1.0/24", "10.1.0.0/20", "10.2.0.0/24"),
        "networks.machines is",
        "the network that they were given at their first boot",
    ),
    (
        with_machines(far2=None, far1=MOVED),
        "machines.far1.hypervisor is the pool default of",
        "another machine of the same name",
    ),
]


@pytest.mark.parametrize(("more", "begins", "phrase"), CHANGES)
def test_a_machine_stays_where_it_is(more: dict[str, Any], begins: str, phrase: str) -> None:
    (sentence,) = failures(CLUSTER, {**CLUSTER, **more})
    assert sentence.startswith(begins)
    assert phrase in sentence
    check(sentence)


def test_nat_does_not_become_routed_under_living_machines() -> None:
    def alone(*, routed: bool) -> Cluster:
        value = {
            "networks": {"machines": "192.168.1.0/24", "routed": routed},
            "machines": {"master": {"address": "192.168.1.10", "roles": "ai"}},
        }
        return parse(value, name="dev")

    assert refused_changes(alone(routed=False), alone(routed=False)) == ()
    (sentence,) = refused_changes(alone(routed=False), alone(routed=True))
    assert sentence.startswith("networks.routed is False and cannot become True")
    check(sentence)


def test_a_user_or_a_transport_of_libvirt_may_change() -> None:
    by_tls = {**FAR, "uri": "qemu+tls://hv2.example.org/system"}
    machines = {
        name: {**CLUSTER["machines"][name], "hypervisor": by_tls} for name in ("far1", "far2")
    }
    value = with_machines(**machines)
    assert not failures(CLUSTER, value)
    verbs = became(CLUSTER, value)
    assert {verbs[name] for name in ("far1", "far1-disk", "far1-node")} == {Verb.SAME}


def test_secrets_of_a_rack_stay_secrets() -> None:
    rack = named(declared(), MACHINE)["rack1"]
    assert SIGNATURE in rack.inputs["privateKey"]
    assert "PRIVATE" not in json.dumps(kept(parse(CLUSTER, name="dev")))
