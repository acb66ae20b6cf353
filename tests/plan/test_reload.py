"""What real programs do with new files: a control plane whose processes nobody restarts.

Not here: the kubelet, which wants a whole machine. What is said of it was seen beside a real API
server, outside of these tests.
"""

import ctypes
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from certs.authority import (
    issued,
    new_authority,
    new_encryption_key,
    new_service_account_pair,
)
from certs.bundle import Pair
from certs.encryption import encryption_configuration
from certs.table import CLIENT, LOOPBACK, SERVER, Authority, Row, held_by
from plan import (
    audit,
    control_plane,
    controller_manager,
    etcd,
    identity,
    kubeconfig,
    layout,
    proxy,
    scheduler,
)
from plan.cluster import node_plan
from plan.model import (
    AuthorityCertificate,
    Certificate,
    EncryptionConfiguration,
    PrivateKey,
    ServiceAccountKey,
    Source,
    Unit,
)
from plan.reload import AT_ONCE, BEAT, RELOADS
from spec.cluster import API_PORT
from tests.certs.clusters import SINGLE
from tests.machine.lab import at_length
from tests.plan.golden import golden_spec
from tests.plan.running import LocalCluster, LocalMachine, programs, run, stored_program

pytestmark = pytest.mark.engine

NODE = "master"
LATE = 180
"""Seconds for what a busy computer adds."""

PORTS = {
    "etcd-server": layout.ETCD_CLIENT_PORT,
    "etcd-peer": layout.ETCD_PEER_PORT,
    "apiserver": API_PORT,
    "controller-manager-server": controller_manager.PORT,
    "scheduler-server": scheduler.PORT,
}
"""Certificate to the port at which it is shown."""

KUBERNETES, ETCD, FRONT_PROXY = Authority.KUBERNETES, Authority.ETCD, Authority.FRONT_PROXY
CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""Where an audit log has the digest of a caller's certificate (KEP-4193)."""
ROOTS = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
"""What a controller manager makes of its root-ca-file."""
SECRETS = "/api/v1/namespaces/default/secrets"


def fingerprint(certificate: str) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def eventually(check: Callable[[], object], seconds: float = LATE) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "not within the limit"
        time.sleep(0.2)


class Callee:
    """A server in the place of a kubelet or an aggregated API: notes who calls it."""

    def __init__(self, pair: Pair, authority: Path, folder: Path) -> None:
        self.callers: list[str] = []
        self.shown = pair
        self._pem = folder / f"{fingerprint(pair.certificate)}.pem"
        self._pem.write_text(pair.certificate + pair.key)
        callee = self

        class ApiHandler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert isinstance(self.connection, ssl.SSLSocket)
                shown = self.connection.getpeercert(binary_form=True)
                if shown:
                    callee.callers.append(sha256(shown).hexdigest())
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                # Who was let in while it showed another certificate comes again.
                self.close_connection = self.shown != callee.shown

            def setup(self) -> None:
                super().setup()
                self.shown = callee.shown

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), ApiHandler)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self._pem)
        self._context.load_verify_locations(authority)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def shows(self, pair: Pair) -> None:
        """Another certificate, from the next connection on."""
        self.shown = pair
        self._pem.write_text(pair.certificate + pair.key)
        self._context.load_cert_chain(self._pem)

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class ReloadWorld:
    """A member of etcd and a control plane that run, and what is written into their files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.cluster = LocalCluster(SINGLE, folder)
        self.machine = LocalMachine(self.cluster, NODE)
        self.keys = self.cluster.keys
        self.people = self.keys.of_people()
        self.pairs = self.keys.of(NODE)
        self.others = {
            authority: new_authority(authority, datetime.now(UTC)) for authority in Authority
        }
        """Authorities that are none of the cluster's."""
        self.also: set[Authority] = set()
        """Those of them that the machine's files trust as well."""
        self.instead: dict[Source, str] = {}
        """What files have in the place of what the cluster's keys say."""
        self.steps = etcd.step(SINGLE, NODE), control_plane.step(SINGLE, NODE)
        self.machine.furnish(*self.steps)
        self.bring()
        policy = self.machine.root / audit.POLICY_FILE[1:]
        policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.path = programs(folder / "bin", SINGLE, ("etcdctl",))

    # -- its processes ---------------------------------------------------------------------------

    def start(self) -> None:
        member, plane = self.steps
        self._start(member.units[0])
        assert run(self.machine.script(member, self.path)).returncode == 0
        self._start(plane.units[0])
        self.await_api()
        for unit in plane.units[1:]:
            self._start(unit)
        done = run(self.machine.script(plane, self.path))
        assert (done.returncode, done.stderr) == (0, "")
        with self.admin() as admin:  # the last file that is read at a start
            eventually(lambda: admin.get(ROOTS).status_code == 200)

    def _start(self, unit: Unit) -> None:
        if unit.name == "kube-apiserver.service":
            # Its Service leads to a server on this computer, which no endpoint may.
            unit = replace(unit, flags={**unit.flags, "enable-aggregator-routing": "false"})
        self.processes[unit.name] = self.stack.enter_context(self.machine.running(unit))

    def restart(self, name: str) -> None:
        self.processes[name].terminate()
        self.processes[name].wait(LATE)
        (unit,) = [
            candidate for step in self.steps for candidate in step.units if candidate.name == name
        ]
        self._start(unit)

    def ready(self) -> bool:
        try:
            with self.client() as nobody:
                return nobody.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def await_api(self) -> None:
        eventually(self.ready, 120)

    def running(self) -> dict[str, int]:
        return {
            name: process.pid for name, process in self.processes.items() if process.poll() is None
        }

    # -- its files -------------------------------------------------------------------------------

    def of_another(self, authority: Authority, name: str = "somebody") -> Pair:
        """A client's pair of an authority that is none of the cluster's."""
        row = Row(name=name, node=None, issuer=authority, common_name=name, uses=CLIENT)
        return issued(row, self.others[authority], datetime.now(UTC))

    def _content(self, source: Source) -> str:
        if source in self.instead:
            return self.instead[source]
        content = self.keys.content(source, self.pairs)
        if isinstance(source, AuthorityCertificate) and source.authority in self.also:
            content += self.others[Authority(source.authority)].certificate
        return content

    def bring(self) -> None:
        """Bring the files to what they should be."""
        self.machine.bring(self._content)

    # -- how it is asked -------------------------------------------------------------------------

    def url(self, port: int) -> str:
        return f"https://127.0.0.1:{self.cluster.ports[NODE, port]}"

    def client(self, pair: Pair | None = None, port: int = API_PORT) -> httpx.Client:
        authority = layout.MEMBER_AUTHORITY if port in ETCD_PORTS else layout.AUTHORITY
        context = ssl.create_default_context(cafile=f"{self.machine.root}{authority}")
        if pair:
            file = self.folder / "client.pem"
            file.write_text(pair.certificate + pair.key)
            context.load_cert_chain(file)
        return httpx.Client(base_url=self.url(port), verify=context, timeout=20)

    def admin(self) -> httpx.Client:
        return self.client(self.people["super-admin"])

    def shown(self, port: int) -> str:
        """The fingerprint of the certificate that a server shows; nothing where it shows none."""
        context = ssl._create_unverified_context()
        if port in ETCD_PORTS:
            file = self.folder / "member.pem"
            pair = self.pairs["etcd-peer"]
            file.write_text(pair.certificate + pair.key)
            context.load_cert_chain(file)
        try:
            return sha256(_certificate(self.cluster.ports[NODE, port], context)).hexdigest()
        except OSError:
            return ""

    def callers(self, user: str) -> set[str]:
        """The fingerprints of the certificates with which a user has called the API."""
        log = self.machine.root / audit.FOLDER[1:] / "audit.log"
        whole, _, _ = log.read_text().rpartition("\n")
        callers = [json.loads(line)["user"] for line in whole.splitlines()]
        return {
            credential.partition("=")[2].lower()
            for caller in callers
            if caller.get("username") == user
            for credential in caller.get("extra", {}).get(CREDENTIAL, ())
        }


ETCD_PORTS = (layout.ETCD_CLIENT_PORT, layout.ETCD_PEER_PORT)


def _certificate(port: int, context: ssl.SSLContext) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            return secured.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReloadWorld]:
    with ExitStack() as stack:
        made = ReloadWorld(tmp_path_factory.mktemp("reload"), stack)
        made.start()
        yield made


@pytest.fixture(autouse=True)
def nobody_restarts(world: ReloadWorld) -> Iterator[None]:
    before = world.running()
    yield
    changed = {name for name, pid in world.running().items() if before.get(name) != pid}
    assert changed <= {"etcd.service"}, "and that one by its test"
    assert len(world.running()) == 4


# -- whom they trust -------------------------------------------------------------------------------


def status(
    world: ReloadWorld, port: int, pair: Pair, headers: Mapping[str, str] | None = None
) -> int:
    with world.client(pair, port) as client:
        return client.get("/metrics", headers=headers or {}).status_code


KUBERNETES_PORTS = (API_PORT, controller_manager.PORT, scheduler.PORT)


@pytest.mark.parametrize("port", KUBERNETES_PORTS)
def test_another_authority_of_callers_is_trusted_at_once(world: ReloadWorld, port: int) -> None:
    world.also.clear()
    world.bring()
    somebody = world.of_another(KUBERNETES)
    proxy = world.of_another(FRONT_PROXY, "front-proxy-client")
    user = {"X-Remote-User": "somebody"}
    eventually(lambda: status(world, port, somebody) == 401)
    eventually(lambda: status(world, port, proxy, user) == 401)
    world.also |= {KUBERNETES, FRONT_PROXY}
    world.bring()
    # Known, and without a right to see this.
    eventually(lambda: status(world, port, somebody) == 403, AT_ONCE + LATE)
    eventually(lambda: status(world, port, proxy, user) == 403, AT_ONCE + LATE)


# -- a renewal of all leaves -----------------------------------------------------------------------


class RepeatedCalls:
    """Somebody who calls the API on new connections, all the time, and notes what fails."""

    def __init__(self, world: ReloadWorld) -> None:
        self.done, self.failed, self._ended = 0, list[str](), False
        self._world = world

    def __enter__(self) -> "RepeatedCalls":
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    def _call(self) -> None:
        world = self._world
        pair = world.people["super-admin"]
        file = world.folder / "caller.pem"
        file.write_text(pair.certificate + pair.key)
        context = ssl.create_default_context(cafile=f"{world.machine.root}{layout.AUTHORITY}")
        context.load_cert_chain(file)
        path = "/api/v1/namespaces/default/configmaps"
        while not self._ended:
            name = f"call-{time.monotonic_ns()}"
            try:
                with httpx.Client(
                    base_url=world.url(API_PORT), verify=context, timeout=20
                ) as client:
                    answer = client.post(path, json={"metadata": {"name": name}})
                    answer.raise_for_status()
                self.done += 1
            except httpx.HTTPError as error:
                self.failed.append(repr(error))


def _node(admin: httpx.Client, name: str, status: Mapping[str, object]) -> None:
    """A node with this status, whatever controllers do to it meanwhile."""
    admin.post("/api/v1/nodes", json={"metadata": {"name": name}}).raise_for_status()
    answer = admin.patch(
        f"/api/v1/nodes/{name}/status",
        json={"status": status},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    answer.raise_for_status()


def _declare(admin: httpx.Client, ports: Mapping[str, int]) -> None:
    """A node with a pod, and an API group, which are served at these ports."""
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": ports["kubelet"]}},
    }
    _node(admin, "other", status)
    pod = {
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "other",
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "none"}],
        },
    }
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    eventually(lambda: admin.get(account).status_code == 200)
    admin.post("/api/v1/namespaces/default/pods", json=pod).raise_for_status()
    service = {
        "metadata": {"name": "aggregated"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    admin.post("/api/v1/namespaces/default/services", json=service).raise_for_status()
    group = {
        "metadata": {"name": "v1.reload.test"},
        "spec": {
            "group": "reload.test",
            "version": "v1",
            "groupPriorityMinimum": 1,
            "versionPriority": 1,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "default", "name": "aggregated", "port": ports["aggregated"]},
        },
    }
    path = "/apis/apiregistration.k8s.io/v1/apiservices"
    admin.post(path, json=group).raise_for_status()


LOG = "/api/v1/namespaces/default/pods/p/log"
"""What has the API server call a kubelet."""
GROUP = "/apis/reload.test/v1/things"
"""What has it call an aggregated API."""

CALLEE = Row(
    name="callee",
    node=None,
    issuer=KUBERNETES,
    common_name="system:node:other",
    uses=SERVER,
    addresses=(LOOPBACK,),
)


@pytest.fixture(scope="module")
def called(world: ReloadWorld) -> Iterator[dict[str, Callee]]:
    """A kubelet and an aggregated API of the cluster, as far as their callers go."""
    pair = issued(CALLEE, world.keys.signers[KUBERNETES], datetime.now(UTC))
    authorities = {"kubelet": layout.AUTHORITY, "aggregated": layout.FRONT_PROXY_AUTHORITY}
    callees = {
        name: Callee(pair, world.machine.root / path[1:], world.folder)
        for name, path in authorities.items()
    }
    try:
        with world.admin() as admin:
            _declare(admin, {name: callee.port for name, callee in callees.items()})
            eventually(lambda: admin.get(LOG).status_code == 200)
            eventually(lambda: admin.get(GROUP).status_code == 200)
        yield callees
    finally:
        for callee in callees.values():
            callee.end()


def shows(world: ReloadWorld, port: int, certificate: str) -> bool:
    return world.shown(port) == certificate


def called_with(world: ReloadWorld, user: str, certificate: str) -> bool:
    return certificate in world.callers(user)


def calls_with(world: ReloadWorld, callee: Callee, path: str, certificate: str) -> bool:
    """Whether the API server calls with this certificate now."""
    callee.callers.clear()
    with world.admin() as admin:
        admin.get(path)
    return fingerprint(world.pairs[certificate].certificate) in callee.callers


def test_all_leaves_are_renewed_without_a_restart_and_without_a_failed_call(
    world: ReloadWorld, called: dict[str, Callee]
) -> None:
    with RepeatedCalls(world) as calls:
        eventually(lambda: calls.done > 5)
        world.pairs = world.keys.of(NODE)
        world.bring()
        for name, port in PORTS.items():
            new = fingerprint(world.pairs[name].certificate)
            eventually(partial(shows, world, port, new), AT_ONCE + LATE)
        in_use = (world, called["aggregated"], GROUP, "front-proxy-client")
        eventually(lambda: calls_with(*in_use), AT_ONCE + LATE)
        done = calls.done
        eventually(lambda: calls.done > done + 5)
    assert calls.failed == []


def test_the_api_server_comes_to_etcd_with_its_new_certificate(world: ReloadWorld) -> None:
    """And neither of the two reads an authority's file again."""
    name = "kube-apiserver-etcd-client"
    pair = world.of_another(ETCD, name)
    world.instead = {
        Certificate("apiserver-etcd-client"): pair.certificate,
        PrivateKey("apiserver-etcd-client"): pair.key,
        AuthorityCertificate("etcd"): world.others[ETCD].certificate,
    }
    before = world.client(pair, layout.ETCD_CLIENT_PORT)  # trusts what the file still has
    old = world.client(world.pairs["etcd-healthcheck-client"], layout.ETCD_CLIENT_PORT)
    try:
        world.bring()
        for _ in range(AT_ONCE):
            time.sleep(1)
            with pytest.raises(httpx.HTTPError):
                before.get("/readyz")
            old.get("/readyz").raise_for_status()
        world.restart("etcd.service")
        eventually(world.ready)
        eventually(lambda: before.get("/readyz").status_code == 200)
        with world.admin() as admin:
            secret = {"metadata": {"generateName": "s"}}
            admin.post(SECRETS, json=secret).raise_for_status()
    finally:
        world.instead = {}
        world.bring()
        world.restart("etcd.service")
        eventually(world.ready)


# -- kube-proxy ------------------------------------------------------------------------------------


class Apart:
    """A network of its own in which the API server is found as on this computer."""

    def __init__(self, port: int) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._space = f"/proc/{self._holder.pid}/ns/net"
        own = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(self._space).readlink() != own)
        subprocess.run([*self.enter, "ip", "link", "set", "lo", "up"], check=True)
        made: list[socket.socket] = []
        thread = threading.Thread(target=lambda: made.append(self._listener(port)))
        thread.start()
        thread.join()
        (self._server,) = made
        self._port = port
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def enter(self) -> tuple[str, ...]:
        return ("nsenter", f"--net={self._space}")

    def _listener(self, port: int) -> socket.socket:
        """Made by a thread that is in that network; the socket stays in it."""
        with Path(self._space).open() as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server(("127.0.0.1", port))

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for source, target in ((caller, server), (server, caller)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target), daemon=True
                    ).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._server.close()
        self._holder.kill()
        self._holder.wait()


@pytest.fixture(scope="module")
def proxied(world: ReloadWorld) -> Iterator[None]:
    """kube-proxy of the plan in a network of its own, whose connections it does not limit."""
    if os.getuid():
        pytest.skip("a network of one's own needs root")
    config = proxy.configuration(SINGLE, NODE)
    config["conntrack"] = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s"}
    config["conntrack"] |= {"tcpCloseWaitTimeout": "0s"}
    file = world.folder / "kube-proxy.yaml"
    file.write_text(world.machine.here(yaml.safe_dump(config)))
    kubeconfig_file = kubeconfig.file(SINGLE, NODE, "kube-proxy")
    world.machine._write(kubeconfig_file.path, world.machine.here(kubeconfig_file.content), 0o600)
    with world.admin() as admin:
        address = str(SINGLE.machines[NODE].address)
        _node(admin, NODE, {"addresses": [{"type": "InternalIP", "address": address}]})
    apart = Apart(world.cluster.ports[NODE, API_PORT])
    program = stored_program("kube-proxy", SINGLE.versions)
    with (world.folder / "kube-proxy.log").open("wb") as log:
        command = [*apart.enter, str(program), f"--config={file}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        old = fingerprint(world.pairs["kube-proxy"].certificate)
        eventually(partial(called_with, world, "system:kube-proxy", old))
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        apart.end()


# -- what takes a beat -----------------------------------------------------------------------------


@at_length
@pytest.mark.usefixtures("proxied")
def test_what_takes_a_beat_is_in_force_after_it_and_the_rest_is_not(
    world: ReloadWorld, called: dict[str, Callee]
) -> None:
    """Clients look at their files every five minutes; what no row names is never looked at."""
    world.also.clear()
    world.bring()
    foreign = issued(CALLEE, world.others[KUBERNETES], datetime.now(UTC))
    called["kubelet"].shows(foreign)
    with world.admin() as admin:
        eventually(lambda: admin.get(LOG).status_code != 200)
        pair = new_service_account_pair()
        world.pairs = world.keys.of(NODE)
        world.also.add(KUBERNETES)
        public = world.keys.content(ServiceAccountKey("public"), {})
        world.instead = {
            ServiceAccountKey("public"): public + pair.public,
            ServiceAccountKey("private"): pair.private,
            EncryptionConfiguration(): encryption_configuration({"key1": new_encryption_key()}),
        }
        account = "/api/v1/namespaces/default/serviceaccounts/default/token"
        signed = admin.post(account, json={"spec": {}}).json()["status"]["token"]
        kept = admin.post(SECRETS, json={"metadata": {"generateName": "s"}}).json()
        began = time.monotonic()
        world.bring()
        kubelets = (world, called["kubelet"], LOG, "apiserver-kubelet-client")
        left: dict[str, Callable[[], object]] = {
            "kubelet-client-certificate": lambda: calls_with(*kubelets),
        }
        for user in (
            "system:kube-controller-manager",
            "system:kube-scheduler",
            "system:kube-proxy",
        ):
            (name,) = [row.name for row in held_by(SINGLE, NODE) if row.common_name == user]
            new = fingerprint(world.pairs[name].certificate)
            left[name] = partial(called_with, world, user, new)
        took = {}
        while left:
            for name in [name for name, check in left.items() if check()]:
                took[name] = time.monotonic() - began
                del left[name]
            assert time.monotonic() < began + BEAT + LATE, f"{left.keys()} beside {took}"
            time.sleep(1)
        print({name: round(seconds) for name, seconds in took.items()})
        assert time.monotonic() > began + 30, "long enough for what follows"
        for source, content in world.instead.items():
            (path,) = [
                file.path
                for file in identity.step(SINGLE, NODE).secret_files
                if file.source == source
            ]
            assert (world.machine.root / path[1:]).read_text() == content
        # The names of its keys are in a token's header.
        again = admin.post(account, json={"spec": {}}).json()["status"]["token"]
        assert again.partition(".")[0] == signed.partition(".")[0]
        assert len(admin.get("/openid/v1/jwks").json()["keys"]) == 1
        assert admin.get(f"{SECRETS}/{kept['metadata']['name']}").status_code == 200
        assert admin.post(SECRETS, json={"metadata": {"generateName": "s"}}).status_code == 201
        root = admin.get(ROOTS).json()["data"]["ca.crt"]
        assert root == world.keys.signers[KUBERNETES].certificate
    world.instead = {}
    world.bring()


# -- the table -----------------------------------------------------------------------------------


def test_each_row_is_of_the_version_that_these_tests_run() -> None:
    versions = SINGLE.versions
    for row in RELOADS:
        assert row.seen == (versions.etcd if row.program == "etcd" else versions.kubernetes)


def test_a_file_that_is_read_once_for_anything_restarts_its_service() -> None:
    units = {
        unit.name: unit
        for step in node_plan(golden_spec("default"), "master").steps
        for unit in step.units
    }
    manager, server = units["kube-controller-manager.service"], units["kube-apiserver.service"]
    assert layout.AUTHORITY in manager.needs, "as its --root-ca-file"
    assert layout.AUTHORITY in server.needs, "as its --kubelet-certificate-authority"
    for unit in units.values():
        assert not set(unit.needs) & set(unit.reads)
