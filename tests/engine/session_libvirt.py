"""A real libvirt of a user without rights: a pool of volumes, and machines without a system.

All that machines do, where they have ACPI at all, is to obey their power button.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.stack import eventually

NOBODY = "65534"
DAEMON = shutil.which("libvirtd", path="/usr/sbin:/usr/bin") or "libvirtd"

POOL = "<pool type='dir'><name>disks</name><target><path>{path}</path></target></pool>"
MACHINE = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices>
<disk type='volume' device='disk'><driver type='qcow2'/>
<source pool='disks' volume='{volume}'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>"""

BOOT_SECTOR = bytes.fromhex(
    "ba0206 b80001 ef"  # out 0x602, 0x100: the power button is noted (PM1 Enable, PWRBTN_EN)
    "fb f4"  # sti, hlt: until the clock ticks
    "ba0006 ed f6c401 74f5"  # in 0x600: again, unless it was pressed (PM1 Status, PWRBTN_STS)
    "ba0406 b80020 ef"  # out 0x604, 0x2000: off (PM1 Control, SLP_EN with QEMU's SLP_TYP of S5)
    "ebfe"
).ljust(510, b"\0") + bytes.fromhex("55aa")
"""What the BIOS starts of the base image: SeaBIOS puts ACPI's registers at port 0x600."""


@dataclass(frozen=True)
class SessionLibvirt:
    """A libvirt with the pool ``disks``, in which lies the base image ``base``."""

    directory: Path

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.directory}/libvirt/libvirt-sock"

    def virsh(self, *arguments: str | Path) -> str:
        return subprocess.run(
            ["virsh", "--quiet", "--connect", self.uri, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def size(self, volume: str) -> int:
        """Of a volume, in bytes."""
        output = self.virsh("vol-info", "--bytes", "--pool", "disks", volume)
        return int(output.partition("Capacity:")[2].split()[0])

    def start(self, name: str, volume: str) -> None:
        """Start a machine without ACPI from a disk."""
        definition = self.directory / f"{name}.xml"
        definition.write_text(MACHINE.format(name=name, volume=volume))
        self.virsh("define", definition)
        self.virsh("start", name)


@pytest.fixture
def session_libvirt() -> Iterator[SessionLibvirt]:
    for program in ("libvirtd", "virsh", "qemu-img", "qemu-system-x86_64"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"the program {program} is missing")
    # A socket's path is short, and whoever runs the daemon comes to it.
    with tempfile.TemporaryDirectory(prefix="libvirt-") as name:
        yield from _running(Path(name))


def _running(directory: Path) -> Iterator[SessionLibvirt]:
    disks = directory / "disks"
    disks.mkdir()
    configuration = directory / "libvirt"
    configuration.mkdir()
    (configuration / "qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\n')
    (directory / "sector").write_bytes(BOOT_SECTOR)
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
    subprocess.run([*convert, directory / "sector", disks / "base"], check=True)
    subprocess.run(["qemu-img", "resize", "-q", disks / "base", "4G"], check=True)
    (directory / "pool.xml").write_text(POOL.format(path=disks))
    as_nobody = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", directory], check=True)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # One folder for its configuration, its cache and its sockets.
    homes = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [*as_nobody, "setpriv", "--pdeathsig=TERM", DAEMON],
            env={"PATH": os.environ["PATH"], **dict.fromkeys(homes, str(directory))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as daemon,
    ):
        libvirt = SessionLibvirt(directory)
        try:
            eventually(
                "libvirt answers",
                lambda: (directory / "libvirt/libvirt-sock").exists() or daemon.poll() is not None,
            )
            for verb in (("pool-define", directory / "pool.xml"), ("pool-start", "disks")):
                libvirt.virsh(*verb)
            yield libvirt
        finally:
            try:
                for name in libvirt.virsh("list", "--name").split():
                    libvirt.virsh("destroy", name)
            finally:
                daemon.terminate()
