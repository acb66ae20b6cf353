"""A larger disk grows where it is: by the real engine, libvirt's plugin and a real libvirt."""

import json
from pathlib import Path
from typing import Any

import pytest

from hypervisors.libvirt.growth import GIB, DiskError, grow
from spec.hypervisor import Libvirt
from tests.engine.session_libvirt import SessionLibvirt
from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).resolve().parents[2]
HERE = {"PYTHONPATH": str(PROJECT)}

PROGRAM = """
import components.specification
from components.specification import Specification
from hypervisors.libvirt.machines import LibvirtHypervisor
from spec.cluster import parse
from spec.hypervisor import domain_name

value = json.loads(Path("cluster.json").read_text())
if value.pop("older", None):
    kept = components.specification.kept
    names = ("spec", "founders")
    components.specification.kept = lambda spec: {name: kept(spec)[name] for name in names}
spec = parse(value, name="dev")
whole = pulumi.ComponentResource("test:index:Group", "whole")
specification = Specification(spec, ResourceOptions(parent=whole))
hypervisor = LibvirtHypervisor(spec.hypervisor, whole)
parent = pulumi.ComponentResource(
    "test:index:Group", "machines", None, ResourceOptions(depends_on=[specification])
)
for name, machine in spec.machines.items():
    hypervisor.disk(name, machine, domain=domain_name(spec.name, name), parent=parent)
"""


def connected(libvirt: SessionLibvirt, **more: Any) -> Libvirt:
    return Libvirt(uri=libvirt.uri, pool="disks", image="base", **more)


def describe(stack: EngineStack, libvirt: SessionLibvirt, *, disk: int, **more: Any) -> None:
    value: dict[str, Any] = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            "master": {"address": "192.168.1.10", "disk": disk, "roles": "ai"},
            "minion": {"address": "192.168.1.11", "disk": disk, "roles": "i"},
        },
        "hypervisor": connected(libvirt).model_dump(mode="json", exclude_none=True),
    }
    for key in more.pop("without", ()):
        del value["machines"][key]
    value["hypervisor"] |= more.pop("where", {})
    (stack.directory / "cluster.json").write_text(json.dumps(value | more))


def ids(stack: EngineStack) -> dict[str, str]:
    return {
        name: resource["id"]
        for name, resource in stack.resources().items()
        if name.endswith("-disk")
    }


def test_a_larger_disk_is_resized_and_not_made_anew(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt, disk=10)
    stack.up(environment=HERE)
    libvirt.start("dev-master", "dev-master.qcow2")
    runs, disks = libvirt.virsh("domid", "dev-master"), ids(stack)

    describe(stack, libvirt, disk=12)
    assert stack.preview(environment=HERE).steps() == {"specification": ["update"]}
    assert libvirt.size("dev-master.qcow2") == 10 * GIB
    assert stack.up(environment=HERE).steps() == {"specification": ["update"]}
    for machine in ("master", "minion"):
        assert libvirt.size(f"dev-{machine}.qcow2") == 12 * GIB
    assert f"Capacity:       {12 * GIB}" in libvirt.virsh("domblkinfo", "dev-master", "vda")
    assert (libvirt.virsh("domid", "dev-master"), ids(stack)) == (runs, disks)

    # What a refresh sees is no difference: neither to what was, nor to what it is now.
    stack.up("--refresh", environment=HERE)
    stack.preview("--refresh", "--expect-no-changes", environment=HERE)
    describe(stack, libvirt, disk=14)
    assert stack.up(environment=HERE).steps() == {"specification": ["update"]}
    assert libvirt.size("dev-master.qcow2") == 14 * GIB


def test_a_disk_that_is_made_has_its_size_and_one_that_is_lost_comes_back_with_it(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt, disk=10, without=["minion"])
    stack.up(environment=HERE)
    describe(stack, libvirt, disk=12)
    stack.up(environment=HERE)
    assert libvirt.size("dev-minion.qcow2") == 12 * GIB
    libvirt.virsh("vol-delete", "--pool", "disks", "dev-minion.qcow2")
    describe(stack, libvirt, disk=14)
    stack.up("--refresh", environment=HERE)
    assert libvirt.size("dev-minion.qcow2") == 14 * GIB
    assert libvirt.size("dev-master.qcow2") == 14 * GIB


def test_an_update_whose_libvirt_fails_half_way_is_gone_on_with(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt, disk=10)
    stack.up(environment=HERE)
    disks = ids(stack)
    libvirt.virsh("vol-resize", "--pool", "disks", "dev-master.qcow2", f"{12 * GIB}B")
    libvirt.virsh("pool-destroy", "disks")
    describe(stack, libvirt, disk=12)
    done = stack.up(fails=True, environment=HERE)
    assert "is not active" in done.errors_of("specification")
    assert "run the update again" in done.errors_of("specification")
    libvirt.virsh("pool-start", "disks")
    assert stack.up(environment=HERE).steps() == {"specification": ["update"]}
    assert {libvirt.size(f"dev-{name}.qcow2") for name in ("master", "minion")} == {12 * GIB}
    assert ids(stack) == disks


def test_what_loses_data_is_refused_by_the_engine_before_anything(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    libvirt = session_libvirt
    stack.write(PROGRAM)
    describe(stack, libvirt, disk=10, older=True)
    stack.up(environment=HERE)
    # Of an older program: the first update keeps where the machines are, and changes nothing.
    describe(stack, libvirt, disk=10)
    assert stack.up("--expect-no-changes", environment=HERE).steps() == {}
    state = stack.resources()["specification"]
    assert json.loads(state["inputs"]["hypervisor"])["pool"] == "disks"
    disks = ids(stack)
    socket = libvirt.directory / "elsewhere"
    socket.symlink_to(libvirt.directory / "libvirt" / "libvirt-sock")
    elsewhere = f"qemu+unix:///session?socket={socket}"
    for change, sentence in (
        ({"disk": 9}, "machines.master.disk is 10 GiB and cannot become 9"),
        ({"disk": 10, "where": {"pool": "other"}}, "hypervisor.pool is disks and cannot become"),
        ({"disk": 10, "where": {"uri": elsewhere}}, "hypervisor.uri is"),
    ):
        describe(stack, libvirt, **change)
        assert sentence in stack.preview(fails=True, environment=HERE).errors_of("specification")
        done = stack.up(fails=True, environment=HERE)
        errors = done.errors_of("specification")
        assert f"has a problem: {sentence}" in errors
        assert "dns_domain" not in errors, "the sentence and not the whole description"
        assert not any(name.endswith("-disk") for name in done.steps())
        assert ids(stack) == disks


def test_a_disk_of_the_same_name_is_not_taken_from_whoever_has_it(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    """The provider takes it for the one that it should make, and deletes it with the stack."""
    libvirt = session_libvirt
    stack.write(PROGRAM)
    making = ("vol-create-as", "disks", "dev-minion.qcow2", "6G", "--format", "qcow2")
    libvirt.virsh(*making)
    describe(stack, libvirt, disk=10)
    done = stack.up(fails=True, environment=HERE)
    errors = done.errors_of("specification")
    assert "dev-minion.qcow2 is in the pool disks already and is none of this stack's" in errors
    assert not ids(stack)

    describe(stack, libvirt, disk=10, without=["minion"])
    stack.up(environment=HERE)
    describe(stack, libvirt, disk=10)
    assert "is none of this stack's" in stack.up(fails=True, environment=HERE).errors_of(
        "specification"
    )
    assert list(ids(stack)) == ["master-disk"]
    libvirt.virsh("vol-delete", "--pool", "disks", "dev-minion.qcow2")
    stack.up(environment=HERE)
    stack.preview("--expect-no-changes", environment=HERE)
    assert libvirt.size("dev-minion.qcow2") == 10 * GIB


def test_a_disk_grows_whether_its_machine_runs_or_not_and_again(
    session_libvirt: SessionLibvirt,
) -> None:
    libvirt = session_libvirt
    for name in ("one", "other", "an-one"):
        libvirt.virsh(
            *("vol-create-as", "disks", f"{name}.qcow2", "4G", "--format", "qcow2"),
            *("--backing-vol", "base", "--backing-vol-format", "qcow2"),
        )
    libvirt.start("an-one", "an-one.qcow2")  # whose name ends as the other's
    grow(connected(libvirt), {"one": 5})
    assert libvirt.size("one.qcow2") == 5 * GIB
    libvirt.start("one", "one.qcow2")
    for _ in range(2):
        grow(connected(libvirt), {"one": 6, "other": 6, "lost": 7})
        assert libvirt.size("one.qcow2") == 6 * GIB
        assert libvirt.size("other.qcow2") == 6 * GIB
    grow(connected(libvirt), {"one": 5})
    assert libvirt.size("one.qcow2") == 6 * GIB


def test_a_disk_that_cannot_grow_is_told(session_libvirt: SessionLibvirt) -> None:
    libvirt = session_libvirt
    with pytest.raises(DiskError, match="Storage pool not found"):
        grow(connected(libvirt).model_copy(update={"pool": "none"}), {"one": 5})
    with pytest.raises(DiskError, match="Failed to connect socket"):
        grow(Libvirt(uri="qemu+unix:///session?socket=/nowhere", image="base"), {"one": 5})
