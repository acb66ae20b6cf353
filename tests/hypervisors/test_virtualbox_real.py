"""The adapter of VirtualBox with the real VBoxManage, on a host that has no kernel module."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hypervisors.upkeep import MachineSize
from hypervisors.virtualbox import machine as machines
from hypervisors.virtualbox import networks, removal, vboxmanage
from hypervisors.virtualbox.machine import WantedMachine
from hypervisors.virtualbox.resources import MACHINE
from hypervisors.virtualbox.upkeep import VirtualBoxUpkeep
from hypervisors.virtualbox.vboxmanage import VirtualBoxError
from lab import virtualbox
from lab.cache import Cache
from lab.image import DiskImage
from lab.paths import PROJECT
from lab.toolchain import Toolchain
from spec.cluster import mac_address
from spec.hypervisor import VirtualBox
from tests.engine.stack import EngineStack, empty_stack, eventually, stack
from tests.hypervisors.virtualbox_host import VirtualBoxHost, virtualbox_host
from tests.machine.lab import at_length

__all__ = ["empty_stack", "stack", "virtualbox_host"]

pytestmark = [pytest.mark.container, at_length]

LAN = IPv4Network("192.168.1.0/24")
DEFAULT = IPv4Network("192.168.57.0/24")
SECRET = "a host key that nobody sees"


@dataclass(frozen=True)
class User:
    """A user of the host, whose VirtualBox this process uses."""

    host: VirtualBoxHost
    environment: dict[str, str]
    home: Path

    def manage(self, *arguments: object) -> str:
        """What the user's own VBoxManage prints."""
        return self.host.manage(self.environment, *map(str, arguments))

    def listed(self, kind: str) -> list[str]:
        return self.manage("list", kind).splitlines()

    def info(self, name: str) -> dict[str, str]:
        return vboxmanage.facts(self.manage("showvminfo", name, "--machinereadable"))

    def base(self, mebibytes: int = 16) -> Path:
        """A base image of this user."""
        raw, made = self.home / "raw", self.home / "base.vdi"
        raw.write_bytes(os.urandom(2**20))
        os.truncate(raw, mebibytes * 2**20)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vdi", raw, made], check=True)
        raw.unlink()
        return made


@pytest.fixture
def user(
    virtualbox_host: VirtualBoxHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[User]:
    environment = virtualbox_host.home(tmp_path.name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = virtualbox_host.root / "etc/vbox/networks.conf"
    config.parent.mkdir(exist_ok=True)
    config.unlink(missing_ok=True)
    monkeypatch.setattr(networks, "CONFIG", config)
    # Nothing on these machines hears the power button.
    monkeypatch.setattr(machines, "POWER_BUTTON", 2.0)
    user = User(virtualbox_host, environment, Path(environment["VBOX_USER_HOME"]))
    yield user
    for uuid in vboxmanage.machines():
        machines.power_off(uuid)
    for adapter in networks.adapters():
        user.manage("hostonlyif", "remove", adapter["Name"])


def machine(base: Path, name: str = "dev-master") -> WantedMachine:
    return WantedMachine(
        name=name,
        memory=64,
        cpus=1,
        mac=mac_address(name, LAN[10]),
        network="vboxnet0",
        disk=1,
        image=base,
        user_data=SECRET,
        meta_data="instance-id: one",
        network_config="version: 2",
    )


def digest(image: Path) -> str:
    """Of what is on an image; VirtualBox writes into a file's own first bytes."""
    raw = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    content = hashlib.sha256(raw.read_bytes()).hexdigest()
    raw.unlink()
    return content


# -- networks --------------------------------------------------------------------------------------


def test_a_network_needs_a_line_of_roots_and_is_made_and_removed(user: User) -> None:
    config = networks.CONFIG
    with pytest.raises(VirtualBoxError, match=rf"have root write the line '\* {LAN}' into") as no:
        networks.made(LAN)
    assert str(config) in str(no.value)
    assert networks.adapters() == [], "nothing was made"
    config.write_text(f"* {LAN}\n")
    name = networks.made(LAN)
    assert f"{LAN[1]}/{LAN.prefixlen}" in subprocess.check_output(
        ["ip", "-o", "-4", "address", "show", "dev", name], text=True
    )
    assert not [row for row in user.listed("dhcpservers") if name in row]
    assert networks.made(LAN) == name
    assert len(networks.adapters()) == 1
    networks.removed(name, pytest.fail)
    assert networks.adapters() == []


def test_the_ranges_that_are_read_are_those_that_virtualbox_allows(user: User) -> None:
    user.manage("hostonlyif", "create")
    texts = (
        None,
        "",
        "192.168.1.0/24\n",
        "* 192.168.1.0/24",
        "* 10.0.0.0/8 192.168.0.0/16\n",
        "* 10.0.0.0/8\n* 192.168.1.0/24\n",
        "*192.168.1.0/24\n",
        "* 192.168.1.0/24,10.0.0.0/8\n",
        "* 192.168.1.0/24\r\n",
        "* 192.168.1.128/25\n",
        "# all\n* 0.0.0.0/0\n",
        "*\t192.168.1.0/24\n",
        " * 192.168.1.0/24\n",
        "*  192.168.1.0/24  ::/0\n",
    )
    seen = {}
    for text in texts:
        networks.CONFIG.unlink(missing_ok=True)
        if text is not None:
            networks.CONFIG.write_bytes(text.encode())
        try:
            networks.demand_allowed(LAN)
            ours = True
        except VirtualBoxError:
            ours = False
        seen[text] = (ours, user.host.allows("vboxnet0", "192.168.1.1"))
    assert {text: ours for text, (ours, _) in seen.items()} == {
        text: real for text, (_, real) in seen.items()
    }
    assert {real for _, real in seen.values()} == {True, False}


def test_an_adapter_that_somebody_else_made_is_used_and_stays(user: User) -> None:
    user.manage("hostonlyif", "create")
    user.manage("hostonlyif", "ipconfig", "vboxnet0", f"--ip={DEFAULT[1]}")
    assert networks.made(DEFAULT) == "vboxnet0"
    networks.removed("vboxnet0", pytest.fail)
    assert networks.has_address("vboxnet0", DEFAULT)


def test_a_network_that_the_host_reaches_otherwise_is_refused(user: User) -> None:
    networks.CONFIG.write_text("* 0.0.0.0/0\n")
    with pytest.raises(VirtualBoxError, match=r"which this host reaches by uplink; choose"):
        networks.made(IPv4Network("198.51.100.0/25"))
    user.manage("hostonlyif", "create")
    user.manage("hostonlyif", "ipconfig", "vboxnet0", "--ip=192.168.0.1", "--netmask=255.255.0.0")
    with pytest.raises(VirtualBoxError, match="of VirtualBox's adapter vboxnet0; choose"):
        networks.made(LAN)
    assert len(networks.adapters()) == 1


def test_an_adapter_in_use_stays_until_its_last_machine_is_gone(user: User) -> None:
    name = networks.made(DEFAULT)
    made = replace(machine(user.base()), network=name)
    machines.made(made)
    lines: list[str] = []
    networks.removed(name, lines.append)
    assert lines == [f"the adapter {name} stays, since the machine dev-master uses it"]
    machines.removed(made.name, made.image)
    networks.removed(name, pytest.fail)
    assert networks.adapters() == []


# -- a machine's life ------------------------------------------------------------------------------


def test_a_machine_is_made_changed_read_and_removed(user: User) -> None:
    base = user.base()
    before, made = digest(base), machine(base)
    identifier = machines.made(made)
    seen = machines.member(made.uuid, identifier)
    assert seen is not None
    assert seen.state == "running"
    assert user.host.processes("VirtualBoxVM", user.environment)
    info = user.info("dev-master")
    wanted = {
        "memory": "64",
        "cpus": "1",
        "nic2": "nat",
        "macaddress1": made.mac.replace(":", "").upper(),
        "nictype1": "virtio",
        "hostonlyadapter1": "vboxnet0",
        "storagecontrollertype0": "VirtioSCSI",
        "firmware": "BIOS",
    }
    assert {key: info[key] for key in wanted} == wanted
    disk = vboxmanage.details(user.manage("showmediuminfo", "disk", identifier))
    assert disk["Type"] == "normal (differencing)"
    assert (disk["Auto-Reset"], disk["Capacity"]) == ("off", "1024 MBytes")
    seed = user.home / "machines/dev-master/seed.iso"
    assert seed.stat().st_mode & 0o777 == 0o600
    assert SECRET.encode() in seed.read_bytes()
    label = subprocess.check_output(["blkid", "-o", "value", "-s", "LABEL", seed], text=True)
    assert label == "cidata\n"
    assert not [line for line in user.listed("dvds") if ".viso" in line]

    lines: list[str] = []
    machines.changed(made.uuid, replace(made, memory=96, cpus=2, disk=2), lines.append)
    assert len(lines) == 1, "it does not hear the power button"
    info = user.info("dev-master")
    assert (info["memory"], info["cpus"], info["VMState"]) == ("96", "2", "running")
    disk = vboxmanage.details(user.manage("showmediuminfo", "disk", identifier))
    assert disk["Capacity"] == "2048 MBytes"
    machines.changed(made.uuid, replace(made, memory=96, cpus=2, disk=1), pytest.fail)

    machines.removed(made.name, base)
    assert user.listed("vms") == user.listed("hdds") == user.listed("dvds") == []
    assert list((user.home / "machines").iterdir()) == []
    assert not user.host.processes("VirtualBoxVM", user.environment)
    assert digest(base) == before
    machines.removed(made.name, base)


def off(user: User, name: str = "dev-master") -> bool:
    return user.info(name)["VMState"] in ("poweroff", "aborted")


@pytest.mark.parametrize("verb", ["poweroff", "pause", "savestate", "kill"])
def test_a_machine_that_does_not_run_is_started_with_its_disk(user: User, verb: str) -> None:
    made = machine(user.base())
    identifier = machines.made(made)
    if verb == "kill":
        for process in user.host.processes("VirtualBoxVM", user.environment):
            os.kill(process, signal.SIGKILL)
        eventually("VirtualBox sees its end", lambda: off(user))
    else:
        user.manage("controlvm", "dev-master", verb)
    seen = machines.member(made.uuid, identifier)
    assert seen is not None
    assert seen.state != "running"
    machines.changed(made.uuid, made, pytest.fail)
    seen = machines.member(made.uuid, identifier)
    assert seen is not None
    assert seen.state == "running"


def test_what_was_changed_by_hand_is_read_and_set_again(user: User) -> None:
    made = machine(user.base())
    identifier = machines.made(made)
    user.manage("controlvm", "dev-master", "poweroff")
    # VirtualBox keeps a machine locked for some seconds after its end.
    vboxmanage.call("modifyvm", "dev-master", "--memory=32", "--mac-address1=auto")
    seen = machines.member(made.uuid, identifier)
    assert seen is not None
    assert seen.memory == 32
    assert seen.mac != made.mac
    machines.changed(made.uuid, made, pytest.fail)
    seen = machines.member(made.uuid, identifier)
    assert seen is not None
    assert (seen.memory, seen.mac, seen.state) == (64, made.mac, "running")


@pytest.mark.parametrize("lost", ["machine", "settings", "disk", "another disk"])
def test_a_machine_that_is_gone_is_made_anew(user: User, lost: str) -> None:
    made = machine(user.base())
    identifier = machines.made(made)
    folder = user.home / "machines/dev-master"
    machines.power_off(made.uuid)
    if lost == "machine":
        vboxmanage.call("unregistervm", made.uuid, "--delete-all")
    elif lost == "settings":
        (folder / "dev-master.vbox").unlink()
        user.host.kill_server(user.environment)  # it has read the file
    elif lost == "disk":
        (folder / "dev-master.vdi").unlink()
    else:
        attach = ["storageattach", made.uuid, "--storagectl=VirtIO", "--port=0", "--device=0"]
        vboxmanage.call(*attach, "--medium=none")
    assert machines.member(made.uuid, identifier) is None
    another = machines.made(made)
    assert another != identifier
    assert machines.member(made.uuid, another) is not None
    assert machines.member(made.uuid, identifier) is None
    machines.removed(made.name, made.image)
    assert user.listed("vms") == user.listed("hdds") == user.listed("dvds") == []
    assert list((user.home / "machines").iterdir()) == []


def test_a_name_that_is_taken_is_refused(user: User) -> None:
    upkeep = VirtualBoxUpkeep(VirtualBox(kind="virtualbox", image="base.vdi"))
    upkeep.refuse_taken(["dev-master", "dev-minion1"])
    user.manage("createvm", "--name=dev-master", "--register")
    # VirtualBox itself takes a name twice.
    user.manage(
        "createvm", "--name=dev-master", "--register", f"--basefolder={user.home / 'others'}"
    )
    with pytest.raises(VirtualBoxError, match="VirtualBox has a machine dev-master already"):
        upkeep.refuse_taken(["dev-minion1", "dev-master"])


def test_machines_of_another_size_are_shut_down_before(user: User) -> None:
    made = machine(user.base())
    machines.made(made)
    upkeep = VirtualBoxUpkeep(VirtualBox(kind="virtualbox", image="base.vdi"))
    upkeep.shut_down({"dev-master": MachineSize(64, 1), "dev-gone": MachineSize(1, 1)}, pytest.fail)
    lines: list[str] = []
    upkeep.shut_down({"dev-master": MachineSize(96, 1)}, lines.append)
    assert lines[0] == "dev-master shuts down, to get 96 MiB and 1 CPU"
    assert "will be powered off as it runs" in lines[1], "it does not hear the power button"


# -- the base image --------------------------------------------------------------------------------


def test_the_base_outlives_its_last_machine(user: User) -> None:
    base = user.base()
    before = digest(base)
    first, second = machine(base), machine(base, "dev-minion1")
    for made in (first, second):
        machines.made(made)
    known = vboxmanage.details(user.manage("showmediuminfo", "disk", str(base)))
    assert known["Type"] == "immutable"
    machines.removed(first.name, base)
    assert machines.observed(second.uuid).state == "running"
    machines.removed(second.name, base)
    assert digest(base) == before
    # Without that VirtualBox deletes it.
    identifier = machines.made(first)
    machines.power_off(first.uuid)
    vboxmanage.call("modifymedium", "disk", base, "--type=normal")
    assert machines.member(first.uuid, identifier) is not None
    vboxmanage.call("unregistervm", first.uuid, "--delete-all")
    assert not base.exists()


def test_a_disk_is_not_emptied_at_a_start(user: User) -> None:
    made = machine(user.base())
    disk = f"--disk={machines.made(made)}"

    def after_a_start() -> str:
        machines.start(made.uuid)
        machines.power_off(made.uuid)
        return vboxmanage.call("mediumio", disk, "cat", "--hex", "--size=512")

    machines.power_off(made.uuid)
    empty = vboxmanage.call("mediumio", disk, "cat", "--hex", "--size=512")
    vboxmanage.call("mediumio", disk, "formatfat", "--quick")
    written = vboxmanage.call("mediumio", disk, "cat", "--hex", "--size=512")
    assert written != empty
    assert after_a_start() == written
    # What VirtualBox does to the disks of an immutable image by default.
    vboxmanage.call("modifymedium", "disk", disk.partition("=")[2], "--autoreset=on")
    assert after_a_start() == empty


def test_the_labs_image_is_kept_as_long_as_a_machine_stands_on_it(user: User) -> None:
    base = user.base()
    image = DiskImage(hashlib.sha256(base.read_bytes()).hexdigest(), base, "vdi", None, None)
    placed = virtualbox.provide(image, Cache(), user.home / "log")
    assert virtualbox.provide(image, Cache(), user.home / "log") == placed
    assert digest(placed) == digest(base)
    made = machine(placed)
    machines.made(made)
    virtualbox.remove_unused(placed)
    assert placed.is_file()
    machines.removed(made.name, placed)
    virtualbox.remove_unused(placed)
    assert not placed.exists()
    virtualbox.remove_unused(base)
    assert base.is_file(), "it is a person's own"


def test_a_base_of_the_same_path_and_other_content_is_taken(user: User) -> None:
    base = user.base()
    made = machine(base)
    machines.made(made)
    machines.removed(made.name, base)
    vboxmanage.call("modifymedium", "disk", base, "--type=immutable")  # VirtualBox knows it
    user.base()
    machines.made(made)
    machines.removed(made.name, base)
    assert user.listed("hdds") == []


def test_a_base_that_is_missing_or_larger_than_a_disk_is_refused(user: User) -> None:
    base = user.base(3 * 1024)
    with pytest.raises(VirtualBoxError, match="does not fit on a disk of 1 GiB; write 3 or more"):
        machines.made(machine(base))
    base.unlink()
    with pytest.raises(VirtualBoxError, match=f"there is no base image {base}; write the path"):
        machines.made(machine(base))
    assert user.listed("vms") == []
    assert not (user.home / "machines/dev-master").exists()


# -- what is cut off, and what happens at once -----------------------------------------------------


def test_a_creation_can_be_cut_off_after_any_call(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine(user.base())
    calls: list[object] = []

    def cut_off_after(number: int) -> None:
        def call(*arguments: object) -> str:
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(arguments)
            return vboxmanage.call(*arguments)

        calls.clear()
        monkeypatch.setattr(machines, "call", call)

    whole = 0
    while True:
        cut_off_after(whole)
        try:
            identifier = machines.made(made)
        except KeyboardInterrupt:
            whole += 1
            continue
        finally:
            monkeypatch.setattr(machines, "call", vboxmanage.call)
        break
    assert whole > 10, "it was cut off in all of these"
    assert machines.member(made.uuid, identifier) is not None
    assert len(user.listed("vms")) == 1
    assert len(vboxmanage.blocks(user.manage("list", "hdds"))) == 2, "the base and the disk"
    machines.removed(made.name, made.image)
    assert user.listed("vms") == user.listed("hdds") == user.listed("dvds") == []
    assert list((user.home / "machines").iterdir()) == []


def test_a_complete_machine_that_nobody_wrote_down_is_taken_over(user: User) -> None:
    made = machine(user.base())
    identifier = machines.made(made)
    assert machines.made(made) == identifier
    another = replace(made, user_data="of another key")
    assert machines.made(another) != identifier


def test_recovery_removes_a_half_made_machine(user: User) -> None:
    base = user.base()
    user.manage("createvm", "--name=dev-master", f"--uuid={machine(base).uuid}", "--register")
    inputs = {"name": "dev-master", "image": str(base)}
    assert len(list(removal.remove(MACHINE, inputs, PROJECT))) == 1
    assert user.listed("vms") == []
    assert list(removal.remove(MACHINE, inputs, PROJECT)) == []
    assert list(removal.remove("another:type", inputs, PROJECT)) == []


IN_ITS_OWN_PROCESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hypervisors.virtualbox import machine as machines

def made(name):
    return machines.made(machines.WantedMachine(
        name=name, memory=32, cpus=1, mac="52:54:00:00:00:01", network="vboxnet0", disk=1,
        image=Path(sys.argv[1]), user_data="", meta_data="", network_config="",
    ))

with ThreadPoolExecutor() as pool:
    for identifier in pool.map(made, sys.argv[2:]):
        print(identifier)
"""


def test_two_clusters_are_made_at_once_while_the_server_does_not_run(user: User) -> None:
    base = user.base()
    user.host.kill_server(user.environment)
    names = [["one-a", "one-b", "one-c"], ["two-a", "two-b", "two-c"]]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", IN_ITS_OWN_PROCESS, base, *some],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for some in names
    ]
    for process, some in zip(running, names, strict=True):
        text, _ = process.communicate()
        assert process.returncode == 0
        for name, identifier in zip(some, text.split(), strict=True):
            seen = machines.member(machines.uuid_of(name), identifier)
            assert seen is not None
            assert seen.state == "running"
    for name in (name for some in names for name in some):
        machines.removed(name, base)
    assert user.listed("vms") == user.listed("hdds") == []


def test_a_server_that_is_killed_meanwhile_is_started_again(user: User) -> None:
    made = machine(user.base())
    machines.made(made)
    user.host.kill_server(user.environment)
    # The machine runs on, and the next server knows nothing of that.
    assert user.host.processes("VirtualBoxVM", user.environment)
    machines.removed(made.name, made.image)
    assert not user.host.processes("VirtualBoxVM", user.environment)
    assert user.listed("vms") == user.listed("hdds") == []
    identifier = machines.made(made)
    assert machines.member(made.uuid, identifier) is not None


# -- through the engine ----------------------------------------------------------------------------

PROGRAM = """
from ipaddress import IPv4Network
from hypervisors.port import ClusterKey, Seed, Subnet
from hypervisors.virtualbox.machines import VirtualBoxHypervisor
from spec.cluster import Machine
from spec.hypervisor import VirtualBox

values = json.loads(Path("values.json").read_text())
cluster = pulumi.ComponentResource("test:index:Cluster", "cluster")
subnet = Subnet(
    resource="network", name="dev", addresses=IPv4Network("192.168.57.0/24"), is_routed=False
)
where = VirtualBoxHypervisor(VirtualBox(kind="virtualbox", image=values["image"]), cluster)
where.machine(
    "m1",
    Machine(address="192.168.57.10", memory=values["memory"], disk=1),
    domain="dev-m1",
    network=where.network(subnet, cluster),
    mac="52:54:00:aa:bb:cc",
    seed=Seed(
        user_data=Output.secret(values["secret"]),
        meta_data="instance-id: dev-m1",
        network_config="{version: 2, ethernets: {primary: {addresses: [192.168.57.10/24]}}}",
    ),
    key=ClusterKey(public="public", private=Output.secret("private")),
    parent=cluster,
)
"""


@pytest.mark.engine
def test_the_engine_makes_changes_and_removes_a_machine(
    user: User, stack: EngineStack, toolchain: Toolchain
) -> None:
    base = user.base()

    def wanted(memory: int) -> None:
        values = {"image": str(base), "memory": memory, "secret": SECRET}
        (stack.directory / "values.json").write_text(json.dumps(values))

    with_host = {
        **user.environment,
        "PATH": f"{user.host.path}:{toolchain.environment()['PATH']}",
        "PYTHONPATH": os.fspath(PROJECT),
    }
    wanted(64)
    stack.write(PROGRAM)
    done = stack.up(environment=with_host)
    assert (done.steps()["m1"], done.steps()["network"]) == (["create"], ["create"])
    assert user.info("dev-m1")["VMState"] == "running"
    assert stack.preview("--expect-no-changes", environment=with_host).status == 0
    refreshed = stack.up("--refresh", environment=with_host).steps()
    assert {op for ops in refreshed.values() for op in ops} == {"refresh"}, refreshed
    assert SECRET not in stack.state() + done.text + done.logged()
    identifier = stack.resources()["m1"]["id"]

    user.manage("controlvm", "dev-m1", "poweroff")
    seen = stack.preview("--refresh", "--diff", environment=with_host)
    assert re.search(r"running\s*: false => true", seen.text), seen.text
    assert "update" in stack.up("--refresh", environment=with_host).steps()["m1"]
    assert user.info("dev-m1")["VMState"] == "running"

    machines.power_off(machines.uuid_of("dev-m1"))  # nothing on it hears the power button
    wanted(96)
    seen = stack.preview("--diff", environment=with_host)
    assert re.search(r"memory\s*: 64 => 96", seen.text), seen.text
    assert stack.up(environment=with_host).steps()["m1"] == ["update"]
    assert (user.info("dev-m1")["memory"], stack.resources()["m1"]["id"]) == ("96", identifier)

    # As after a reboot of the host.
    subprocess.run(["ip", "address", "flush", "dev", "vboxnet0"], check=True)
    assert "update" in stack.up("--refresh", environment=with_host).steps()["network"]
    assert networks.has_address("vboxnet0", DEFAULT)

    machines.removed("dev-m1", base)
    assert stack.up("--refresh", environment=with_host).steps()["m1"] == ["refresh", "create"]
    assert stack.resources()["m1"]["id"] != identifier, "its steps run again"

    stack.destroy(environment=with_host)
    assert user.listed("vms") == user.listed("hdds") == user.listed("dvds") == []
    assert networks.adapters() == []
    assert base.is_file()
