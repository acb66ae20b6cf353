"""A machine of another size shuts down before it is made anew: by the real engine and libvirt."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hypervisors.libvirt.shutdown import shut_down
from hypervisors.upkeep import MachineSize
from spec.hypervisor import Libvirt
from tests.engine.session_libvirt import SessionLibvirt
from tests.engine.stack import EngineStack, eventually

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).resolve().parents[2]
HERE = {"PYTHONPATH": str(PROJECT)}

# Machines as the program makes them, without a network: that would need rights.
PROGRAM = """
import pulumi_libvirt as libvirt

from components.specification import Specification
from hypervisors.libvirt.machines import LibvirtHypervisor
from spec.cluster import parse
from spec.hypervisor import domain_name

spec = parse(json.loads(Path("cluster.json").read_text()), name="dev")
whole = pulumi.ComponentResource("test:index:Group", "whole")
specification = Specification(spec, ResourceOptions(parent=whole))
hypervisor = LibvirtHypervisor(spec.hypervisor, whole)
parent = pulumi.ComponentResource(
    "test:index:Group", "machines", None, ResourceOptions(depends_on=[specification])
)
for name, machine in spec.machines.items():
    domain = domain_name(spec.name, name)
    disk = hypervisor.disk(name, machine, domain=domain, parent=parent)
    libvirt.Domain(
        name,
        name=domain,
        type="qemu",
        vcpu=machine.cpus,
        memory=machine.memory,
        disks=[libvirt.DomainDiskArgs(volume_id=disk.id)],
        running=True,
        opts=ResourceOptions(
            parent=parent, provider=hypervisor._provider, delete_before_replace=True
        ),
    )
"""

EVENT = "event 'lifecycle' for domain "
SHUT_DOWN = "Shutdown Finished after guest request"
CUT = "Stopped Destroyed"
NAMES = ("master", "other", "third", "minion")


def describe(stack: EngineStack, libvirt: SessionLibvirt, **sizes: Any) -> None:
    machines = {
        name: {"address": f"192.168.1.{10 + number}", "roles": "i" if name == "minion" else "ai"}
        | {"memory": 1024, "disk": 8}
        | sizes.get(name, {})
        for number, name in enumerate(NAMES)
    }
    value = {
        "networks": {"machines": "192.168.1.0/24"},
        "endpoint": {"kind": "virtual-ip", "address": "192.168.1.100"},
        "machines": machines,
        "hypervisor": {"kind": "libvirt", "uri": libvirt.uri, "pool": "disks", "image": "base"},
    }
    (stack.directory / "cluster.json").write_text(json.dumps(value))


@contextmanager
def watched(libvirt: SessionLibvirt) -> Iterator[Path]:
    """What becomes of machines, as libvirt tells it."""
    file = libvirt.directory / "events"
    command = ["stdbuf", "-oL", "virsh", "--connect", libvirt.uri, "event"]
    command += ["--event", "lifecycle", "--loop"]
    with (
        file.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            yield file
        finally:
            process.terminate()


def size(libvirt: SessionLibvirt, machine: str) -> tuple[str, str, str]:
    """State, processors and memory of a machine."""
    facts = dict(
        line.split(":", 1) for line in libvirt.virsh("dominfo", f"dev-{machine}").splitlines()
    )
    state, cpus, memory = (facts[key].strip() for key in ("State", "CPU(s)", "Max memory"))
    return state, cpus, memory


RUNS = ("running", "1", f"{1024 * 1024} KiB")


def test_machines_of_another_size_shut_down_and_come_back(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt)
    stack.up(environment=HERE)
    with watched(libvirt) as file:
        describe(stack, libvirt, other={"memory": 1025}, minion={"cpus": 2})
        assert set(stack.preview(environment=HERE).steps()) == {"specification", "other", "minion"}
        assert size(libvirt, "other") == size(libvirt, "minion") == RUNS
        done = stack.up(environment=HERE)
        assert set(done.steps()) == {"specification", "other", "minion"}
        libvirt.virsh("destroy", "dev-third")
        eventually("that is told", lambda: f"'dev-third': {CUT}" in file.read_text())
    changes = [line.removeprefix(EVENT) for line in file.read_text().splitlines()]
    # The member of etcd shuts down once the others have; nothing is cut but what this test cuts.
    assert [line for line in changes if line.endswith((SHUT_DOWN, CUT))] == [
        f"'dev-minion': {SHUT_DOWN}",
        f"'dev-other': {SHUT_DOWN}",
        f"'dev-third': {CUT}",
    ]
    assert not [line for line in changes if "dev-master" in line]
    messages = [line for line in done.logged().splitlines() if "shut" in line]
    assert messages == [
        "dev-minion shuts down, to be made anew with 1024 MiB and 2 CPU",
        "dev-other shuts down, to be made anew with 1025 MiB and 1 CPU",
    ]
    assert size(libvirt, "other") == ("running", "1", f"{1025 * 1024} KiB")
    assert size(libvirt, "minion") == ("running", "2", f"{1024 * 1024} KiB")
    assert size(libvirt, "master") == RUNS


def test_an_update_that_is_cut_off_between_the_two_is_gone_on_with(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt)
    stack.up(environment=HERE)
    larger = {"other": {"memory": 1025}, "minion": {"memory": 1025}}
    describe(stack, libvirt, **larger)
    urn = stack.resources()["specification"]["urn"]
    stack.up("--target", urn, environment=HERE)
    assert size(libvirt, "other")[0] == size(libvirt, "minion")[0] == "shut off"

    # One change is taken back, after somebody started the machine: it stays as it is.
    libvirt.virsh("start", "dev-minion")
    describe(stack, libvirt, other={"memory": 1025})
    with watched(libvirt) as file:
        stack.up(environment=HERE)
        libvirt.virsh("destroy", "dev-third")
        eventually("that is told", lambda: f"'dev-third': {CUT}" in file.read_text())
        assert "dev-minion" not in file.read_text()
    assert size(libvirt, "minion") == RUNS
    assert size(libvirt, "other") == ("running", "1", f"{1025 * 1024} KiB")


def test_a_machine_that_does_not_obey_is_left_to_whoever_makes_it_anew(
    session_libvirt: SessionLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt = session_libvirt
    where = Libvirt(uri=libvirt.uri, pool="disks", image="base")
    libvirt.start("deaf", "base")
    asked = {name: MachineSize(memory=64, cpus=1) for name in ("deaf", "lost")}
    messages: list[str] = []
    shut_down(where, asked, messages.append, limit=2)
    assert messages == [
        "deaf shuts down, to be made anew with 64 MiB and 1 CPU",
        "deaf has not shut down within 2 s and will be powered off as it runs",
    ]
    for changed in (
        {"deaf": MachineSize(memory=32, cpus=1)},
        {"lost": MachineSize(memory=64, cpus=1)},
    ):
        messages.clear()
        shut_down(where, changed, messages.append, limit=2)
        assert messages == [], "it has that size already, or is not there"
    assert libvirt.virsh("domstate", "deaf").strip() == "running"

    nowhere = where.model_copy(update={"uri": "qemu+unix:///session?socket=/nowhere"})
    shut_down(nowhere, asked, messages.append)
    assert "does not say which machines run" in messages.pop()
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nowhere")
        shut_down(where, asked, messages.append)
    assert messages.pop().startswith(
        "deaf, lost will be powered off as they run: there is no program"
    )
