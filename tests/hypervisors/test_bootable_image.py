"""The base image with a boot loader, booted by that: in QEMU and in VirtualBox."""

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from hypervisors.virtualbox import machine as machines
from hypervisors.virtualbox.machine import WantedMachine
from hypervisors.virtualbox.machines import with_way_out
from lab import virtualbox
from lab.bootable import bootable_image
from lab.cache import Cache
from lab.image import DiskImage
from lab.progress import PlainProgress
from tests.hypervisors.test_virtualbox_real import User, user
from tests.hypervisors.virtualbox_host import virtualbox_host
from tests.machine.lab import at_length

__all__ = ["user", "virtualbox_host"]

pytestmark = [pytest.mark.container, at_length]

MAC = "52:54:00:aa:bb:cc"
END = "cloud-init has come to its end as"
MINUTES = 15
"""How long a test of the interpreter goes on; how far it came is said."""

REPORT = f"""{{
echo
echo '{END}' $(hostname) at $(hostname -I) on $(df -m --output=size / | tail -1) MiB
}} >/dev/ttyS0"""
USER_DATA = "#cloud-config\n" + yaml.safe_dump({"hostname": "dev-m1", "runcmd": [REPORT]})
NETWORK = yaml.safe_dump(
    {
        "version": 2,
        "ethernets": {"primary": {"match": {"macaddress": MAC}, "addresses": ["192.168.57.10/24"]}},
    }
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return bootable_image(Cache(), [], PlainProgress(), logs=tmp_path_factory.mktemp("logs"))


def come_to_its_end(console: Path, seconds: float) -> str:
    """The line of cloud-init's end, or the last lines that the machine's console has by then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        if seen := [line for line in lines if line.startswith(END)]:
            return seen[0]
        time.sleep(1)
    return "\n".join(lines[-20:])


@pytest.mark.parametrize("disk", ["virtio-blk-pci", "scsi-hd"])
def test_qemu_boots_it_without_a_kernel_beside_it(
    image: DiskImage, tmp_path: Path, disk: str
) -> None:
    overlay, console, seed = (tmp_path / name for name in ("disk", "console", "seed.iso"))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.disk, overlay, "8G"],
        check=True,
    )
    for name, text in (
        ("user-data", USER_DATA),
        ("meta-data", "instance-id: dev-m1\n"),
        ("network-config", NETWORK),
    ):
        (tmp_path / name).write_text(text)
    documents = [tmp_path / name for name in ("user-data", "meta-data", "network-config")]
    subprocess.run(
        [
            "genisoimage",
            "-quiet",
            "-output",
            seed,
            "-volid",
            "cidata",
            "-rational-rock",
            *documents,
        ],
        check=True,
    )
    machine = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "pc", "-m", "1024"]
        + [
            "-display",
            "none",
            "-monitor",
            "none",
            "-nic",
            f"user,restrict=on,model=virtio-net-pci,mac={MAC}",
        ]
        + ["-serial", f"file:{console}", "-device", "virtio-scsi-pci,id=scsi"]
        + ["-drive", f"file={overlay},if=none,id=disk,format=qcow2,cache=unsafe"]
        + ["-device", f"{disk},drive=disk,bootindex=0"]
        + ["-drive", f"file={seed},if=none,id=seed,format=raw,readonly=on"]
        + ["-device", "scsi-cd,drive=seed"],
        stdin=subprocess.DEVNULL,
    )
    try:
        line = come_to_its_end(console, 60 * MINUTES)
    finally:
        machine.kill()
        machine.wait()
    assert line.startswith(f"{END} dev-m1"), line
    assert int(line.rpartition(" on ")[2].split()[0]) > 7000, "the partition has grown"


def test_virtualbox_boots_it_from_a_differencing_disk(user: User, image: DiskImage) -> None:
    base = virtualbox.provide(image, Cache(), user.home / "log")
    assert virtualbox.provide(image, Cache(), user.home / "log") == base
    made = WantedMachine(
        name="dev-m1",
        memory=1024,
        cpus=1,
        mac=MAC,
        network="vboxnet0",
        disk=8,
        image=base,
        user_data=USER_DATA,
        meta_data="instance-id: dev-m1\n",
        network_config=with_way_out(NETWORK, machines.outside_mac(MAC)),
    )
    machines.made(made)
    console = user.home / "machines/dev-m1/console.log"
    seen = come_to_its_end(console, 60 * MINUTES)
    print(f"after at most {MINUTES} minutes of the interpreter:\n{seen}")
    assert "Linux version" in console.read_text(errors="replace"), seen
    virtualbox.remove_unused(base)
    assert base.exists(), "a machine stands on it"
    machines.removed(made.name, base)
    virtualbox.remove_unused(base)
    assert not base.exists()
