"""The forwarder leads from the loopback address into a namespace, and is found again and ended."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from certs.kubeconfig import kubeconfig
from lab import forwarder, namespace
from lab.paths import LabPaths
from lab.process import start_time
from ops.kubeconfig import forwarded, outside
from ops.reach import Reached
from probe.access import Access
from tests.engine.stack import PATIENCE, eventually
from tests.plan.stored import stored

pytestmark = pytest.mark.machine

ADDRESS = "192.168.7.10"
"""Of the namespace's loopback interface, and of nothing else."""

SERVER = """
import http.server, json, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "from": self.client_address[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer((sys.argv[1], 6443), Handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = tls.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7000))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    received = b""
    while piece := connection.recv(65536):
        received += piece
    connection.sendall(received[::-1])
    connection.close()
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabPaths]:
    """A lab with nothing but its namespace."""
    paths = LabPaths(name=f"f{os.getpid()}", state=tmp_path / "state", run=tmp_path / "run")
    paths.run.mkdir()
    namespace.make(paths)
    try:
        adds = ["ip", "-n", paths.namespace, "address", "add", f"{ADDRESS}/32", "dev", "lo"]
        subprocess.run(adds, check=True)
        yield paths
    finally:
        forwarder.stop(paths, forwarder.names(paths))
        namespace.remove(paths)


def inside(paths: LabPaths, code: str, *arguments: str) -> subprocess.Popen[str]:
    """A server in the namespace that is ready."""
    enter = ["nsenter", f"--net={namespace.namespace_path(paths)}"]
    child = subprocess.Popen(
        [*enter, sys.executable, "-c", code, ADDRESS, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture
def echo(lab: LabPaths) -> Iterator[None]:
    child = inside(lab, ECHO)
    yield
    child.kill()
    child.wait()


def reversed_by(port: int, content: bytes) -> bytes:
    """What the server returns that sends everything back once we have ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(content)
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return b""  # the other side has broken off already
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def test_a_persons_own_kubectl_reaches_the_server_and_trusts_it_by_its_own_name(
    lab: LabPaths, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-subj", "/CN=api", "-addext"]
    command += [f"subjectAltName=IP:{ADDRESS}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    child = inside(lab, SERVER, str(certificate), str(key))
    try:
        started = forwarder.start(lab, "dev", ADDRESS, 6443)
        text = kubeconfig(
            cluster_name="dev",
            server=f"https://{ADDRESS}:6443",
            authority_pem=certificate.read_text(),
            certificate_pem=certificate.read_text(),
            key_pem=key.read_text(),
            user="admin",
        )
        file = tmp_path / "kubeconfig"
        file.write_text(forwarded(text, started.port))
        raw = [str(stored("kubectl")), "--kubeconfig", str(file), "get", "--raw", "/version"]
        done = subprocess.run(raw, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"path": "/version", "from": ADDRESS}

        # Another name than that of the certificate is not trusted.
        cluster = yaml.safe_load(file.read_text())
        cluster["clusters"][0]["cluster"]["tls-server-name"] = "192.168.7.11"
        file.write_text(yaml.safe_dump(cluster))
        refused = subprocess.run(raw, capture_output=True, text=True)
        assert refused.returncode != 0
        assert "192.168.7.11" in refused.stderr
    finally:
        child.kill()
        child.wait()


def test_the_kubeconfig_for_outside_has_a_forwarder_and_that_for_inside_has_none(
    lab: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = kubeconfig(
        cluster_name="dev",
        server=f"https://{ADDRESS}:6443",
        authority_pem="authority",
        certificate_pem="certificate",
        key_pem="key",
        user="admin",
    )
    reached = Reached(
        spec=None,  # type: ignore[arg-type]
        access=Access(machines={}, ssh_key="", kubeconfig=text),
        stack=SimpleNamespace(name="dev", enter=["nsenter"]),  # type: ignore[arg-type]
    )
    monkeypatch.setattr("ops.kubeconfig.lab_paths", lambda: lab)
    before, after = yaml.safe_load(text), yaml.safe_load(outside(reached))
    kept = forwarder.find(lab, "dev")
    assert kept is not None
    assert (kept.host, kept.target) == (ADDRESS, 6443)
    cluster = after["clusters"][0]["cluster"]
    assert cluster.pop("server") == f"https://127.0.0.1:{kept.port}"
    assert cluster.pop("tls-server-name") == ADDRESS
    del before["clusters"][0]["cluster"]["server"]
    assert after == before

    forwarder.stop(lab, ["dev"])
    monkeypatch.setattr("lab.namespace.inside", lambda _: True)
    assert outside(reached) == text
    assert forwarder.find(lab, "dev") is None


def test_a_stack_of_the_systems_libvirt_needs_none(lab: LabPaths) -> None:
    reached = Reached(
        spec=None,  # type: ignore[arg-type]
        access=Access(machines={}, ssh_key="", kubeconfig="as it is"),
        stack=SimpleNamespace(name="dev", enter=()),  # type: ignore[arg-type]
    )
    assert outside(reached) == "as it is"
    assert forwarder.names(lab) == []


def test_each_direction_ends_by_itself_and_nothing_is_lost(lab: LabPaths, echo: None) -> None:
    content = os.urandom(3_000_000)
    port = forwarder.start(lab, "dev", ADDRESS, 7000).port
    assert reversed_by(port, content) == content[::-1]
    assert reversed_by(port, b"") == b""


def test_it_listens_on_loopback_alone(lab: LabPaths, echo: None) -> None:
    port = forwarder.start(lab, "dev", ADDRESS, 7000).port
    listeners = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listeners == [f"0100007F:{port:04X}"]
    assert not any(
        f":{port:04X} " in line and " 0A " in line
        for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]
    )


def test_it_is_found_again_and_comes_back_at_its_port(lab: LabPaths, echo: None) -> None:
    first = forwarder.start(lab, "dev", ADDRESS, 7000)
    assert forwarder.start(lab, "dev", ADDRESS, 7000) == first == forwarder.find(lab, "dev")
    second = forwarder.start(lab, "lab2", ADDRESS, 7000)
    assert second.port != first.port
    assert forwarder.names(lab) == ["dev", "lab2"]

    os.kill(first.pid, signal.SIGKILL)
    eventually("it is gone", lambda: start_time(first.pid) is None)
    assert forwarder.find(lab, "dev") is None
    again = forwarder.start(lab, "dev", ADDRESS, 7000)
    assert (again.port, again.pid != first.pid) == (first.port, True)
    assert reversed_by(again.port, b"abc") == b"cba"

    moved = forwarder.start(lab, "dev", ADDRESS, 7001)
    assert (moved.port, start_time(again.pid)) == (first.port, None)
    forwarder.stop(lab, forwarder.names(lab))
    assert start_time(moved.pid) is None
    assert start_time(second.pid) is None
    with pytest.raises(ConnectionRefusedError):
        reversed_by(first.port, b"")


def test_a_namespace_that_was_made_anew_has_a_new_forwarder(lab: LabPaths) -> None:
    first = forwarder.start(lab, "dev", ADDRESS, 7000)
    namespace.remove(lab)
    namespace.make(lab)
    assert forwarder.find(lab, "dev") is None
    again = forwarder.start(lab, "dev", ADDRESS, 7000)
    assert (again.port, again.inode != first.inode) == (first.port, True)
    assert start_time(first.pid) is None


def test_a_port_that_another_program_took_is_left_to_it(lab: LabPaths) -> None:
    first = forwarder.start(lab, "dev", ADDRESS, 7000)
    forwarder.stop(lab, ["dev"])
    with socket.create_server(("127.0.0.1", first.port)):
        assert forwarder.start(lab, "dev", ADDRESS, 7000).port != first.port


def test_a_machine_that_is_not_there_ends_the_connection(lab: LabPaths) -> None:
    port = forwarder.start(lab, "dev", ADDRESS, 7009).port
    # The forwarder may break the connection off before this end has sent all, or closed its side.
    answer = b""
    with suppress(ConnectionError):
        answer = reversed_by(port, b"abc")
    assert answer == b""
