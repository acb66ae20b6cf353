"""A real libvirt of a user without rights: a pool of volumes, and machines without a system."""

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


@dataclass(frozen=True)
class SessionLibvirt:
    """A libvirt with the pool ``disks``, in which lies the base image ``base``."""

    directory: Path

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.directory}/libvirt/libvirt-sock"

    def virsh(self, *words: str | Path) -> str:
        return subprocess.run(
            ["virsh", "--quiet", "--connect", self.uri, *map(str, words)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def size(self, volume: str) -> int:
        """Of a volume, in bytes."""
        said = self.virsh("vol-info", "--bytes", "--pool", "disks", volume)
        return int(said.partition("Capacity:")[2].split()[0])

    def start(self, name: str, volume: str) -> None:
        """Start a machine that boots nothing from a disk."""
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
    with tempfile.TemporaryDirectory(prefix="libvirt-") as place:
        yield from _running(Path(place))


def _running(directory: Path) -> Iterator[SessionLibvirt]:
    disks = directory / "disks"
    disks.mkdir()
    configuration = directory / "libvirt"
    configuration.mkdir()
    (configuration / "qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\n')
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disks / "base", "4G"], check=True)
    (directory / "pool.xml").write_text(POOL.format(path=disks))
    words: list[str] = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", directory], check=True)
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # One folder for its configuration, its cache and its sockets.
    homes = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [*words, "setpriv", "--pdeathsig=TERM", DAEMON],
            env={"PATH": os.environ["PATH"], **dict.fromkeys(homes, str(directory))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as daemon,
    ):
        found = SessionLibvirt(directory)
        try:
            eventually(
                "libvirt answers",
                lambda: (directory / "libvirt/libvirt-sock").exists() or daemon.poll() is not None,
            )
            for verb in (("pool-define", directory / "pool.xml"), ("pool-start", "disks")):
                found.virsh(*verb)
            yield found
        finally:
            try:
                for name in found.virsh("list", "--name").split():
                    found.virsh("destroy", name)
            finally:
                daemon.terminate()
