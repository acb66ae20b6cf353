"""What the program declares, for every resource of a stack, with its options."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.stack import declare
from lab.paths import PROJECT
from spec.hypervisor import OFFER_VARIABLE, Libvirt
from tests.components.recording import Recorder, Registration, is_secret, record

TWO: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai"},
        "minion1": {"address": "192.168.1.11", "memory": 1024},
    },
}


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Libvirt:
    value = Libvirt(uri="qemu:///system", image="base", kernel="/k", initrd="/i", console_logs="/c")
    (tmp_path / "offer.json").write_text(value.model_dump_json())
    monkeypatch.setenv(OFFER_VARIABLE, str(tmp_path / "offer.json"))
    return value


@pytest.fixture
def recorded(offer: Libvirt) -> Recorder:
    return record(declare, config={"hardway:cluster": json.dumps(TWO)})


def of_kind(recorder: Recorder, kind: str) -> list[Registration]:
    found = [r for r in recorder.seen if r.kind == kind]
    assert found, kind
    return found


def test_a_machine_costs_five_resources_and_the_cluster_three(recorded: Recorder) -> None:
    custom = [r for r in recorded.seen if r.request.custom]
    for name in TWO["machines"]:
        assert sum(r.name.startswith(name) for r in custom) == 5
    shared = {r.name for r in custom} - {
        r.name for r in custom if r.name.startswith(("master", "minion1"))
    }
    assert shared == {"libvirt", "network", "ssh-key"}


def test_every_command_dies_with_its_machine_has_a_time_limit_and_checks_the_host_key(
    recorded: Recorder,
) -> None:
    for command in of_kind(recorded, "command:remote:Command"):
        request = command.request
        assert "libvirt:index/domain:Domain" in request.deletedWith
        assert request.customTimeouts.create
        assert request.customTimeouts.update
        assert "triggers" not in command.inputs
        assert "delete" not in command.inputs
        assert command.inputs["addPreviousOutputInEnv"] is False
        assert is_secret(command.inputs["connection"])
        assert command.inputs["connection"]["value"]["hostKey"].startswith("ssh-ed25519 ")


def test_no_private_key_is_outside_a_secret(recorded: Recorder) -> None:
    def plain(value: Any) -> str:
        if is_secret(value):
            return ""
        if isinstance(value, dict):
            return "".join(plain(item) for item in value.values())
        if isinstance(value, list):
            return "".join(plain(item) for item in value)
        return str(value)

    for registration in recorded.seen:
        assert "PRIVATE KEY" not in plain(registration.inputs), registration.name
    kept = of_kind(recorded, "pulumi:index:Stash")
    assert "PRIVATE KEY" in str([r.inputs for r in kept]), "the search above looks at something"


def test_keys_are_kept_and_the_disk_survives_a_new_base_image(recorded: Recorder) -> None:
    for stash in of_kind(recorded, "pulumi:index:Stash"):
        assert list(stash.request.ignoreChanges) == ["input"]
    for volume in of_kind(recorded, "libvirt:index/volume:Volume"):
        assert "baseVolumeName" in volume.request.ignoreChanges
    for domain in of_kind(recorded, "libvirt:index/domain:Domain"):
        assert set(domain.request.ignoreChanges) == {"kernel", "initrd"}


def test_every_resource_has_an_explicit_provider_or_needs_none(recorded: Recorder) -> None:
    for registration in recorded.seen:
        if registration.kind.startswith("libvirt:"):
            assert "pulumi:providers:libvirt::libvirt" in registration.request.provider


def test_addresses_and_macs_are_fixed_and_differ(recorded: Recorder, offer: Libvirt) -> None:
    macs = set()
    for domain in of_kind(recorded, "libvirt:index/domain:Domain"):
        macs.add(domain.inputs["networkInterfaces"][0]["mac"])
    assert len(macs) == 2
    again = record(declare, config={"hardway:cluster": json.dumps(TWO)})
    assert macs == {
        d.inputs["networkInterfaces"][0]["mac"]
        for d in of_kind(again, "libvirt:index/domain:Domain")
    }
    for disk in of_kind(recorded, "libvirt:index/cloudInitDisk:CloudInitDisk"):
        name = disk.name.removesuffix("-seed")
        config = yaml.safe_load(disk.inputs["networkConfig"])
        (interface,) = config["ethernets"].values()
        address = TWO["machines"][name]["address"]
        assert interface["addresses"] == [f"{address}/24"]
        assert interface["match"]["macaddress"] in macs
        assert is_secret(disk.inputs["userData"])
        user_data = yaml.safe_load(disk.inputs["userData"]["value"])
        assert user_data["hostname"] == name
        assert "ed25519_private" in user_data["ssh_keys"]


def test_adding_a_machine_changes_no_other_machines_inputs(offer: Libvirt) -> None:
    def inputs(machines: dict[str, Any]) -> dict[str, Any]:
        recorder = record(
            declare, config={"hardway:cluster": json.dumps({**TWO, "machines": machines})}
        )
        return {
            r.name: {k: v for k, v in r.inputs.items() if not is_secret(v)}
            for r in recorder.seen
            if r.name.startswith("master")
        }

    machines: dict[str, Any] = dict(TWO["machines"])
    first = inputs(machines)
    assert inputs({"earlier": {"address": "192.168.1.9"}, **machines}) == first


def test_a_spec_with_mistakes_ends_in_their_sentences(offer: Libvirt) -> None:
    with pytest.raises(Exception, match="is outside"):
        record(
            declare,
            config={
                "hardway:cluster": json.dumps({**TWO, "machines": {"m": {"address": "10.0.0.1"}}})
            },
        )


def test_without_lab_and_hypervisor_the_person_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(OFFER_VARIABLE, raising=False)
    with pytest.raises(Exception, match=r"run this through ./hardway"):
        record(declare, config={"hardway:cluster": json.dumps(TWO)})


def test_the_entry_and_the_default_stack_are_what_they_promise() -> None:
    assert len((PROJECT / "__main__.py").read_text().splitlines()) < 20
    stack = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text())
    assert list(stack) == ["config"], "no salt of anybody's passphrase"
    cluster = stack["config"]["hardway:cluster"]
    assert cluster["machines"]["master"]["address"] == "192.168.1.10"
