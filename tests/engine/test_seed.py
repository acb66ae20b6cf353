"""A seed disk is written to libvirt and never read back: by the real engine and plugin."""

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
