"""What a cluster on VirtualBox declares, what a preview says of it, and what stops an update."""

import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from hypervisors.virtualbox import networks, vboxmanage
from hypervisors.virtualbox.machine import uuid_of
from hypervisors.virtualbox.machines import with_way_out
from hypervisors.virtualbox.resources import MACHINE, NETWORK
from lab import virtualbox
from lab.cache import Cache
from lab.doctor import Verdict, findings
from lab.paths import LabPaths
from lab.problem import Problem
from lab.stack import is_in_lab, offer_path
from ops import lifecycle
from policy.rules import judge
from preview.change import ResourceChange, Verb
from preview.registration import is_secret
from spec.cluster import ArtifactSource, SpecError, parse
from spec.hypervisor import Libvirt, VirtualBox
from spec.offer import Offer, with_offer
from tests import declared as programs
from tests.checkout import Checkout
from tests.preview.recorded import changed
from tests.preview.test_reviewing import named, review, sentences

CLUSTER: dict[str, Any] = {
    "hypervisor": {"kind": "virtualbox", "image": "base.vdi"},
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 4096},
        "minion1": {"address": "192.168.1.11"},
    },
}


def with_machine(name: str, **changes: Any) -> dict[str, Any]:
    machines = CLUSTER["machines"]
    return {**CLUSTER, "machines": {**machines, name: {**machines[name], **changes}}}


# -- declarations and previews ---------------------------------------------------------------------


def test_a_cluster_is_a_network_and_a_resource_for_each_machine() -> None:
    every = programs.registrations(programs.declared(CLUSTER))
    assert not [resource for resource in every if resource.kind.startswith("libvirt:")]
    (network,) = (resource for resource in every if resource.kind == NETWORK)
    assert network.inputs == {"addresses": "192.168.1.0/24"}
    machines = {resource.name: resource for resource in every if resource.kind == MACHINE}
    assert machines.keys() == CLUSTER["machines"].keys()
    for name, machine in machines.items():
        assert machine.inputs["network"] == f"{NETWORK}/{network.name}"
        assert machine.inputs["name"] == f"dev-{name}"
        assert is_secret(machine.inputs["userData"])
        assert {"image", "userData", "networkConfig"} <= {*machine.ignore_changes}
        assert machine.delete_before_replace, "the new one has the same UUID"
    assert len({machine.inputs["uuid"] for machine in machines.values()}) == 2
    assert judge(tuple(ResourceChange(verb=Verb.CREATE, before=None, after=o) for o in every)) == ()


def test_a_machine_leaves_by_its_second_adapter_and_keeps_other_routes() -> None:
    before = {
        "version": 2,
        "ethernets": {
            "primary": {
                "match": {"macaddress": "52:54:00:aa:bb:cc"},
                "dhcp4": False,
                "addresses": ["192.168.1.10/24"],
                "routes": [
                    {"to": "0.0.0.0/0", "via": "192.168.1.1"},
                    {"to": "10.1.0.0/16", "via": "192.168.1.1"},
                ],
            }
        },
    }
    after = yaml.safe_load(with_way_out(yaml.safe_dump(before), "56:54:00:aa:bb:cc"))
    primary, outside = after["ethernets"]["primary"], after["ethernets"]["outside"]
    assert primary["routes"] == [{"to": "10.1.0.0/16", "via": "192.168.1.1"}]
    assert outside["match"] == {"macaddress": "56:54:00:aa:bb:cc"}
    # VirtualBox's manual: the guest has .15, the gateway .2.
    assert outside["addresses"] == ["10.0.2.15/24"]
    assert outside["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.2.2"}]


@pytest.mark.parametrize("change", [{"memory": 4096}, {"cpus": 2}, {"disk": 20}])
def test_another_size_restarts_a_machine_with_its_disk(change: dict[str, int]) -> None:
    result = review(
        {"name": "dev", **CLUSTER}, {"name": "dev", **with_machine("minion1", **change)}
    )
    assert "minion1 shuts down and starts again, and is away until it is up" in sentences(result)
    minion = named(result)["minion1"]
    assert minion.verb is Verb.UPDATE
    # A larger disk has its file system grown by the first step.
    assert [step.name for step in minion.steps] == ["ready"] * ("disk" in change)
    line = next(line for line in minion.resources if line.name == "minion1")
    (key,) = change
    assert line.why.startswith(f"{key}: ")
    assert named(result)["master"].verb is Verb.SAME


def test_another_image_and_another_seed_are_of_new_machines_only() -> None:
    another = {**CLUSTER, "hypervisor": {**CLUSTER["hypervisor"], "image": "other.vdi"}}
    result = review({"name": "dev", **CLUSTER}, {"name": "dev", **another})
    assert {machine.verb for machine in result.machines} == {Verb.SAME}


def test_several_members_of_etcd_do_not_restart_at_once() -> None:
    addresses = {f"m{number}": f"192.168.1.{number}0" for number in (1, 2, 3)}

    def with_disk(size: int, *names: str) -> dict[str, Any]:
        return {
            **CLUSTER,
            "name": "dev",
            "endpoint": {"kind": "virtual-ip", "address": "192.168.1.5"},
            "machines": {
                name: {"address": address, "roles": "ai", "disk": size if name in names else 10}
                for name, address in addresses.items()
            },
        }

    _, refused = changed(with_disk(10), with_disk(20, "m1"))
    assert not refused
    _, refused = changed(with_disk(10), with_disk(20, "m1", "m2"))
    assert "etcd would lose its quorum" in str(refused)


@pytest.mark.parametrize("verb", [Verb.REPLACE, Verb.DELETE])
def test_the_rules_keep_a_member_with_its_disk(verb: Verb) -> None:
    every = programs.registrations(programs.declared(CLUSTER))
    spoiled = tuple(
        ResourceChange(
            verb=verb if (it.kind, it.name) == (MACHINE, "master") else Verb.SAME,
            before=it,
            after=it,
        )
        for it in every
    )
    assert "master would be lost" in " ".join(finding.sentence for finding in judge(spoiled))


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "field", "why"),
    [
        ({**CLUSTER, "architecture": "arm64"}, "architecture", "write amd64"),
        (
            {**CLUSTER, "networks": {**CLUSTER["networks"], "pods": "10.0.0.0/16"}},
            "networks.pods",
            "10.0.0.0/16 overlaps with 10.0.2.0/24",
        ),
        (with_machine("minion1", cpus=65), "machines.minion1.cpus", "write 64 or less"),
        (with_machine("minion1", memory=2**22), "machines.minion1.memory", "write 2097152 or less"),
    ],
)
def test_what_virtualbox_cannot_do_is_refused(value: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(value, name="dev")
    (sentence,) = str(refused.value).splitlines()
    assert sentence.startswith(f"{field} ")
    assert why in sentence


# -- VBoxManage ------------------------------------------------------------------------------------

ANSWER = r"""
name="dev-master"
memory=2048
description="of \"ours\" \\ and
more of it"
"VirtIO-0-0"="/vms/dev master/disk.vdi"
"VirtIO-ImageUUID-0-0"="7355425c-d149-450d-bc1f-f0973ab1c9b5"
VMState="running"
VideoMode="720,400,0"@0,0 1
VRDEClients==0
 rec_screen0
uartmode1="file,/vms/console=1.log"
"""
"""Lines of VirtualBox 7.2.22."""


def test_known_keys_are_read_among_lines_of_other_forms() -> None:
    facts = vboxmanage.facts(ANSWER)
    assert facts["memory"] == "2048"
    assert facts["VMState"] == "running"
    assert facts["VirtIO-0-0"] == "/vms/dev master/disk.vdi"
    assert facts["uartmode1"] == "file,/vms/console=1.log"


def test_names_of_machines_give_uuids_of_their_own() -> None:
    names = ["dev-master", "dev-minion1", "lab2-master"]
    assert len({uuid_of(name) for name in names}) == 3
    assert uuid_of("dev-master") == "742261f7-39b1-5ec7-bd09-01b227935f25", (
        "machines that exist keep it"
    )


class ScriptedProgram:
    """A VBoxManage whose answers a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"

    def answers(self, script: str) -> None:
        file = self.folder / "VBoxManage"
        file.write_text(f"#!/bin/bash\necho \"$*\" >>'{self.calls}'\n{script}\n")
        file.chmod(0o755)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedProgram:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("VBOX_USER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(vboxmanage, "PAUSE", 0.01)
    return ScriptedProgram(folder)


@pytest.mark.parametrize(
    "message",
    [
        "VBoxManage: error: Failed to create the VirtualBox object!",
        "VBoxManage: error: The machine 'x' is already locked for a session (or being unlocked)",
        "VBoxManage: error: The machine 'x' already has a lock request pending",
        "VBoxManage: error: x has terminated unexpectedly during startup because of signal 6",
    ],
)
def test_a_call_is_repeated_where_that_helps(program: ScriptedProgram, message: str) -> None:
    again = f"(($(wc -l <'{program.calls}') > 2)) || {{ echo \"{message}\" >&2; exit 1; }}"
    program.answers(f"{again}\necho it is well")
    assert vboxmanage.call("list", "vms") == "it is well\n"
    assert program.calls.read_text() == "list vms\n" * 3


def test_a_refusal_is_a_sentence_with_virtualboxs_own_reason(program: ScriptedProgram) -> None:
    program.answers(
        "cat >&2 <<'END'\n"
        "VBoxManage: error: Code E_ACCESSDENIED (0x80070005) - Access denied (extended info not "
        "available)\n"
        'VBoxManage: error: Context: "EnableStaticIPConfig(...)" at line 1\nEND\nexit 1'
    )
    with pytest.raises(vboxmanage.VirtualBoxError) as refused:
        vboxmanage.call("hostonlyif", "ipconfig", "vboxnet0")
    assert "VBoxManage hostonlyif fails (Code E_ACCESSDENIED" in str(refused.value)
    assert "Context" not in str(refused.value)
    assert program.calls.read_text().count("\n") == 1, "no second try helps"


@pytest.mark.parametrize(
    ("message", "gone"),
    [
        ("error: Could not find a registered machine, code VBOX_E_OBJECT_NOT_FOUND", True),
        ("error: The object functionality is limited", True),
        ("error: Code E_ACCESSDENIED (0x80070005) - Access denied", False),
        ("error: Could not find file (VERR_FILE_NOT_FOUND)", False),
    ],
)
def test_only_two_answers_mean_that_a_machine_is_gone(
    program: ScriptedProgram, message: str, gone: bool
) -> None:
    program.answers(f"echo 'VBoxManage: {message}' >&2; exit 1")
    with pytest.raises(vboxmanage.VirtualBoxError) as refused:
        vboxmanage.call("showvminfo", "x")
    assert isinstance(refused.value, vboxmanage.Gone) == gone


# -- the host --------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: ScriptedProgram) -> Path:
    """A host on which everything is there, as files that stand for those of the kernel."""
    program.answers(
        "case $* in\n"
        "--version) echo 'WARNING: a line of a wrapper'; echo 7.2.22_Debianr175245 ;;\n"
        f"*systemproperties) echo 'Default machine folder:  {tmp_path}/vms' ;;\n"
        "esac"
    )
    made = tmp_path / "host"
    for name, text in {
        "vboxdrv": "",
        "vboxnetctl": "",
        "kvm/parameters/enable_virt_at_load": "Y\n",
        "proc/sys/kernel/osrelease": "6.12.3-amd64\n",
        "proc/cpuinfo": "flags\t\t: fpu vme svm lm\n",
        "networks.conf": "* 192.168.1.0/24\n",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    monkeypatch.setattr(virtualbox, "DEVICES", (made / "vboxdrv", made / "vboxnetctl"))
    monkeypatch.setattr(virtualbox, "KVM", made / "kvm")
    monkeypatch.setattr(virtualbox, "PROCESSES", made / "proc")
    monkeypatch.setattr(virtualbox, "KERNEL", made / "proc/sys/kernel/osrelease")
    monkeypatch.setattr(virtualbox, "PROCESSOR", made / "proc/cpuinfo")
    monkeypatch.setattr(networks, "CONFIG", made / "networks.conf")
    return made


def problems() -> list[tuple[str, str]]:
    seen = virtualbox.checks(parse(CLUSTER, name="dev"))
    return [(check.subject, f"{check.text}; {check.remedy}") for check in seen if check.remedy]


def test_a_host_that_has_everything_is_usable(host: Path) -> None:
    assert problems() == []
    virtualbox.demand_usable(parse(CLUSTER, name="dev"))


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"vboxdrv": None}, "kernel modules", "/sbin/vboxconfig"),
        ({"vboxnetctl": None}, "kernel modules", "vboxnetctl"),
        ({"proc/cpuinfo": "flags : fpu lm\n"}, "virtualisation", "does not virtualise"),
        ({"kvm/parameters/enable_virt_at_load": "N\n"}, "virtualisation", "load kvm without"),
        ({"networks.conf": ""}, "network", "have root write the line '* 192.168.1.0/24' into"),
        ({"networks.conf": None}, "network", "have root write the line '* 192.168.1.0/24' into"),
    ],
)
def test_what_a_host_lacks_is_named_with_its_remedy(
    host: Path, changes: dict[str, str | None], subject: str, text: str
) -> None:
    for name, content in changes.items():
        if content is None:
            (host / name).unlink()
        else:
            (host / name).write_text(content)
    ((seen, sentence),) = problems()
    assert seen == subject
    assert text in sentence
    with pytest.raises(Problem):
        virtualbox.demand_usable(parse(CLUSTER, name="dev"))


@pytest.mark.parametrize(
    ("version", "kernel", "at_load", "is_free"),
    [
        ((7, 2, 8), "6.12.0", "Y", False),
        ((7, 2, 8), "6.12.0", "N", True),
        ((7, 2, 8), "6.12.0", None, True),
        ((7, 2, 8), "6.1.0-25", "Y", True),
        ((7, 2, 10), "6.12.0", "Y", True),
        ((7, 2, 10), "6.12.0", "N", False),
        ((7, 2, 22), "7.0.1", None, True),
    ],
)
def test_virtualbox_and_kvm_share_the_processor_as_their_versions_can(
    host: Path, version: tuple[int, ...], kernel: str, at_load: str | None, is_free: bool
) -> None:
    (host / "proc/sys/kernel/osrelease").write_text(f"{kernel}\n")
    setting = host / "kvm/parameters/enable_virt_at_load"
    setting.unlink() if at_load is None else setting.write_text(f"{at_load}\n")
    assert (virtualbox.processor(version).remedy == "") == is_free


def test_a_machine_of_kvm_keeps_the_processor(host: Path) -> None:
    files = host / "proc/4242/fd"
    files.mkdir(parents=True)
    (files.parent / "comm").write_text("qemu-system-x86\n")
    (files / "13").symlink_to("anon_inode:kvm-vm")
    ((subject, sentence),) = problems()
    assert subject == "virtualisation"
    assert "qemu-system-x86 4242" in sentence


def test_an_old_version_and_a_missing_one_are_named(host: Path, program: ScriptedProgram) -> None:
    program.answers("echo 7.0.26r168464")
    assert problems() == [("VirtualBox", f"7.0.26 is too old; {vboxmanage.INSTALL}")]
    (program.folder / "VBoxManage").unlink()
    ((subject, sentence),) = problems()
    assert subject == "VirtualBox"
    assert "no VBoxManage in PATH" in sentence


def test_doctor_says_it_in_its_table(host: Path, paths: LabPaths, empty_cache: Cache) -> None:
    (host / "vboxdrv").unlink()
    spec = parse(CLUSTER, name="dev")
    checks = {check.subject: check for check in findings(paths, empty_cache, lambda: spec, "dev")}
    assert checks["kernel modules"].verdict is Verdict.PROBLEM
    assert checks["network"].verdict is checks["virtualisation"].verdict is Verdict.GOOD
    assert "libvirt" not in checks


def test_the_stack_of_the_checkout_is_refused_before_anything_is_made(
    tmp_path: Path, host: Path
) -> None:
    if virtualbox_modules_are_loaded():
        pytest.skip("this host has VirtualBox's kernel modules")
    checkout = Checkout(tmp_path)
    done = checkout.run("bash", "-euc", "./hardway up --stack virtualbox")
    assert done.returncode == 1
    assert "there is no /dev/vboxdrv and no /dev/vboxnetctl" in done.stderr
    assert "/sbin/vboxconfig" in done.stderr
    assert not list(checkout.state.rglob("*.json"))


def virtualbox_modules_are_loaded() -> bool:
    return Path("/dev/vboxdrv").exists()


def test_an_image_of_the_labs_is_taken_where_the_stack_names_none() -> None:
    value = {**CLUSTER, "hypervisor": {"kind": "virtualbox"}}
    spec = parse(value, name="dev")
    servers = (IPv4Address("10.0.2.3"),)
    offer = Offer(
        hypervisor=VirtualBox(kind="virtualbox", image="/vms/hardway-1.vdi"),
        artifacts=ArtifactSource(),
        name_servers=servers,
    )
    file = Offer.model_validate_json(offer.written())
    seen = with_offer(spec, file)
    assert seen.hypervisor == offer.hypervisor
    assert seen.networks.name_servers == servers
    own = parse(CLUSTER, name="dev")
    assert with_offer(own, file).hypervisor == own.hypervisor
    assert with_offer(own, file).networks.name_servers == ()
    image = {"source": "debian.qcow2", "sha256": "0" * 64}
    parse({**value, "base_image": image}, name="dev")
    with pytest.raises(SpecError, match="base_image stands beside a hypervisor of the kind"):
        parse({**CLUSTER, "base_image": image}, name="dev")


def test_an_offer_of_an_image_is_no_network_of_the_labs(paths: LabPaths) -> None:
    file = offer_path(paths, "dev")
    file.parent.mkdir(parents=True)
    for where, is_there in (
        (VirtualBox(kind="virtualbox", image="a.vdi"), False),
        (Libvirt(uri="qemu:///system", image="base"), True),
    ):
        offer = Offer(hypervisor=where, artifacts=ArtifactSource())
        file.write_text(offer.written())
        assert is_in_lab(paths, "dev") == is_there
    assert not is_in_lab(paths, "another")


def test_down_removes_the_image_of_a_stack_whose_offer_goes_with_it(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = offer_path(paths, "dev")
    file.parent.mkdir(parents=True)
    where = VirtualBox(kind="virtualbox", image="/vms/hardway-1.vdi")
    file.write_text(Offer(hypervisor=where, artifacts=ArtifactSource()).written())

    class Going:
        """A stack without resources."""

        def exists(self) -> bool:
            return True

        def pulumi(self, *_: str) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess([], 0)

        def remove(self) -> None:
            file.unlink()

    removed: list[Path] = []
    monkeypatch.setattr(lifecycle, "lab_paths", lambda: paths)
    monkeypatch.setattr(lifecycle, "_has_state", lambda _: True)
    monkeypatch.setattr(lifecycle, "ready_stack", lambda *_: Going())
    monkeypatch.setattr(lifecycle, "recover", lambda *_: None)
    monkeypatch.setattr(virtualbox, "remove_unused", removed.append)
    lifecycle.down("dev", lab=False)
    assert removed == [Path("/vms/hardway-1.vdi")]
