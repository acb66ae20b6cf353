"""What the program declares, for every golden cluster: every resource with its options."""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dill  # type: ignore[import-untyped]
import pytest
import yaml
from pulumi.dynamic.dynamic import serialize_provider

from certs.tracked import AuthoritiesProvider, BundleProvider, recalled
from components.guard import GuardProvider
from components.objects import ObjectsProvider
from components.ready import ReadyProvider
from components.specification import SpecificationProvider
from components.stack import declare
from hypervisors.existing.machines import ExistingMachineProvider
from hypervisors.libvirt.machines import DOMAIN as STYLESHEET
from lab.paths import PROJECT
from plan import addons, library, render
from plan.contents import ITEMS, OBJECTS, STEPS, unpacked
from plan.held import ROLES
from plan.item import Kind
from preview.kinds import COPY
from preview.recorder import Recorder, record
from preview.registration import Registration, is_secret
from spec.cluster import Cluster, parse
from spec.offer import OFFER_VARIABLE
from tests import declared as programs
from tests.declared import MADE, described
from tests.plan.golden import digests

COMMAND = "command:remote:Command"
DOMAIN = "libvirt:index/domain:Domain"
DYNAMIC = "pulumi-python:dynamic/hardway:"
HIDDEN_OF_OBJECTS = ("kubeconfig", "login", "objects", "steps")

Declared = tuple[Registration, ...]

TWO: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "minion1": {"address": "192.168.1.11"},
    },
}


@pytest.fixture(autouse=True)
def _no_other_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFFER_VARIABLE, raising=False)


def declared(value: dict[str, Any], stack: str = "dev") -> Declared:
    """Everything that the program registers for this configuration."""
    return programs.registrations(programs.declared(value, stack))


@pytest.fixture(params=MADE)
def golden(request: pytest.FixtureRequest) -> tuple[Cluster, Declared]:
    name = request.param
    return parse(described(name), name=name), programs.golden(name)


def of_kind(recorder: Declared, kind: str) -> list[Registration]:
    registrations = [resource for resource in recorder if resource.kind == kind]
    assert registrations, kind
    return registrations


def commands(recorder: Declared) -> dict[str, Registration]:
    return {resource.name: resource for resource in of_kind(recorder, COMMAND)}


def plain(value: Any) -> Iterator[str]:
    """Every text of a wire value that is not in a secret's envelope."""
    if is_secret(value):
        return
    if isinstance(value, dict):
        for item in value.values():
            yield from plain(item)
    elif isinstance(value, list):
        for item in value:
            yield from plain(item)
    else:
        yield str(value)


# -- how many --------------------------------------------------------------------------------------


def test_a_machine_costs_ten_resources_or_twelve_and_the_cluster_a_dozen(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    custom = [resource.name for resource in recorder if resource.custom]
    own: dict[str, list[str]] = {name: [] for name in spec.machines}
    shared: list[str] = []
    for name in custom:
        machine = max(
            (m for m in spec.machines if name == m or name.startswith(f"{m}-")), key=len, default=""
        )
        of_cluster = not machine or "add-ons" in name
        (shared if of_cluster else own[machine]).append(name)
    seeds = 1 if spec.addons.notebooks else 0  # of their password
    assert len(shared) - seeds <= 12, shared
    for name, names in own.items():
        only_minion = name in spec.nodes and name not in (*spec.control_planes, *spec.etcd_members)
        assert len(names) <= (10 if only_minion else 12), names
    assert len(custom) == len(set(custom))


def test_names_begin_with_the_machine_and_never_with_a_position(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    for name in commands(recorder):
        assert any(name.startswith(f"{machine}-") for machine in spec.machines), name


# -- remote commands -------------------------------------------------------------------------------


def test_every_command_dies_with_its_machine_has_a_limit_and_knows_the_host(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    for name, command in commands(recorder).items():
        machine = command.deleted_with
        assert machine in {domain.name for domain in of_kind(recorder, DOMAIN)}
        assert name.startswith(f"{machine}-")
        trigger = command.replacement_trigger
        assert trigger == f"{DOMAIN}/{machine}", "another machine gets everything"
        assert command.provider == "command"
        assert re.fullmatch(r"\d+s", command.timeouts["create"])
        assert command.timeouts["update"] == command.timeouts["create"]
        connection, create = command.inputs["connection"]["value"], command.inputs["create"]
        assert connection["hostKey"].startswith("ssh-ed25519 ")
        assert connection["host"] == str(spec.machines[machine].address)
        assert "triggers" not in command.inputs
        step = name.removeprefix(f"{machine}-")
        role = step in ROLES
        assert command.inputs.get("delete") == (render.leaving(step) if role else None)
        shell = re.match(r"timeout -k 10 (\d+) bash -euo pipefail -c '", create)
        assert shell
        assert int(command.timeouts["create"][:-1]) > int(shell[1])
        assert command.inputs["addPreviousOutputInEnv"] is False


def test_only_what_holds_keys_is_hidden_and_it_is_neither_logged_nor_kept_readable(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    hidden = set()
    for name, command in commands(recorder).items():
        if is_secret(command.inputs["stdin"]):
            hidden.add(name)
            assert command.inputs["logging"] == "none"
            assert {"stdout", "stderr"} <= set(command.additional_secret_outputs)
            assert (
                "PRIVATE KEY" in command.inputs["stdin"]["value"]
                or "client-key-data" in (command.inputs["stdin"]["value"])
            )
    first = spec.control_planes[0]
    as_admin = {f"{first}-add-ons-apply", f"{first}-add-ons-nodes"}
    assert hidden == {f"{m}-identity" for m in spec.machines} | as_admin


def test_no_private_key_is_outside_a_secret(golden: tuple[Cluster, Declared]) -> None:
    _, recorder = golden
    for resource in recorder:
        text = "\n".join(plain(resource.inputs))
        assert "PRIVATE KEY" not in text, resource.name
        assert "client-key-data" not in text, resource.name
    keys = [str(resource.inputs) for resource in recorder if "PRIVATE KEY" in str(resource.inputs)]
    assert len(keys) > 3, "the search above looks at something"


def test_steps_come_in_the_order_in_which_they_need_each_other(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    steps = commands(recorder)

    def before(name: str) -> set[str]:
        direct = set(steps[name].dependencies) & steps.keys()
        return direct.union(*map(before, direct)) if direct else set()

    for machine in spec.machines:
        assert before(f"{machine}-identity") == {f"{machine}-ready"}
        if machine in spec.nodes:
            identified = before(f"{machine}-identity") | {f"{machine}-identity"}
            assert before(f"{machine}-runtime") == identified, "it needs nobody"
            assert f"{machine}-runtime" in before(f"{machine}-node")
        if machine in spec.nodes and machine not in spec.control_planes:
            # Nodes join at once, each waiting for the API by itself; flanneld reads its network
            # from etcd when it starts, so that is written first.
            others = {name for name in steps[f"{machine}-node"].dependencies if name in steps}
            network = {f"{member}-etcd" for member in spec.etcd_members}
            network = network if spec.flannel.store == "etcd" else set()
            assert others - {f"{machine}-runtime"} == network
        if machine in spec.etcd_members:
            assert all(name.startswith(machine) for name in before(f"{machine}-etcd")), "no member "
            "is healthy alone"
        if machine in spec.control_planes:
            earlier = before(f"{machine}-control-plane")
            assert {f"{m}-etcd" for m in spec.etcd_members} <= earlier
            assert {f"{m}-identity" for m in spec.control_planes} <= earlier
            planes = {name for name in earlier if name.endswith("-control-plane")}
            assert not planes, "one that restarts waits in its turn for those that are new"
            assert f"{machine}-control-plane" in before(f"{machine}-node"), "here the API is first"
    applied = f"{spec.control_planes[0]}-add-ons-apply"
    assert not {name for name in before(applied) if name.endswith("-node")}
    labelled = before(f"{spec.control_planes[0]}-add-ons-nodes")
    assert {applied, *(f"{node}-node" for node in spec.nodes)} <= labelled, "all are registered"
    ready = next(resource for resource in recorder if resource.name == "ready")
    waited = set(ready.dependencies) & steps.keys()
    assert steps.keys() - waited.union(*map(before, waited)) == set()


def test_control_planes_do_not_wait_for_a_member_that_joins() -> None:
    value = described("available")
    machines = value["machines"]
    before = programs.declared(value)
    machines["etcd-4"] = {**machines.pop("etcd-3"), "address": "192.168.50.14"}
    after = programs.registrations(programs.declared(value, before=before))
    resources = {resource.name: resource for resource in after}
    for name in ("control-1-control-plane", "control-2-control-plane"):
        awaited = {step for step in resources[name].dependencies if step.endswith("-etcd")}
        assert awaited == {"etcd-1-etcd", "etcd-2-etcd"}, name
    for name in ("minion-1-node", "ready"):
        assert "etcd-4-etcd" in resources[name].dependencies, name


def test_each_step_runs_after_the_scripts_that_it_uses_are_on_its_machine(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    copies = {copy.name: copy for copy in of_kind(recorder, COPY)}
    assert copies.keys() == {f"{machine}-scripts" for machine in spec.machines}
    for name, command in commands(recorder).items():
        (copied,) = set(command.dependencies) & copies.keys()
        copy = copies[copied]
        assert name.startswith(f"{copy.deleted_with}-")
        assert copy.deleted_with == command.deleted_with
        assert copy.replacement_trigger == command.replacement_trigger
        assert copy.inputs["remotePath"] == library.PLACE
        assert (PROJECT / copy.inputs["source"]["path"]).samefile(library.FOLDER)
        assert not Path(copy.inputs["source"]["path"]).is_absolute()


def test_each_machine_is_guarded_after_all_that_is_done_on_it_and_the_keys_stay_hidden(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    guards = {guard.name: guard for guard in of_kind(recorder, f"{DYNAMIC}Guard")}
    assert guards.keys() == {f"{machine}-guard" for machine in spec.machines}
    names = commands(recorder).keys()
    for machine in spec.machines:
        guard = guards[f"{machine}-guard"]
        assert guard.deleted_with == machine
        assert guard.replacement_trigger == f"{DOMAIN}/{machine}"
        steps = {name for name in names if name.startswith(f"{machine}-")}
        steps.add(f"{machine}-scripts")
        # What needs a credential of people's is no part of a machine.
        steps -= {f"{machine}-add-ons-apply", f"{machine}-add-ons-nodes"}
        assert set(guard.dependencies) >= steps
        for hidden in ("login", "items", "steps", "secrets"):
            assert is_secret(guard.inputs[hidden])
        items = unpacked(ITEMS, recalled(guard.inputs["items"]["value"]))
        steps_of_repairs = unpacked(STEPS, recalled(guard.inputs["steps"]["value"]))
        assert guard.inputs["differs"] == {}
        present = (item for item in items if item.kind is not Kind.ROLE)
        assert {f"{machine}-{item.step}" for item in present} <= steps
        roles = {f"{machine}-{item.name}" for item in items if item.kind is Kind.ROLE}
        assert roles == {f"{machine}-{role}" for role in ROLES} - steps
        digests = json.loads(recalled(guard.inputs["secrets"]["value"]))
        texts = "\n".join(plain(guard.inputs))
        assert not [digest for digest in digests.values() if digest in texts]
        # What a repair runs is what was run.
        for step in steps_of_repairs:
            command = commands(recorder)[f"{machine}-{step.name}"]
            assert step.secret or step.data == command.inputs["stdin"]
            assert step.line == command.inputs["create"]
        assert [step.name for step in steps_of_repairs if step.secret] == ["identity"]


def test_the_objects_are_compared_after_they_were_applied_and_mended_by_the_same_step(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    (objects,) = of_kind(recorder, f"{DYNAMIC}Objects")
    first = spec.control_planes[0]
    assert {f"{first}-add-ons-apply", f"{first}-guard"} <= set(objects.dependencies)
    for hidden in HIDDEN_OF_OBJECTS:
        assert is_secret(objects.inputs[hidden])
    assert objects.inputs["differs"] == {}
    whole = {name: recalled(objects.inputs[name]["value"]) for name in HIDDEN_OF_OBJECTS}
    assert unpacked(OBJECTS, whole["objects"]) == addons.declared(spec)
    assert json.loads(whole["login"])["node"] == first
    user = yaml.safe_load(whole["kubeconfig"])["users"][0]["name"]
    assert user == addons.ADMIN, "nobody can take its rights away"
    (step,) = unpacked(STEPS, whole["steps"])
    command = commands(recorder)[f"{first}-add-ons-apply"]
    assert step.secret
    assert (step.line, step.data) == (command.inputs["create"], command.inputs["stdin"]["value"])
    ready = next(resource for resource in recorder if resource.name == "ready")
    assert "objects" in ready.inputs["changes"], "the conditions are checked after a repair"
    assert "objects" in ready.dependencies


def test_a_machine_that_was_mended_has_its_cluster_asked_again(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    ready = next(resource for resource in recorder if resource.name == "ready")
    assert ready.inputs["changes"]["repairs"].keys() == spec.machines.keys()
    waited = set(ready.dependencies)
    assert {f"{machine}-guard" for machine in spec.machines} <= waited


def test_another_machine_of_the_same_size_has_its_cluster_asked_again(
    golden: tuple[Cluster, Declared],
) -> None:
    spec, recorder = golden
    ready = next(resource for resource in recorder if resource.name == "ready")
    assert ready.inputs["changes"]["machines"] == {
        name: f"{DOMAIN}/{name}" for name in spec.machines
    }


def test_a_limit_is_given_only_where_somebody_keeps_it(golden: tuple[Cluster, Declared]) -> None:
    """The SDK's server of dynamic resources knows no ``custom_timeouts``."""
    _, recorder = golden
    assert not [
        resource.name
        for resource in recorder
        if resource.kind.startswith(DYNAMIC) and resource.timeouts
    ]


# -- what states know ------------------------------------------------------------------------------

PROVIDERS = {
    "Authorities": (
        AuthoritiesProvider,
        "gASVLAAAAAAAAACMDWNlcnRzLnRyYWNrZWSUjBNBdXRob3JpdGllc1Byb3ZpZGVylJOUKYGULg==",
    ),
    "Certificates": (
        BundleProvider,
        "gASVJwAAAAAAAACMDWNlcnRzLnRyYWNrZWSUjA5CdW5kbGVQcm92aWRlcpSTlCmBlC4=",
    ),
    "ExistingMachine": (
        ExistingMachineProvider,
        "gASVQAAAAAAAAACMHWh5cGVydmlzb3JzLmV4aXN0aW5nLm1hY2hpbmVzlIwXRXhpc3RpbmdNYWNoaW5lUHJvdmlkZXKUk5QpgZQu",
    ),
    "Guard": (
        GuardProvider,
        "gASVKQAAAAAAAACMEGNvbXBvbmVudHMuZ3VhcmSUjA1HdWFyZFByb3ZpZGVylJOUKYGULg==",
    ),
    "Objects": (
        ObjectsProvider,
        "gASVLQAAAAAAAACMEmNvbXBvbmVudHMub2JqZWN0c5SMD09iamVjdHNQcm92aWRlcpSTlCmBlC4=",
    ),
    "Ready": (
        ReadyProvider,
        "gASVKQAAAAAAAACMEGNvbXBvbmVudHMucmVhZHmUjA1SZWFkeVByb3ZpZGVylJOUKYGULg==",
    ),
    "Specification": (
        SpecificationProvider,
        "gASVOQAAAAAAAACMGGNvbXBvbmVudHMuc3BlY2lmaWNhdGlvbpSMFVNwZWNpZmljYXRpb25Qcm92aWRlcpSTlCmBlC4=",
    ),
}
"""Each dynamic resource's type to its provider, and to what living stacks keep of it (base64 of a
pickle): the names of a module and of a class, nothing else."""


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_provider_is_found_by_the_names_that_living_stacks_keep(kind: str) -> None:
    """An update does not renew them, and without them no refresh and no destroy goes through."""
    provider, kept = PROVIDERS[kind]
    assert type(dill.loads(base64.b64decode(kept))) is provider
    assert serialize_provider(provider()) == kept, "a checkout of before is gone back to as well"


def test_every_dynamic_resource_has_its_provider_s_names_held(
    golden: tuple[Cluster, Declared],
) -> None:
    _, recorder = golden
    every = (*recorder, *programs.golden("existing"))
    kinds = {resource.kind for resource in every if resource.kind.startswith(DYNAMIC)}
    assert kinds == {f"{DYNAMIC}{name}" for name in PROVIDERS}


# -- machines --------------------------------------------------------------------------------------


def test_keys_are_kept_and_a_disk_survives_a_new_base_image_and_another_size(
    golden: tuple[Cluster, Declared],
) -> None:
    _, recorder = golden
    for stash in of_kind(recorder, "pulumi:index:Stash"):
        assert list(stash.ignore_changes) == ["input"]
    for volume in of_kind(recorder, "libvirt:index/volume:Volume"):
        assert {"baseVolumeName", "size"} <= set(volume.ignore_changes)
    for domain in of_kind(recorder, DOMAIN):
        assert set(domain.ignore_changes) == {"kernel", "initrd", "cmdlines"}
    # An older program's network has no stylesheet, and another network makes all machines anew.
    (network,) = of_kind(recorder, "libvirt:index/network:Network")
    assert network.ignore_changes == ("xml",)


NETWORK = (
    '<network connections="1"><name>dev</name><forward mode="nat"/>{dns}'
    '<ip address="192.168.1.1" prefix="24"/></network>'
)


@pytest.mark.parametrize("dns", ["", '<dns><host ip="1.2.3.4"/></dns>', '<dns enable="yes"/>'])
def test_no_name_server_runs_on_a_new_network(dns: str, tmp_path: Path) -> None:
    (network,) = of_kind(declared(described("default")), "libvirt:index/network:Network")
    style, given = tmp_path / "style.xslt", tmp_path / "network.xml"
    style.write_text(network.inputs["xml"]["xslt"])
    given.write_text(NETWORK.format(dns=dns))
    command = ["xsltproc", "--nonet", str(style), str(given)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    xml = ElementTree.fromstring(made)
    assert [element.attrib for element in xml.iter("dns")] == [{"enable": "no"}]
    assert [element.tag for element in xml] == ["name", "forward", "ip", "dns"]


def test_what_has_a_name_on_its_hypervisor_goes_before_its_successor_is_made(
    golden: tuple[Cluster, Declared],
) -> None:
    """``--replace`` asks no provider, which would take the old disk for the new and delete it."""
    _, recorder = golden
    named = [
        resource
        for resource in recorder
        if resource.kind.startswith("libvirt:") and "name" in resource.inputs
    ]
    assert named
    assert [resource.name for resource in named if not resource.delete_before_replace] == []


def test_every_resource_of_libvirt_has_the_explicit_provider(
    golden: tuple[Cluster, Declared],
) -> None:
    _, recorder = golden
    for resource in recorder:
        if resource.kind.startswith("libvirt:"):
            assert resource.provider == "libvirt"


def test_addresses_are_static_and_macs_differ_and_stay(
    golden: tuple[Cluster, Declared], request: pytest.FixtureRequest
) -> None:
    spec, recorder = golden
    name = request.node.callspec.params["golden"]

    def macs(of: Declared) -> dict[str, str]:
        return {
            domain.name: domain.inputs["networkInterfaces"][0]["mac"]
            for domain in of_kind(of, DOMAIN)
        }

    first = macs(recorder)
    assert first.keys() == spec.machines.keys()
    assert len(set(first.values())) == len(first)
    assert macs(declared(described(name), name)) == first
    for disk in of_kind(recorder, "libvirt:index/cloudInitDisk:CloudInitDisk"):
        machine = disk.name.removesuffix("-seed")
        (interface,) = yaml.safe_load(disk.inputs["networkConfig"])["ethernets"].values()
        (address,) = interface["addresses"]
        assert IPv4Address(address.split("/")[0]) == spec.machines[machine].address
        assert interface["match"]["macaddress"] == first[machine]
        assert interface["dhcp4"] is False
        assert is_secret(disk.inputs["userData"])
        user_data = yaml.safe_load(disk.inputs["userData"]["value"])
        assert user_data["hostname"] == machine
        assert "ed25519_private" in user_data["ssh_keys"]


def test_children_are_registered_under_their_component(golden: tuple[Cluster, Declared]) -> None:
    spec, recorder = golden
    components = {
        resource.name for resource in recorder if resource.kind.startswith("hardway:index:")
    }
    for resource in recorder:
        # The provider of commands is there before the cluster, and is given to it.
        beside = ("hardway:index:Cluster", "pulumi:providers:command")
        if resource.kind not in beside:
            assert resource.parent in components, resource.name
    roles = {(resource.kind.rpartition(":")[2], resource.name) for resource in recorder}
    assert ("Cluster", spec.name) in roles
    assert {("EtcdMember", name) for name in spec.etcd_members} <= roles
    assert {("ControlPlane", name) for name in spec.control_planes} <= roles
    assert {("Minion", name) for name in spec.nodes} <= roles


# -- the whole -------------------------------------------------------------------------------------


def readable(recorder: Declared) -> dict[str, list[str]]:
    return {resource.name: list(plain(resource.inputs)) for resource in recorder}


def test_another_minion_changes_what_counts_nodes_and_nothing_of_other_machines() -> None:
    more = {
        **TWO,
        "machines": {"earlier": {"address": "192.168.1.9"}, **TWO["machines"]},
    }
    before, after = readable(declared(TWO)), readable(declared(more))
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"specification", "ready"}, changed
    assert all(name.startswith("earlier") for name in after.keys() - before.keys())


def test_a_spec_with_mistakes_ends_in_their_sentences() -> None:
    with pytest.raises(Exception, match="is outside"):
        declared({**TWO, "machines": {"m": {"address": "10.0.0.1"}}})


def test_without_lab_and_hypervisor_the_person_is_told_what_to_do() -> None:
    known = {"artifacts": {"digests": digests(None)}}
    with pytest.raises(Exception, match=r"run this through ./hardway"):
        record(declare, config={"hardway:cluster": json.dumps({**TWO, **known})})


def test_the_entry_and_the_default_stack_are_what_they_promise() -> None:
    assert len((PROJECT / "__main__.py").read_text().splitlines()) < 20
    stack = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text())
    assert list(stack) == ["config"], "no salt of anybody's passphrase"
    machines = stack["config"]["hardway:cluster"]["machines"]
    assert {name: machine["address"] for name, machine in machines.items()} == {
        "master": "192.168.1.10",
        "minion1": "192.168.1.11",
        "minion2": "192.168.1.12",
    }


def test_what_every_machine_is_made_of_is_as_it_was() -> None:
    """The engine replaces a machine whose stylesheet differs, be it by a comment."""
    digest = hashlib.sha256(STYLESHEET.encode()).hexdigest()
    assert digest == "b44acd019db816d5f712b0c69773b16516558204a109d1ee11f313114cc6fe73"


def seen_in_secrets(recorder: Recorder, *hidden: str) -> str:
    """All secrets among the inputs, in each of which the texts may stand, and nowhere else."""
    secret: list[str] = []

    def walk(item: Any) -> None:
        if is_secret(item):
            secret.append(json.dumps(item))
        elif isinstance(item, dict | list):
            for inner in item.values() if isinstance(item, dict) else item:
                walk(inner)
        else:
            assert not any(text in str(item) for text in hidden)

    for resource in programs.registrations(recorder):
        walk(dict(resource.inputs))
    return "".join(secret)


def test_a_password_is_nowhere_but_in_secrets() -> None:
    """The engine writes to the state in the clear, and shows, what is in no secret."""
    value = {**TWO, "registries": {"registry.example.org": {"user": "puller"}}}
    password = "neither-shown-nor-kept"
    shown = base64.b64encode(f"puller:{password}".encode()).decode()
    recorder = programs.declared(value, passwords={"registry.example.org": password})
    assert shown in seen_in_secrets(recorder, password, shown), "nodes get it"


def test_an_access_key_is_nowhere_but_in_secrets() -> None:
    bucket = {"kind": "s3", "endpoint": "https://s3.example.org", "bucket": "backups"}
    value = {**TWO, "backup": {"to": bucket}}
    key = {"access_key_id": "NEITHERSHOWN", "secret_access_key": "nor+kept"}
    recorder = programs.declared(value, bucket_key=key)
    secrets = seen_in_secrets(recorder, *key.values())
    assert "secret_access_key = nor+kept" in secrets, "the member gets it"
