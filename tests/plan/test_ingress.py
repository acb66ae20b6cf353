"""The way in by http and https: the real program, as in its pod, before a real API and backends."""

import json
import os
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from certs.authority import issued, new_authority
from certs.bundle import Signer
from certs.table import SERVER, Authority, Row
from lab import namespace
from lab.paths import PROJECT
from plan import addons
from plan.addons import ingress, namespaces, wanted
from plan.addons.catalogue import certificates
from plan.needs import ports
from plan.objects import Manifest
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.lab import host_network
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import as_root, inside
from tests.plan.test_node_objects import NodesWorld, world_in

MINION = "192.168.1.11"
BACKENDS = "203.0.113.7"
"""Where the backends are: the API takes no loopback address for one (RFC 5737)."""

BALANCER = {"addresses": "192.168.1.200-192.168.1.220"}
HOST = "shop.example.org"
NOW = datetime.now(UTC)


def described(balanced: bool = False, **settings: Any) -> Cluster:
    """A cluster of two nodes with these settings, behind a load balancer's address or not."""
    more = {"load_balancer": BALANCER} if balanced else {}
    return cluster(addons={"ingress": settings or True, **more})


ON = described(certificate_names=[HOST, "*.apps.example.org"])
FIXED = described(balanced=True, address="192.168.1.205")


def objects(spec: Cluster, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in wanted(spec)["ingress"] if manifest["kind"] in kinds]


def pod(spec: Cluster) -> Manifest:
    (workload,) = objects(spec, "DaemonSet", "Deployment")
    whole: Manifest = workload["spec"]["template"]["spec"]
    return whole


def own_row(spec: Cluster) -> Row:
    (row,) = certificates(spec)
    return row


# -- objects -------------------------------------------------------------------------------------


def test_a_pod_on_each_nodes_ports_or_two_behind_a_load_balancers_address() -> None:
    of_nodes, balanced = pod(ON)["containers"][0], pod(FIXED)["containers"][0]
    opened = {port["containerPort"]: port.get("hostPort") for port in of_nodes["ports"]}
    assert opened == {8000: 80, 8443: 443, 8082: None}
    assert not any("hostPort" in port for port in balanced["ports"])
    (workload,) = objects(FIXED, "Deployment")
    assert workload["spec"]["replicas"] == 2
    for spec, where in ((ON, namespaces.PRIVILEGED), (FIXED, namespaces.RESTRICTED)):
        placed = {row["metadata"]["namespace"] for row in wanted(spec)["ingress"] if _placed(row)}
        assert placed == {where}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(spec).keys()
        security = pod(spec)["containers"][0]["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert pod(spec)["securityContext"]["runAsNonRoot"] is True


def _placed(manifest: Manifest) -> bool:
    return "namespace" in manifest["metadata"]


def test_each_node_needs_both_ports_only_where_they_are_the_way_in() -> None:
    more = set(ports(ON, "minion")) - set(ports(cluster(), "minion"))
    assert {(port.number, port.protocol, port.is_redirected) for port in more} == {
        (80, "tcp", True),
        (443, "tcp", True),
    }
    assert not {80, 443} & {port.number for port in ports(FIXED, "minion")}


def test_the_load_balancers_address_is_the_one_of_the_setting() -> None:
    (service,) = objects(FIXED, "Service")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "192.168.1.205"}
    assert own_row(FIXED).addresses == (IPv4Address("192.168.1.205"),)
    (free,) = objects(described(balanced=True), "Service")
    assert "annotations" not in free["metadata"]
    (of_nodes,) = objects(ON, "Service")
    assert "type" not in of_nodes["spec"], "no further port of the nodes is opened"


def test_its_certificate_is_for_no_control_plane() -> None:
    """With its key somebody could otherwise pretend to be an API server."""
    row = own_row(ON)
    assert row.issuer is Authority.KUBERNETES
    assert row.uses == SERVER
    assert row.addresses == (IPv4Address(MINION),)
    assert {HOST, "*.apps.example.org"} < set(row.dns_names)
    (alone,) = certificates(
        cluster(machines={"m": {"address": "192.168.1.10"}}, addons={"ingress": True})
    )
    assert not alone.addresses


def test_it_reads_secrets_of_the_settings_namespaces_alone() -> None:
    def of_secrets(spec: Cluster, kind: str) -> list[str | None]:
        return [
            role["metadata"].get("namespace")
            for role in objects(spec, kind)
            for rule in role["rules"]
            if "secrets" in rule["resources"]
        ]

    limited = described(namespaces=["shop", "blog"])
    assert of_secrets(limited, "ClusterRole") == []
    assert of_secrets(limited, "Role") == ["shop", "blog"]
    assert (
        "--providers.kubernetesingress.namespaces=shop,blog"
        in pod(limited)["containers"][0]["args"]
    )
    assert of_secrets(ON, "ClusterRole") == [None]
    assert addons.apply(limited).settings["namespaces"] == "blog shop"
    for spec in (ON, limited):
        for role in objects(spec, "ClusterRole", "Role"):
            for rule in role["rules"]:
                writes = set(rule["verbs"]) - {"get", "list", "watch"}
                assert not writes or rule["resources"] == ["ingresses/status"]


def test_the_port_that_says_whether_it_lives_is_for_machines_alone() -> None:
    (policy,) = objects(ON, "NetworkPolicy")
    everybody, machines = policy["spec"]["ingress"]
    assert "from" not in everybody
    assert [port["port"] for port in everybody["ports"]] == [8000, 8443]
    assert machines["from"] == [{"ipBlock": {"cidr": "192.168.1.0/24"}}]
    assert [port["port"] for port in machines["ports"]] == [8082]


# -- the program ---------------------------------------------------------------------------------


@contextmanager
def networked_world(name: str, folder: Path) -> Iterator[NodesWorld]:
    """A network of its own, with the addresses of a machine and of backends, and all in it."""
    name = f"{name}-{os.getpid()}"
    for program in ("etcd", "etcdctl", "kube-apiserver", "kubectl", ingress.NAME):
        stored_program(program, ON.versions)  # no network of that kind gets one
    with ExitStack() as stack:
        host_network.made(name, stack)
        for address in (MINION, BACKENDS):
            host_network.ip(name, "address", "add", f"{address}/32", "dev", "lo")
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, before)
        namespace.enter(namespace.NAMESPACES / name)
        stack.callback(namespace.enter, Path(f"/proc/self/fd/{before}"))
        made = stack.enter_context(world_in(folder))
        made.registered(made.spec)
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with networked_world("ingress", tmp_path_factory.mktemp("ingress")) as made:
        yield made


class Backend(ThreadingHTTPServer):
    """A web server whose every answer is its name and the request's path."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        class BackendHandler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = f"{name} {self.path}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((BACKENDS, 0), BackendHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@contextmanager
def served(world: NodesWorld, inside_of: str, name: str) -> Iterator[Backend]:
    """A Service in a namespace with a backend behind it, as a pod would be."""
    with Backend(f"{inside_of}/{name}") as backend:
        metadata = {"name": name, "namespace": inside_of}
        for manifest in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inside_of}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"ports": [{"name": "web", "port": 80}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [BACKENDS], "conditions": {"ready": True}}],
                "ports": [{"name": "web", "port": backend.server_port}],
            },
        ):
            world.kubectl("apply --server-side --force-conflicts --filename -", manifest)
        yield backend
        backend.shutdown()


def wished(
    world: NodesWorld, inside_of: str, name: str, host: str, service: str, **more: Any
) -> None:
    """An Ingress that leads a host to a Service, with no class, as most are written."""
    backend = {"service": {"name": service, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": inside_of},
        "spec": {"rules": [{"host": host, "http": {"paths": [path]}}], **more},
    }
    world.kubectl("apply --server-side --force-conflicts --filename -", manifest)


class Entering:
    """Traefik with the arguments, the files, the account and the rights of its pod."""

    def __init__(self, world: NodesWorld, spec: Cluster, folder: Path) -> None:
        self.world, self.spec, self.folder = world, spec, folder
        self.log, self.volume, self.secrets = (
            folder / name for name in ("traefik.log", "volume", "secrets")
        )
        self.program = inside(stored_program(ingress.NAME, spec.versions), ingress.NAME, folder)
        self.authority = folder / "ca.crt"
        self.authority.write_text(world.cluster.keys.signers[Authority.KUBERNETES].certificate)
        self.volume.mkdir()
        self.secrets.mkdir()
        self.mounted(1)
        account = f"-n {ingress.namespace(spec)} create token {ingress.NAME}"
        (self.secrets / "token").write_text(world.kubectl(account).strip())
        shutil.copy(self.authority, self.secrets / "ca.crt")
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")

    def mounted(self, number: int) -> None:
        """The pod's volume with what the API has now, swapped as a kubelet does it."""
        fresh, link = self.volume / f"..{number}", self.volume / "..data_tmp"
        fresh.mkdir()
        place_of = ingress.namespace(self.spec)
        for kind, name in (("configmap", ingress.NAME), ("secret", ingress.SECRET)):
            held = json.loads(self.world.kubectl(f"-n {place_of} get {kind} {name} --output json"))
            for key, value in held["data"].items():
                content = b64decode(value) if kind == "secret" else value.encode()
                (fresh / key).write_bytes(content)
                if number == 1:
                    (self.volume / key).symlink_to(f"..data/{key}")
        link.symlink_to(fresh.name)
        link.rename(self.volume / "..data")
        if number > 1:
            shutil.rmtree(self.volume / f"..{number - 1}")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """As its pod has it: a user without capabilities, the pod's kernel settings, and a /run and
        an /etc/hosts of its own."""
        token, program = "/run/secrets/kubernetes.io/serviceaccount", "/run/program"
        security = pod(self.spec)["securityContext"]
        settings = "".join(
            f"echo {row['value']} >/proc/sys/{row['name'].replace('.', '/')}; "
            for row in security.get("sysctls", ())
        )
        prepare = (
            f"mount -t tmpfs -o mode=0755 tmpfs /run; mkdir -p {token}; "
            f"cp {self.secrets}/* {token}; : >{program}; mount --bind {self.program} {program}; "
            f"mkdir {ingress.FOLDER}; mount --bind {self.volume} {ingress.FOLDER}; "
            f"mount --bind {self.hosts} /etc/hosts; {settings}"
            f"exec setpriv --reuid={security['runAsUser']} --regid={security['runAsGroup']} "
            f'--clear-groups --inh-caps=-all --bounding-set=-all {program} "$@"'
        )
        config = json.loads(self.world.kubectl("config view --raw --output json"))
        server = config["clusters"][0]["cluster"]["server"].removeprefix("https://")
        host, port = server.split(":")
        arguments = pod(self.spec)["containers"][0]["args"]
        with self.log.open("a") as output:
            process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-euc", prepare, "sh", *arguments],
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "KUBERNETES_SERVICE_HOST": host,
                    "KUBERNETES_SERVICE_PORT": port,
                    "GOMAXPROCS": "1",
                    "HOME": "/",
                },
            )
        try:
            eventually(
                "it is ready",
                lambda: self.curl(f"http://127.0.0.1:{ingress.HEALTH}/ping") == (200, "OK"),
                reason=self.log.read_text,
            )
            yield process
        finally:
            process.terminate()
            process.wait()

    def curl(self, url: str, *more: str) -> tuple[int, str]:
        """The status and the answer; 0 and the reason without an answer."""
        options = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
        done = subprocess.run(
            ["curl", *options, "--write-out", "\n%{http_code}", *more, url],
            capture_output=True,
            text=True,
        )
        answer, _, status = done.stdout.rpartition("\n")
        return (int(status), answer) if done.returncode == 0 else (0, done.stderr)

    def http(self, host: str, path: str = "/") -> tuple[int, str]:
        port = ingress.entry_points(self.spec)["web"]
        at = f"{host}:{port}:{MINION}"
        return self.curl(f"http://{host}:{port}{path}", "--resolve", at)

    def https(self, host: str, path: str = "/", authority: Path | None = None) -> tuple[int, str]:
        port = ingress.entry_points(self.spec)["websecure"]
        at = f"{host}:{port}:{MINION}"
        trust = ["--cacert", str(authority or self.authority)]
        return self.curl(f"https://{host}:{port}{path}", "--resolve", at, *trust)

    def until(self, what: str, answer: tuple[int, str], host: str, path: str = "/") -> None:
        def reason() -> str:
            return f"{self.http(host, path)} {self.log.read_text()[-3000:]}"

        eventually(what, lambda: self.http(host, path) == answer, reason=reason)


@contextmanager
def entering(world: NodesWorld, spec: Cluster, folder: Path) -> Iterator[Entering]:
    done = world.applied(spec)
    assert done.returncode == 0, done.stdout + done.stderr
    entered = Entering(world, spec, folder)
    with entered.running() as process:
        yield entered
        status = Path(f"/proc/{process.pid}/status").read_text()
        kib = {row.split(":")[0]: row.split()[1] for row in status.splitlines() if " kB" in row}
        print(f"Traefik: {int(kib['VmRSS']) // 1024} MiB, {int(kib['RssAnon']) // 1024} anonymous")
    assert "orbidden" not in entered.log.read_text(), "its rights suffice"


@as_root
@pytest.mark.engine
class TestEntering:
    def test_hosts_lead_to_services_and_follow_changes(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with (
            served(world, "shop", "web"),
            served(world, "shop", "blog"),
            entering(world, ON, tmp_path) as entered,
        ):
            assert entered.http(HOST)[0] == 404, "nobody wants it"
            wished(world, "shop", "main", HOST, "web")
            entered.until("the host leads there", (200, "shop/web /a"), HOST, "/a")
            assert entered.https(HOST, "/b") == (200, "shop/web /b")
            assert entered.http("other.example.org")[0] == 404
            status, reason = entered.https("other.example.org")
            assert (status, "certificate" in reason) == (0, True), reason
            assert entered.https("x.apps.example.org")[0] == 404, "the certificate is for it"
            assert entered.https(MINION)[0] == 404
            wished(world, "shop", "main", HOST, "blog")
            entered.until("it leads elsewhere", (200, "shop/blog /"), HOST)
            shown = world.kubectl("-n shop get ingress main --output json")
            assert json.loads(shown)["spec"]["ingressClassName"] == ingress.NAME
            eventually(
                "it shows an address",
                lambda: "192.168.1.10" in world.kubectl("-n shop get ingress main"),
                reason=entered.log.read_text,
            )
            world.kubectl("-n shop delete endpointslice blog")
            eventually("no pod is ready", lambda: entered.http(HOST)[0] == 503)
            world.kubectl("-n shop delete ingress main")
            eventually("nobody wants it again", lambda: entered.http(HOST)[0] == 404)

    def test_an_ingress_names_a_certificate_of_its_own(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        host = "own.example.com"
        signer = new_authority(Authority.FRONT_PROXY, NOW)
        authority = tmp_path / "own-ca.crt"
        authority.write_text(signer.certificate)
        with served(world, "shop", "web"), entering(world, ON, tmp_path) as entered:
            store_pair(world, "shop", "own", pair_for(signer, host))
            tls = [{"hosts": [host], "secretName": "own"}]
            wished(world, "shop", "own", host, "web", tls=tls)
            eventually(
                "it is answered",
                lambda: entered.https(host, authority=authority) == (200, "shop/web /"),
                reason=entered.log.read_text,
            )
            assert entered.http(host) == (200, "shop/web /"), "and by http"
            assert entered.https(host)[0] == 0, "another authority signed it"
            assert entered.https(HOST)[0] == 404, "and all else has the cluster's"
            world.kubectl("-n shop delete ingress own")

    def test_other_namespaces_than_the_settings_are_not_read(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        assert "later" not in world.kubectl("get namespaces --output name")
        limited = described(namespaces=["open", "later"])
        with (
            served(world, "hidden", "web"),
            served(world, "open", "web"),
            entering(world, limited, tmp_path) as entered,
        ):
            assert "later" in world.kubectl("get namespaces --output name"), "it is made"
            wished(world, "hidden", "main", "hidden.example.org", "web")
            wished(world, "open", "main", "open.example.org", "web")
            entered.until("what it may read", (200, "open/web /"), "open.example.org")
            assert entered.http("hidden.example.org")[0] == 404
            asks = f"--as system:serviceaccount:{ingress.namespace(limited)}:{ingress.NAME}"
            for inside_of, allowed in (("open", "yes"), ("hidden", "no"), ("kube-system", "no")):
                assert may(world, f"list secrets -n {inside_of} {asks}") == allowed
        assert world.applied(described(namespaces=["open"])).returncode == 0
        left = world.kubectl("get roles,namespaces --all-namespaces")
        assert "namespace/later" in left, "what may be a person's is never deleted"
        assert left.count("hardway:traefik") == 1

    def test_what_nobody_wants_goes_to_the_default_backend(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with served(world, "front", "page") as backend, served(world, "shop", "web"):
            settings = {"namespace": "front", "service": "page", "port": backend.server_port}
            spec = described(default_backend=settings, certificate_names=[HOST])
            assert world.applied(spec).returncode == 0
            entered = Entering(world, spec, tmp_path)
            entered.hosts.write_text(f"{BACKENDS} page.front.svc.cluster.local\n")
            wished(world, "shop", "main", "a.example.org", "web")
            with entered.running():
                entered.until("nobody wants it", (200, "front/page /x"), "b.example.org", "/x")
                entered.until("an Ingress does", (200, "shop/web /"), "a.example.org")
                assert entered.https(HOST, "/y") == (200, "front/page /y")
            world.kubectl("-n shop delete ingress main")

    def test_a_renewed_certificate_is_shown_without_a_restart(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with entering(world, ON, tmp_path) as entered:
            before = _shown(HOST)
            assert world.applied(ON).returncode == 0, "each time it is issued anew here"
            entered.mounted(2)
            eventually("the new one", lambda: _shown(HOST) != before, reason=entered.log.read_text)
            secret = (entered.volume / "tls.crt").read_bytes()
            assert _shown(HOST) == x509.load_pem_x509_certificate(secret).serial_number
            assert entered.https(HOST)[0] == 404

    def test_the_condition_sees_both_ports_and_the_certificate(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        foreign = tmp_path / "foreign.crt"
        foreign.write_text(new_authority(Authority.ETCD, NOW).certificate)
        with entering(world, ON, tmp_path) as entered:
            name, own = ingress.own_name(ON), str(entered.authority)
            ways = (str(ingress.WEB), str(ingress.WEB_SECURE))
            assert _way_in(*ways, name, own) == ""
            assert "https" in _way_in(*ways, name, str(foreign))
            assert "https" in _way_in(*ways, "other.example.org", own)
            assert _way_in("1", "2", name, own).count("does not answer") == 2

    def test_switched_off_it_leaves_nothing(self, world: NodesWorld) -> None:
        """The last test: nobody here ends the deletion of a namespace."""
        kinds = "ingressclasses,daemonsets,services,secrets,networkpolicies,configmaps"
        rights = "clusterroles,clusterrolebindings,serviceaccounts"
        listed = f"get {kinds},{rights} --all-namespaces --output name"
        assert world.applied(ON).returncode == 0
        assert world.kubectl(listed).count("traefik") == 9
        assert world.applied(cluster()).returncode == 0
        assert "traefik" not in world.kubectl(listed)


def pair_for(signer: Signer, host: str) -> tuple[str, str]:
    row = Row(
        name="own",
        node=None,
        issuer=Authority.FRONT_PROXY,
        common_name=host,
        uses=SERVER,
        dns_names=(host,),
    )
    pair = issued(row, signer, NOW)
    return pair.certificate, pair.key


def store_pair(world: NodesWorld, inside_of: str, name: str, pair: tuple[str, str]) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": inside_of},
        "type": "kubernetes.io/tls",
        "stringData": dict(zip(("tls.crt", "tls.key"), pair, strict=True)),
    }
    world.kubectl("apply --server-side --filename -", manifest)


def may(world: NodesWorld, line: str) -> str:
    try:
        return world.kubectl(f"auth can-i {line}").strip()
    except subprocess.CalledProcessError as error:
        return str(error.stdout).strip()


def _shown(host: str) -> int:
    """The serial number of the certificate with which a host is answered."""
    at = f"{MINION}:{ingress.WEB_SECURE}"
    connect = ["openssl", "s_client", "-connect", at, "-servername", host]
    done = subprocess.run(connect, input=b"", capture_output=True, check=True)
    return x509.load_pem_x509_certificate(done.stdout).serial_number


def _way_in(*arguments: str) -> str:
    script = PROJECT / "probe" / "scripts" / "way-in.sh"
    done = subprocess.run(
        ["bash", script, MINION, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_what_it_reads_again_is_valid_and_names_its_mounted_files() -> None:
    read = yaml.safe_load(ingress.configuration(ON))
    pair = read["tls"]["stores"]["default"]["defaultCertificate"]
    (volume,) = pod(ON)["volumes"]
    (mount,) = pod(ON)["containers"][0]["volumeMounts"]
    (secret,) = objects(ON, "Secret")
    assert {Path(path).name for path in pair.values()} == secret["data"].keys()
    assert {str(Path(path).parent) for path in pair.values()} == {mount["mountPath"]}
    assert volume["projected"]["sources"][1] == {"secret": {"name": secret["metadata"]["name"]}}
