"""What a cluster on machines that exist already declares, and what a preview says of them."""

import json
from typing import Any

import pytest

from certs.tracked import recalled
from hypervisors.existing.resources import MACHINE
from plan import library
from preview.change import Verb
from preview.kinds import COMMAND, COPY, GUARD
from preview.registration import SIGNATURE, Registration
from preview.review import MachineReview
from probe.access import Access, MachineAccess, SshServer
from probe.sudo import BY_SUDO
from tests import declared as programs
from tests.declared import described, golden
from tests.preview.test_reviewing import named, review, sentences

BASTION: dict[str, Any] = {
    "address": "203.0.113.7",
    "port": 2200,
    "user": "jump",
    "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPFbZYb6Vt5eTdX3Wf5OUIyZrDeQRxsZz5NcJTwfqb0d",
}


def revealed(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and SIGNATURE in value else value


def changed(**hypervisor: Any) -> tuple[Registration, ...]:
    value = described("existing")
    value["hypervisor"] |= hypervisor
    return programs.registrations(programs.declared(value, "existing"))


def test_each_machine_is_attached_with_the_key_that_its_commands_use() -> None:
    every = golden("existing")
    machines = {declared.name: declared for declared in every if declared.kind == MACHINE}
    assert machines.keys() == described("existing")["machines"].keys()
    assert not [declared for declared in every if declared.kind.startswith("libvirt:")]
    host_keys = described("existing")["hypervisor"]["host_keys"]
    for machine in machines.values():
        access = machine.inputs["access"]
        assert access["user"] == "admin"
        assert access["host_key"] == host_keys[access["address"]]
        assert SIGNATURE in machine.inputs["privateKey"], "it is a secret"
    for command in (declared for declared in every if declared.kind == COMMAND):
        connection = revealed(command.inputs["connection"])
        assert connection["user"] == "admin"
        assert connection["hostKey"] == host_keys[connection["host"]]
        assert command.deleted_with in machines
        assert command.replacement_trigger == f"{MACHINE}/{command.deleted_with}"
        assert command.inputs["create"].startswith(BY_SUDO)
        leaving = command.inputs.get("delete")
        assert leaving is None or leaving.startswith(BY_SUDO)


def test_scripts_come_by_sudo_where_sftp_could_not_write_them() -> None:
    every = golden("existing")
    assert not [declared for declared in every if declared.kind == COPY]
    scripts = [declared for declared in every if declared.name.endswith("-scripts")]
    assert {declared.inputs["create"] for declared in scripts} == {f"{BY_SUDO}{library.LAY_DOWN}"}
    assert {declared.inputs["stdin"] for declared in scripts} == {library.laid_down()}
    as_root = changed(user="root")
    assert len([declared for declared in as_root if declared.kind == COPY]) == len(scripts)
    lines = [declared.inputs["create"] for declared in as_root if declared.kind == COMMAND]
    assert not [line for line in lines if "sudo" in line]


@pytest.mark.parametrize("bastion", [None, BASTION])
def test_guards_and_verbs_log_in_as_the_steps_do(bastion: dict[str, Any] | None) -> None:
    every = changed(port=2222, **({"bastion": bastion} if bastion else {}))
    guard = next(declared for declared in every if declared.kind == GUARD)
    values = json.loads(recalled(revealed(guard.inputs["login"])))
    access = MachineAccess.read(values["access"])
    assert (access.user, access.port) == ("admin", 2222)
    assert access.bastion == (SshServer(**bastion) if bastion else None)
    command = next(declared for declared in every if declared.kind == COMMAND)
    connection = revealed(command.inputs["connection"])
    assert connection["port"] == 2222
    assert bool(connection.get("proxy")) == bool(bastion)
    if bastion:
        proxy = revealed(connection["proxy"])
        assert (proxy["host"], proxy["port"], proxy["user"], proxy["hostKey"]) == (
            *(bastion[name] for name in ("address", "port", "user", "host_key")),
        )


def test_outputs_of_before_lead_to_root_at_the_usual_port() -> None:
    node: dict[str, Any] = {
        "address": "192.168.1.10",
        "roles": ["etcd"],
        "host_key": "ssh-ed25519 AAAA",
    }
    outputs = {"nodes": {"master": node}, "ssh_private_key": "key"}
    (machine,) = Access.from_outputs(outputs).machines.values()
    assert (machine.user, machine.port, machine.bastion) == ("root", 22, None)
    node |= {"user": "admin", "port": 2222.0, "bastion": BASTION | {"port": 2200.0}}
    (machine,) = Access.from_outputs(outputs).machines.values()
    assert (machine.user, machine.port, machine.bastion) == ("admin", 2222, SshServer(**BASTION))


def with_another_minion() -> dict[str, Any]:
    value = described("existing")
    keys = value["hypervisor"]["host_keys"]
    keys["10.1.4.2"] = keys["10.1.4.1"]
    value["machines"]["rack2-b"] = {"address": "10.1.4.2", "roles": "i"}
    return {"name": "existing", **value}


def why(machine: MachineReview) -> list[str]:
    return [line.why for line in machine.resources if line.kind.endswith("ExistingMachine")]


def test_a_preview_says_that_a_machine_joins_and_is_handed_back() -> None:
    few, more = {"name": "existing", **described("existing")}, with_another_minion()
    joins = named(review(few, more))["rack2-b"]
    assert joins.verb is Verb.CREATE
    (line,) = why(joins)
    assert "your own SSH keys open it, and it takes the cluster's key" in line
    result = review(more, few)
    leaves = named(result)["rack2-b"]
    assert leaves.verb is Verb.DELETE
    (line,) = why(leaves)
    assert "it is handed back as it was before" in line
    assert "rack2-b is drained and handed back as it was before" in sentences(result)
