"""Libvirt on several hosts: one cluster's machines on two computers, by SSH and over a router."""

import json
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from hypervisors.libvirt import removal, virsh
from hypervisors.libvirt.growth import GIB
from hypervisors.libvirt.resources import VOLUME
from lab import namespace, storage_pool
from lab.cache import sha256_of
from lab.image import DiskImage
from lab.paths import PROJECT
from lab.problem import Problem
from lab.progress import PlainProgress
from spec.hypervisor import Libvirt
from tests.engine.session_libvirt import BOOT_SECTOR
from tests.engine.stack import EngineStack, empty_stack, stack
from tests.hypervisors.apart import ROUTER, RoutedHost, apart

__all__ = ["empty_stack", "stack"]

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(1800)]

SUBNETS = (IPv4Network("192.168.1.0/24"), IPv4Network("192.168.2.0/24"))
HERE = {"PYTHONPATH": str(PROJECT)}

PROGRAM = """
from components.specification import Specification
from components.network import Network, NetworkArgs
from hypervisors.makers import makers
from hypervisors.port import ClusterKey, Seed
from spec.cluster import mac_address, parse
from spec.hypervisor import domain_name

spec = parse(json.loads(Path("cluster.json").read_text()), name="dev")
whole = pulumi.ComponentResource("test:index:Group", "whole")
specification = Specification(spec, ResourceOptions(parent=whole))
below = ResourceOptions(parent=whole, depends_on=[specification])
networks = {}
for name, hypervisor in makers(spec, whole).items():
    machine = spec.machines[name]
    label = spec.network_label_of(name)
    if label not in networks:
        subnet = spec.subnet_of(name)
        networks[label] = Network(
            NetworkArgs(cluster="dev", addresses=subnet, label=label,
                        is_routed=bool(spec.networks.routed), bridge=spec.networks.bridge,
                        hypervisor=hypervisor),
            below,
        )
    hypervisor.machine(
        name,
        machine,
        domain=domain_name("dev", name),
        network=networks[label].identifier,
        bridge=spec.networks.bridge,
        mac=mac_address("dev", machine.address),
        seed=Seed(user_data=Output.secret("#cloud-config"), meta_data="", network_config=""),
        key=ClusterKey(public="", private=""),
        parent=pulumi.ComponentResource("test:index:Group", name, None, below),
    )
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RoutedHost]]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with apart(*SUBNETS) as every, at_the_router():
        for host in every:
            give_base_image(host, tmp_path_factory.mktemp("base") / "base")
        yield every


def give_base_image(host: RoutedHost, file: Path) -> None:
    file.write_bytes(BOOT_SECTOR)
    pool = host.libvirt.pool
    host.virsh("vol-create-as", pool, "base", "4G", "--format", "raw")
    host.virsh("vol-upload", "--pool", pool, "base", str(file))


class at_the_router:  # noqa: N801  # used as a function
    """Programs that this process starts are in the router's network namespace."""

    def __enter__(self) -> None:
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespace.enter(namespace.NAMESPACES / ROUTER)

    def __exit__(self, *_: object) -> None:
        namespace.enter(Path(f"/proc/self/fd/{self._own}"))
        os.close(self._own)


def describe(
    stack: EngineStack, hosts: list[RoutedHost], **machines: dict[str, Any] | None
) -> None:
    near, far = (
        {"uri": host.uri, "pool": host.libvirt.pool, "image": "base", "image_format": "raw"}
        for host in hosts
    )
    every: dict[str, Any] = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 1024},
        "minion": {"address": "192.168.2.11", "memory": 512, "hypervisor": far},
    }
    for name, more in machines.items():
        if more is None:
            del every[name]
        else:
            every[name] = {**every.get(name, {"hypervisor": far}), **more}
    value = {
        "hypervisor": near,
        "networks": {"machines": [*map(str, SUBNETS)], "routed": True},
        "machines": every,
    }
    (stack.directory / "cluster.json").write_text(json.dumps(value))


def test_machines_of_one_cluster_are_made_resized_and_removed_on_two_hosts(
    stack: EngineStack, hosts: list[RoutedHost]
) -> None:
    near, far = hosts
    stack.write(PROGRAM)
    describe(stack, hosts)
    stack.up(environment=HERE)
    assert (near.names("list"), far.names("list")) == ({"dev-master"}, {"dev-minion"})
    assert "dev" in near.names("net-list")
    (network,) = far.names("net-list") - near.names("net-list")
    assert "<forward mode='route'" in far.virsh("net-dumpxml", network)
    stack.preview("--expect-no-changes", environment=HERE)

    describe(stack, hosts, minion={"disk": 12}, other={"address": "192.168.2.12", "memory": 512})
    steps = stack.up(environment=HERE).steps()
    assert "minion-disk" not in steps, "it grows in place"
    assert far.names("list") == {"dev-minion", "dev-other"}
    size = far.virsh("vol-info", "--bytes", "--pool", far.libvirt.pool, "dev-minion.qcow2")
    assert str(12 * GIB) in size

    describe(stack, hosts, minion={"disk": 12, "memory": 1024})
    assert set(stack.up(environment=HERE).steps()) >= {"minion", "other"}
    assert far.names("list") == {"dev-minion"}
    assert "1048576 KiB" in far.virsh("dominfo", "dev-minion")

    describe(stack, hosts, minion=None)
    stack.up(environment=HERE)
    assert far.names("list", "--all") == set()
    assert far.names("net-list", "--all") == near.names("net-list", "--all") - {"dev"}
    assert near.names("list") == {"dev-master"}
    stack.write("")
    stack.up(environment=HERE)
    assert near.names("list", "--all") == set()


def test_what_a_cut_off_update_left_on_another_host_is_removed_there(
    hosts: list[RoutedHost],
) -> None:
    near, far = hosts
    for host in hosts:
        host.virsh("vol-create-as", host.libvirt.pool, "half.qcow2", "1M", "--format", "qcow2")
    (line,) = removal.remove(far.uri, far.libvirt.pool, VOLUME, {"name": "half.qcow2"})
    assert "half-made" in line
    volumes = [host.virsh("vol-list", host.libvirt.pool) for host in (near, far)]
    assert ["half.qcow2" in listed for listed in volumes] == [True, False]
    near.virsh("vol-delete", "--pool", near.libvirt.pool, "half.qcow2")


def test_a_host_with_another_key_is_not_talked_to(hosts: list[RoutedHost]) -> None:
    near, far = hosts
    wrong = near.uri.replace(str(near.known_hosts), str(far.known_hosts))
    done = virsh.ask(wrong, "list", timeout=60)
    assert done is not None
    assert done.returncode != 0
    assert "Host key verification failed" in done.stderr
    right = virsh.ask(far.uri, "uri", timeout=60)
    assert right is not None
    assert right.returncode == 0, right.stderr


def overlaid(host: RoutedHost, disk: str) -> str:
    """What libvirt says of the image below a machine's disk."""
    described = host.virsh("vol-dumpxml", "--pool", host.libvirt.pool, disk)
    return described[described.index("<backingStore>") :]


def test_the_base_image_is_brought_to_each_host_once_and_leaves_with_its_last_machine(
    hosts: list[RoutedHost], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "3G"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 0 4M", disk], check=True, capture_output=True)
    digest = sha256_of(disk)
    image = DiskImage(digest, disk, "qcow2", None, None)
    libvirts = [Libvirt(uri=host.uri, pool=host.libvirt.pool) for host in hosts]
    near, far = hosts
    # An earlier update was cut off in the middle of its way to the second host.
    name = f"base-{digest[:16]}.qcow2"
    half = tmp_path / "half"
    half.write_bytes(disk.read_bytes()[: 2 * 2**20])
    far.virsh("vol-create-as", far.libvirt.pool, name, "1M", "--format", "qcow2")
    far.virsh("vol-upload", "--pool", far.libvirt.pool, name, str(half))

    assert storage_pool.bring(image, libvirts, PlainProgress()) == name
    for host in hosts:
        path = host.virsh("vol-path", "--pool", host.libvirt.pool, name).strip()
        assert sha256_of(Path(path)) == digest
        size = host.virsh("vol-info", "--bytes", "--pool", host.libvirt.pool, name)
        assert str(3 * GIB) in size, "libvirt knows the disk in it"
        options = ("--backing-vol", name, "--backing-vol-format", "qcow2", "--format", "qcow2")
        host.virsh("vol-create-as", host.libvirt.pool, "over.qcow2", "3G", *options)
        assert "<format type='qcow2'/>" in overlaid(host, "over.qcow2")
    before = Path(path).stat().st_mtime_ns
    storage_pool.bring(image, libvirts, PlainProgress())
    assert Path(path).stat().st_mtime_ns == before

    near.virsh("vol-delete", "--pool", near.libvirt.pool, "over.qcow2")
    storage_pool.remove_unused(name, libvirts)
    volumes = [host.virsh("vol-list", host.libvirt.pool) for host in hosts]
    assert [digest[:16] in listed for listed in volumes] == [False, True], "one is in use"
    far.virsh("vol-delete", "--pool", far.libvirt.pool, "over.qcow2")
    for _ in range(2):
        storage_pool.remove_unused(name, libvirts)
    assert digest[:16] not in far.virsh("vol-list", far.libvirt.pool)


def test_a_libvirt_that_cannot_be_asked_is_named(hosts: list[RoutedHost], tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"disk")
    image = DiskImage("0" * 64, tmp_path / "disk", "qcow2", None, None)
    near, far = hosts
    wrong = near.uri.replace(str(near.known_hosts), str(far.known_hosts))
    with pytest.raises(Problem, match=r"cannot take the base image .*Host key verification failed"):
        storage_pool.bring(image, [Libvirt(uri=wrong)], PlainProgress())
