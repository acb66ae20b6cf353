"""A seed disk is written to libvirt and never read back: by the real engine and plugin."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.session_libvirt import SessionLibvirt
from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

UPLOAD, DOWNLOAD = 208, 209
"""REMOTE_PROC_STORAGE_VOL_UPLOAD and _DOWNLOAD of libvirt's remote_protocol.x."""

PROGRAM = """
import pulumi_libvirt as libvirt

provider = libvirt.Provider("libvirt", uri=Path("uri").read_text())
for number in range(6):
    libvirt.CloudInitDisk(
        f"seed-{number}",
        name=f"dev-{number}-seed.iso",
        pool="disks",
        user_data=f"#cloud-config\\nhostname: machine-{number}\\n",
        meta_data=f"instance-id: {number}\\n",
        network_config="version: 2\\n",
        opts=ResourceOptions(provider=provider),
    )
"""


class ProcedureCounter:
    """Passes on what a client of libvirt says, and counts the procedures that it calls."""

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self.procedures: list[int] = []

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._behind))
            for work, ends in ((self._calls, (client, server)), (self._answers, (server, client))):
                threading.Thread(target=work, args=ends, daemon=True).start()

    def _calls(self, client: socket.socket, server: socket.socket) -> None:
        """A message: its length, program, version, procedure, type, serial, status, the rest."""
        with client.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                rest = stream.read(struct.unpack(">I", head)[0] - 4)
                _, _, procedure, kind = struct.unpack_from(">4I", rest)
                if kind == 0:  # a call, and no data of a stream
                    self.procedures.append(procedure)
                server.sendall(head + rest)
        server.close()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        while message := server.recv(65536):
            client.sendall(message)


@contextmanager
def recorded(libvirt: SessionLibvirt) -> Iterator[tuple[str, ProcedureCounter]]:
    """Another socket of a libvirt, and the calls that came through it."""
    path = libvirt.directory / "recorded"
    calls = ProcedureCounter(libvirt.directory / "libvirt/libvirt-sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=calls.serve, args=(listener,), daemon=True)
        server.start()
        yield f"qemu+unix:///session?socket={path}", calls
        listener.shutdown(socket.SHUT_RDWR)
        server.join(timeout=600)


def test_a_seed_is_uploaded_and_not_downloaded(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    stack.write(PROGRAM)
    with recorded(session_libvirt) as (uri, calls):
        (stack.directory / "uri").write_text(uri)
        stack.up(environment=here)
        assert calls.procedures.count(UPLOAD) == 6
        stack.preview("--refresh", "--expect-no-changes", environment=here)
        assert DOWNLOAD not in calls.procedures
    seeds = {
        n: resource["outputs"] for n, resource in stack.resources().items() if n.startswith("seed-")
    }
    assert len(seeds) == 6
    for name, outputs in seeds.items():
        number = name.removeprefix("seed-")
        assert outputs["userData"] == f"#cloud-config\nhostname: machine-{number}\n"
        assert (outputs["name"], outputs["pool"]) == (f"dev-{number}-seed.iso", "disks")


MACHINE = """
from hypervisors.libvirt import machines
from hypervisors.port import ClusterKey, Seed
from spec.cluster import parse
from spec.hypervisor import Libvirt


def domain(resource, *, disks, opts, **rest):
    # A domain is replaced where the volumes of its disks are others.
    return pulumi.Stash(
        resource,
        input=Output.all(*(disk.volume_id for disk in disks)),
        opts=ResourceOptions(parent=opts.parent),
    )


machines.libvirt.Domain = domain
values = json.loads(Path("values.json").read_text())
spec = parse(
    {"networks": {"machines": "192.168.1.0/24"}, "machines": {"m": {"address": "192.168.1.10"}}},
    name="dev",
)
whole = pulumi.ComponentResource("test:index:Group", "whole")
hypervisor = machines.LibvirtHypervisor(Libvirt(**values["libvirt"]), whole)
hypervisor.machine(
    "m",
    spec.machines["m"],
    domain="dev-m",
    network="none",
    mac="52:54:00:00:00:01",
    seed=Seed(
        user_data=Output.secret(values["user_data"]), meta_data="a: b\\n", network_config="c: d\\n"
    ),
    key=ClusterKey(public="", private=""),
    parent=whole,
)
"""


def test_other_keys_leave_a_living_machine_and_are_in_the_next_seed(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    stack.write(MACHINE)

    def write(key: int) -> None:
        user_data = f"#cloud-config\nssh_authorized_keys: [{key}]\n"
        where = {"uri": session_libvirt.uri, "pool": "disks", "image": "base"}
        values = {"libvirt": where, "user_data": user_data}
        (stack.directory / "values.json").write_text(json.dumps(values))

    def seeded() -> str:
        """What the seed in the pool says, as a machine reads it."""
        file = stack.directory / "seed.iso"
        session_libvirt.virsh("vol-download", "--pool", "disks", "dev-m-seed.iso", file)
        return file.read_bytes().partition(b"ssh_authorized_keys: [")[2][:1].decode()

    def urn(name: str) -> str:
        return str(stack.resources()[name]["urn"])

    write(1)
    stack.up(environment=here)
    before = stack.resources()
    assert seeded() == "1"
    write(2)
    stack.preview("--expect-no-changes", environment=here)
    assert stack.up(environment=here).steps() == {}
    assert stack.resources()["m-seed"]["id"] == before["m-seed"]["id"]
    assert seeded() == "1"

    done = stack.up("--replace", urn("m-disk"), environment=here)
    assert "create-replacement" in done.steps()["m-seed"], "another disk boots anew"
    assert seeded() == "2"
    write(3)
    session_libvirt.virsh("vol-delete", "--pool", "disks", "dev-m-seed.iso")
    stack.up("--refresh", environment=here)
    assert seeded() == "3"
    stack.preview("--expect-no-changes", environment=here)
