"""A kind of hypervisor is an adapter, and nothing outside of it knows its resources."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pulumi
import pytest

from components import specification
from hypervisors import adapters
from hypervisors.adapters import ADAPTERS, Adapter, kept_up
from hypervisors.makers import MAKERS
from hypervisors.port import ClusterKey, Seed, Subnet
from hypervisors.upkeep import MachineSize, ResourceTypes
from ops.pulumi import disk_urns
from policy.rules import judge
from preview.change import ResourceChange, Verb
from preview.comparing import changes
from preview.registration import Registration
from spec import resource_names
from spec.cluster import Machine, parse
from spec.hypervisor import VirtualBox
from spec.kept import kept
from tests import declared as programs

BOX, DISK = "box:index:Box", "box:index:Disk"

CLUSTER: dict[str, Any] = {
    "hypervisor": {"kind": "virtualbox", "image": "/images/base.vdi"},
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 4096},
        "minion1": {"address": "192.168.1.11"},
    },
}


class Boxes:
    """A maker: a network without a resource, and a resource of its own type for each machine."""

    def __init__(self, spec: VirtualBox, parent: pulumi.Resource, label: str) -> None:
        assert label == "", "the cluster's own hypervisor has none"
        self._image = spec.image
        self._parent = parent

    def network(self, subnet: Subnet, parent: pulumi.Resource) -> pulumi.Output[str]:
        assert parent is not self._parent, "the network's own component"
        return pulumi.Output.from_input(f"{subnet.name} at {subnet.addresses}")

    def machine(
        self,
        name: str,
        spec: Machine,
        *,
        domain: str,
        network: pulumi.Input[str],
        bridge: str | None = None,
        mac: str,
        seed: Seed,
        key: ClusterKey,
        others: Sequence[ClusterKey] = (),
        parent: pulumi.Resource,
    ) -> pulumi.CustomResource:
        assert bridge is None
        assert not others
        child = pulumi.ResourceOptions(parent=parent, version="1.0.0")
        disk = pulumi.CustomResource(
            DISK,
            resource_names.part(name, resource_names.DISK),
            {"base": self._image, "size": spec.disk},
            child,
        )
        inputs = {
            "name": domain,
            "memory": spec.memory,
            "disk": disk.id,
            "network": network,
            "mac": mac,
            "user_data": seed.user_data,
            "key": key.public,
        }
        return pulumi.CustomResource(BOX, name, inputs, child)


class Care:
    """An upkeep that notes what it is asked to do."""

    asked: list[tuple[Any, ...]]

    def __init__(self, where: VirtualBox) -> None:
        assert where.image == "/images/base.vdi"

    def refuse_taken(self, domains: Iterable[str]) -> None:
        self.asked.append(("refuse_taken", list(domains)))

    def refuse_bridge(self, bridge: str, addresses: Iterable[IPv4Address]) -> None:
        self.asked.append(("refuse_bridge", bridge, sorted(addresses)))

    def grow(self, sizes: Mapping[str, int]) -> None:
        self.asked.append(("grow", dict(sizes)))

    def shut_down(self, sizes: Mapping[str, MachineSize], say: Callable[[str], None]) -> None:
        self.asked.append(("shut_down", dict(sizes)))
        say("they shut down")

    def identifier(self, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
        self.asked.append(("identifier", resource_type, inputs["name"]))
        return None


@pytest.fixture(autouse=True)
def _fourth(monkeypatch: pytest.MonkeyPatch) -> None:
    types = ResourceTypes(machine=BOX, disk=DISK, replaced_for={BOX: frozenset({"mac"})})
    monkeypatch.setattr(Care, "asked", [], raising=False)
    monkeypatch.setitem(ADAPTERS, "virtualbox", Adapter(types, Care))
    monkeypatch.setitem(MAKERS, "virtualbox", Boxes)


def declared() -> tuple[Registration, ...]:
    return programs.registrations(programs.declared(CLUSTER))


def test_a_cluster_is_declared_on_the_machines_of_another_adapter() -> None:
    every = declared()
    assert not [resource for resource in every if resource.kind.startswith("libvirt:")]
    assert {resource.name for resource in every if resource.kind == BOX} == set(CLUSTER["machines"])
    commands = [resource for resource in every if resource.kind == "command:remote:Command"]
    assert {resource.deleted_with for resource in commands} == set(CLUSTER["machines"])
    assert {resource.replacement_trigger for resource in commands} == {
        f"{BOX}/master",
        f"{BOX}/minion1",
    }
    assert judge(tuple(ResourceChange(verb=Verb.CREATE, before=None, after=o) for o in every)) == ()


def test_a_preview_knows_what_makes_its_machines_anew() -> None:
    before = declared()
    after = [
        replace(resource, inputs={**resource.inputs, "mac": "52:54:00:00:00:01"})
        if (resource.kind, resource.name) == (BOX, "minion1")
        else resource
        for resource in before
    ]
    verbs = {resource.name: resource.verb for resource in changes(before, after)}
    assert verbs["minion1"] is Verb.REPLACE
    assert verbs["minion1-node"] is Verb.REPLACE, "what was installed is gone with the machine"
    assert verbs["master"] is verbs["master-node"] is Verb.SAME


@pytest.mark.parametrize(
    ("kind", "name", "verb"), [(DISK, "master-disk", Verb.REPLACE), (BOX, "master", Verb.DELETE)]
)
def test_the_rules_keep_etcds_disks_there_too(kind: str, name: str, verb: Verb) -> None:
    spoiled = [
        ResourceChange(
            verb=verb if (resource.kind, resource.name) == (kind, name) else Verb.SAME,
            before=resource,
            after=resource,
        )
        for resource in declared()
    ]
    sentences = [finding.sentence for finding in judge(tuple(spoiled))]
    assert any(f"{name} would be lost" in text for text in sentences), sentences


def test_pulumis_own_verbs_do_not_make_such_a_disk_anew() -> None:
    assert any(urn.endswith(f"${DISK}::master-disk") for urn in disk_urns("master"))


def test_the_specification_leaves_the_machines_to_their_adapter() -> None:
    provider = specification.SpecificationProvider()
    larger = {**CLUSTER["machines"]["minion1"], "disk": 20, "memory": 3072}
    grown = {**CLUSTER, "machines": {**CLUSTER["machines"], "minion1": larger}}
    old, new = (kept(parse(value, name="dev")) for value in (CLUSTER, grown))
    provider.create(old)
    assert Care.asked == [("refuse_taken", ["dev-master", "dev-minion1"])]
    Care.asked.clear()
    provider.update("1", old, new)
    assert Care.asked == [
        ("grow", {"dev-minion1": 20}),
        ("shut_down", {"dev-minion1": MachineSize(3072, 1)}),
    ]


def test_machines_with_equal_models_share_a_hypervisor() -> None:
    ((upkeep, names),) = kept_up(parse(CLUSTER, name="dev"), CLUSTER["machines"])
    assert isinstance(upkeep, Care)
    assert names == ["master", "minion1"]


def test_each_adapter_has_both_halves_and_types_of_its_own() -> None:
    assert ADAPTERS.keys() == MAKERS.keys()
    pairs = [(a.resources.machine, a.resources.disk) for a in ADAPTERS.values()]
    types = [kind for pair in pairs for kind in pair if kind is not None]
    assert len(types) == len(set(types))
    assert not adapters.is_machine("command:remote:Command")
