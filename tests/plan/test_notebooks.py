"""Notebooks: the image's real hub, proxy and servers, before a real API that has no kubelet.

The test is the kubelet: it runs each pod of a person as the API has it.
"""

import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import tarfile
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certs.table import Authority
from plan.addons import notebooks, wanted
from plan.addons.jupyterhub import start
from plan.needs import ports
from plan.objects import Manifest
from spec.cluster import Cluster
from spec.notebooks import HUB_PORT, SERVER_PORT
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.notebook_user import NotebookUser
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import as_root
from tests.plan.test_node_objects import NodesWorld, world_in
from tests.plan.test_notebooks_start import SCHEMA
from tests.ports import free_port

MACHINES = {
    "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
    "minion": {"address": "192.168.1.11"},
}


def described(storage: bool = False, **more: Any) -> Cluster:
    return cluster(machines=MACHINES, addons={"notebooks": more or True, "storage": storage})


ON, KEEPING = described(), described(storage=True)
NAMESPACE = notebooks.NAMESPACE


def objects(spec: Cluster, kind: str) -> dict[str, Manifest]:
    """Those of a kind, by their names."""
    return {
        manifest["metadata"]["name"]: manifest
        for manifest in wanted(spec)["notebooks"]
        if manifest["kind"] == kind
    }


def pod_of(spec: Cluster, name: str) -> Manifest:
    pod: Manifest = objects(spec, "Deployment")[name]["spec"]["template"]["spec"]
    return pod


# -- objects -------------------------------------------------------------------------------------


def test_the_first_control_plane_alone_has_the_ports() -> None:
    def opened(machine: str) -> set[int]:
        off = cluster(machines=MACHINES)
        return {p.number for p in ports(ON, machine)} - {p.number for p in ports(off, machine)}

    assert opened("master") == {8000, 8888}
    assert opened("minion") == set()
    proxy = pod_of(ON, notebooks.PROXY)
    assert proxy["nodeSelector"]["kubernetes.io/hostname"] == "master"
    published = {p["hostPort"] for p in proxy["containers"][0]["ports"] if "hostPort" in p}
    assert published == {8000, 8888}


def test_the_hub_has_rights_in_its_own_namespace_alone_and_the_proxy_none() -> None:
    for spec in (ON, KEEPING):
        assert not objects(spec, "ClusterRole")
        (role,) = objects(spec, "Role").values()
        (bound,) = objects(spec, "RoleBinding").values()
        assert {role["metadata"]["namespace"], bound["metadata"]["namespace"]} == {NAMESPACE}
        assert [row["name"] for row in bound["subjects"]] == [notebooks.NAME]
        resources = {resource for rule in role["rules"] for resource in rule["resources"]}
        claims = {"persistentvolumeclaims"} if spec is KEEPING else set()
        assert resources == {"pods", "events", *claims}
        verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
        assert verbs == {"get", "list", "watch", "create", "delete"}
        assert pod_of(spec, notebooks.PROXY)["automountServiceAccountToken"] is False
    assert objects(ON, "Namespace")[NAMESPACE]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


def test_the_hub_has_no_key_and_the_proxy_no_password() -> None:
    volumes = {name: str(pod_of(ON, name)["volumes"]) for name in objects(ON, "Deployment")}
    assert notebooks.TLS not in volumes[notebooks.NAME]
    assert volumes.keys() == {notebooks.NAME, notebooks.PROXY}
    (secret,) = (
        row
        for row in wanted(ON)["notebooks"]
        if row["metadata"]["name"] == notebooks.PROXY and row["kind"] == "Secret"
    )
    assert secret["data"].keys() == {"token"}


def test_its_certificate_is_for_no_address() -> None:
    (row,) = notebooks.ADD_ON.certificates(described(certificate_names=["notebooks.example.org"]))
    assert row.addresses == ()
    assert "notebooks.example.org" in row.dns_names


def test_people_reach_the_proxy_and_servers_reach_little() -> None:
    policies = objects(ON, "NetworkPolicy")
    proxy, hub, servers = (
        policies[name]["spec"] for name in (notebooks.PROXY, notebooks.NAME, "servers")
    )
    everybody, api = proxy["ingress"]
    assert "from" not in everybody
    assert {row["port"] for row in everybody["ports"]} == {8000, 8888}
    assert [row["podSelector"]["matchLabels"] for row in api["from"]] == [notebooks.SELECTOR]
    assert {row["port"] for row in api["ports"]} == {notebooks.API_PORT}
    (callers,) = hub["ingress"]
    assert not any("192.168.1.0/24" not in str(row) and "ipBlock" in row for row in callers["from"])
    assert "Egress" in servers["policyTypes"]
    (outside,) = (
        peer["ipBlock"] for rule in servers["egress"] for peer in rule["to"] if "ipBlock" in peer
    )
    inside = {*ON.networks.machines, ON.networks.pods, ON.networks.services}
    assert set(outside["except"]) == {str(network) for network in inside}


def test_another_password_or_setting_starts_the_hub_anew() -> None:
    def template(spec: Cluster) -> Manifest:
        made: Manifest = objects(spec, "Deployment")[notebooks.NAME]["spec"]["template"]
        return made

    assert template(ON) == template(described(certificate_names=["notebooks.example.org"]))
    for name, value in (("password", 2), ("idle", 30), ("memory", 1024), ("servers", 3)):
        changed: dict[str, Any] = {name: value}
        assert template(ON) != template(described(**changed))


# -- the parts, as in their pods -----------------------------------------------------------------


ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
"""Where pods have their token: their /var/run is a link to /run, and so none of this computer's."""
PREPARE = """\
root=$1
shift
mount --bind "$root" "$root"
mount --options remount,bind,ro "$root"
mount --rbind /dev "$root/dev"
mount --types proc proc "$root/proc"
while [ "$1" != -- ]; do
    mount --rbind "$1" "$root$2"
    shift 2
done
shift
exec chroot --userspec=1000:1000 "$root" sh -euc 'cd "$0" && exec "$@"' "$@"
"""


@dataclass
class ImageRoot:
    """The unpacked image, in which containers run with a root that is read-only."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        archive = stored_program(notebooks.NAME, ON.versions)
        with tarfile.open(archive) as image:
            documents = {row.name: row for row in image if row.size < 100_000 and row.isfile()}

            def document(name: str) -> Any:
                stream = image.extractfile(documents[name])
                assert stream is not None
                return json.load(stream)

            (entry,) = document("manifest.json")
            config = document(entry["Config"])["config"]
            assert "Entrypoint" not in config
            self.environment = dict(row.split("=", 1) for row in config["Env"])
            assert config["User"] == "1000:1000"
        self.folder.mkdir()
        taken = ["tar", "--extract", "--to-stdout", "--file", str(archive), entry["Layers"][-1]]
        with subprocess.Popen(taken, stdout=subprocess.PIPE) as layer:
            subprocess.run(
                ["tar", "--extract", "--numeric-owner", "--directory", str(self.folder)],
                stdin=layer.stdout,
                check=True,
            )

    @contextmanager
    def running(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        mounts: Mapping[str, Path],
        log: Path,
        folder: str = "/",
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A container that begins in ``folder``; ended with all its processes."""
        for inside in mounts:
            (self.folder / inside[1:]).mkdir(parents=True, exist_ok=True)
        pairs = [str(word) for inside, outside in mounts.items() for word in (outside, inside)]
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        whole = [
            *alone,
            "sh",
            "-euc",
            PREPARE,
            "sh",
            str(self.folder),
            *pairs,
            "--",
            folder,
            *command,
        ]
        with log.open("ab") as output:
            process = subprocess.Popen(
                whole,
                stdout=output,
                stderr=output,
                env={**self.environment, "PATH": f"{self.environment['PATH']}:/usr/sbin:/sbin"}
                | dict(environment),
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in the hub's database."""
    with closing(sqlite3.connect(database)) as opened:
        return opened.execute(query).fetchall()


def folder_in(parent: Path, name: str, files: Mapping[str, bytes] | None = None) -> Path:
    """A folder of the container's user with these files."""
    made = parent / name
    made.mkdir(exist_ok=True)
    for key, content in (files or {}).items():
        (made / key).write_bytes(content)
        os.chown(made / key, 1000, 1000)
    os.chown(made, 1000, 1000)
    return made


def account_files(token: str, authority: bytes) -> dict[str, bytes]:
    """What a kubelet gives a pod of an account in the hub's namespace."""
    return {"token": token.encode(), "ca.crt": authority, "namespace": NAMESPACE.encode()}


def address_of(world: NodesWorld) -> tuple[str, str]:
    """The host and the port of the API."""
    config = json.loads(world.kubectl("config view --raw --output json"))
    host, port = config["clusters"][0]["cluster"]["server"].removeprefix("https://").split(":")
    return host, port


def uid(world: NodesWorld, kind: str, name: str) -> str:
    return world.kubectl(f"-n {NAMESPACE} get {kind} {name} --output jsonpath={{.metadata.uid}}")


class NotebooksOfTest:
    """The hub and the proxy of a spec, at ports of this computer, and a person's pods."""

    def __init__(self, world: NodesWorld, spec: Cluster, folder: Path, root: ImageRoot) -> None:
        self.world, self.spec, self.folder, self.root = world, spec, folder, root
        done = world.applied(spec)
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed = done.stdout + done.stderr
        numbers = (HUB_PORT, SERVER_PORT, notebooks.API_PORT, notebooks.PORT)
        self.ports = {number: free_port() for number in numbers}
        self.own_port = free_port()
        self.log = folder / "log"
        self.log.touch()
        self.authority = folder / "ca.crt"
        self.authority.write_text(world.cluster.keys.signers[Authority.KUBERNETES].certificate)
        self.tls = folder_in(folder, "tls", self.secret(notebooks.TLS, notebooks.PROXY_NAMESPACE))
        self.password = self.secret(notebooks.SECRET)["password"].decode()

    def secret(self, name: str, namespace: str = NAMESPACE) -> dict[str, bytes]:
        held = json.loads(self.world.kubectl(f"-n {namespace} get secret {name} --output json"))
        return {key: b64decode(value) for key, value in held["data"].items()}

    def here(self, text: str) -> str:
        """The same where Services have the addresses and ports of this computer."""
        for host in (
            notebooks.own_name(self.spec),
            f"{notebooks.NAME}.{NAMESPACE}.svc.cluster.local",
        ):
            text = text.replace(host, "127.0.0.1")
        for number, port in self.ports.items():
            for mark in (":", "port="):
                text = text.replace(f"{mark}{number}", f"{mark}{port}")
        return text.replace("0.0.0.0", "127.0.0.1").replace(
            "KubeSpawner.port = 8888", f"KubeSpawner.port = {self.own_port}"
        )

    @contextmanager
    def proxy(self) -> Iterator[None]:
        (container,) = pod_of(self.spec, notebooks.PROXY)["containers"]
        environment = {row["name"]: self.here(row.get("value", "")) for row in container["env"]} | {
            "CONFIGPROXY_AUTH_TOKEN": self.secret(notebooks.PROXY, notebooks.PROXY_NAMESPACE)[
                "token"
            ].decode(),
            "SECOND_PORT": str(self.ports[SERVER_PORT]),
            "CERTIFICATE_SECONDS": "1",
        }
        command = [self.here(word) for word in container["command"]]
        mounts = {notebooks.TLS_FOLDER: self.tls}
        with self.root.running(command, environment, mounts, self.log):
            yield

    @contextmanager
    def hub(self, **settings: Any) -> Iterator[None]:
        """With the token and the rights of its account, and its own folder kept."""
        (container,) = pod_of(self.spec, notebooks.NAME)["containers"]
        held = objects(self.spec, "ConfigMap")[notebooks.NAME]["data"]
        files = {key: self.here(text) for key, text in held.items()}
        changed = {**json.loads(files["settings.json"]), **settings}
        files["settings.json"] = json.dumps(changed)
        host, port = address_of(self.world)
        # As a kubelet asks for it: bound to the hub's own pod.
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "hub", "namespace": NAMESPACE, "labels": notebooks.SELECTOR},
            "spec": pod_of(self.spec, notebooks.NAME),
        }
        self.world.apply(pod)
        asked = f"-n {NAMESPACE} create token {notebooks.NAME} --bound-object-kind Pod "
        token = self.world.kubectl(asked + "--bound-object-name hub").strip()
        account = account_files(token, self.authority.read_bytes())
        mounts = {
            notebooks.FOLDER: folder_in(
                self.folder, "configuration", {key: text.encode() for key, text in files.items()}
            ),
            notebooks.SECRETS: folder_in(self.folder, "secrets", self.secret(notebooks.SECRET)),
            notebooks.DATA: folder_in(self.folder, "data"),
            "/tmp": folder_in(self.folder, "scratch"),
            ACCOUNT: folder_in(self.folder, "account", account),
        }
        environment = {row["name"]: row["value"] for row in container["env"]} | {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
        }
        begins = container["workingDir"]
        with self.root.running(container["command"], environment, mounts, self.log, begins):
            eventually("the hub answers", lambda: self.answers("/hub/health"), reason=self.reason)
            yield

    def reason(self) -> str:
        return self.log.read_text()[-6000:]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports[HUB_PORT]}"

    def with_token(self, token: str) -> int:
        """With which status the hub answers who asks with this token and no cookie."""
        with self.person("nobody") as nobody:
            headers = {"Authorization": f"token {token}"}
            return nobody.asked("GET", "/hub/api/user", headers=headers).status_code

    def person(self, name: str, port: int = HUB_PORT) -> NotebookUser:
        url = f"https://127.0.0.1:{self.ports[port]}"
        return NotebookUser(url, str(self.authority), notebooks.own_name(self.spec), name)

    def renew(self) -> None:
        """Another certificate, as a kubelet brings it."""
        pair = self.world.cluster.keys.of_add_ons(self.spec)[notebooks.CERTIFICATE]
        (self.tls / "tls.key").write_text(pair.key)
        (self.tls / "tls.crt").write_text(pair.certificate)

    def presented(self) -> str:
        """The certificate with which the proxy answers."""
        return ssl.get_server_certificate(("127.0.0.1", self.ports[HUB_PORT]))

    def answers(self, path: str) -> bool:
        url = f"https://{notebooks.own_name(self.spec)}:{self.ports[HUB_PORT]}"
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "20"]
            + [
                "--cacert",
                str(self.authority),
                "--connect-to",
                f"::127.0.0.1:{self.ports[HUB_PORT]}",
            ]
            + [f"{url}{path}"],
            capture_output=True,
        )
        return done.returncode == 0

    def servers(self) -> list[dict[str, Any]]:
        """The pods of people."""
        selector = ",".join(f"{key}={value}" for key, value in notebooks.SERVERS.items())
        listed = self.world.kubectl(f"-n {NAMESPACE} get pods -l {selector} --output json")
        items: list[dict[str, Any]] = json.loads(listed)["items"]
        return items

    @contextmanager
    def kubelet(self) -> Iterator[dict[str, Any]]:
        """Run the only pod of a person, once it is there, and say that it is ready."""
        eventually("there is a pod", lambda: len(self.servers()) == 1, reason=self.reason)
        (pod,) = self.servers()
        (container,) = pod["spec"]["containers"]
        environment = {row["name"]: row.get("value", "") for row in container["env"]}
        homes = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        mounts = {path: folder_in(self.folder, f"pod-{name}") for path, name in homes.items()}
        command = [*container.get("command", ()), *container["args"]]
        begins = container["workingDir"]
        with self.root.running(command, environment, mounts, self.log, begins):
            ready = {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "podIPs": [{"ip": "127.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    {
                        "name": container["name"],
                        "ready": True,
                        "restartCount": 0,
                        "image": container["image"],
                        "imageID": "",
                        "state": {"running": {}},
                    }
                ],
            }
            status = json.dumps({"status": ready}, separators=(",", ":"))
            self.world.kubectl(
                f"-n {NAMESPACE} patch pod {pod['metadata']['name']} --subresource status "
                f"--type merge --patch {status}"
            )
            yield pod


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("notebooks")) as made:
        made.registered(made.spec)
        yield made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRoot]:
    folder = tmp_path_factory.mktemp("image")
    yield ImageRoot(folder / "root")
    shutil.rmtree(folder)


@pytest.fixture
def cleaned() -> Iterator[ExitStack]:
    """What a test enters for its whole time."""
    with ExitStack() as stack:
        yield stack


@at_length
@as_root
@pytest.mark.engine
@pytest.mark.parametrize("spec", [ON, KEEPING], ids=["forgetting", "keeping"])
def test_a_person_logs_in_and_a_kernel_computes(
    world: NodesWorld, root: ImageRoot, spec: Cluster, tmp_path: Path
) -> None:
    made = NotebooksOfTest(world, spec, tmp_path, root)
    assert made.password not in made.printed
    with ExitStack() as stack:
        stack.enter_context(made.proxy())
        stack.enter_context(made.hub(idle=20, look=5))
        ann = stack.enter_context(made.person("ann"))
        assert not ann.logged_in("not-the-password")
        assert ann.logged_in(made.password), made.reason()
        ann.asked("GET", "/hub/spawn")
        pod = stack.enter_context(made.kubelet())
        ann.begin()
        code = "import os, sys; print(6 * 7, os.getuid(), sys.version_info[:2], os.getcwd())"
        assert ann.computed(code) == "42 1000 (3, 13) /home/jovyan\n"
        own = pod["spec"]
        assert own["automountServiceAccountToken"] is False
        assert own["enableServiceLinks"] is False
        disk = "1152Mi" if spec is KEEPING else "3200Mi"
        limits = own["containers"][0]["resources"]["limits"]
        assert limits == {"cpu": "1", "memory": str(512 * 2**20), "ephemeral-storage": disk}
        requests = own["containers"][0]["resources"]["requests"]
        assert requests["ephemeral-storage"] == "128Mi", "a node need not have all free"
        labels = pod["metadata"]["labels"]
        assert labels.items() >= notebooks.SERVERS.items()
        assert not labels.items() >= notebooks.SELECTOR.items(), "it is not the hub"
        claims = json.loads(world.kubectl(f"-n {NAMESPACE} get pvc --output json"))["items"]
        names = {claim["metadata"]["name"] for claim in claims}
        volumes = {volume["name"]: volume for volume in own["volumes"]}
        assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "1Gi"}
        mounted = volumes["home"]
        if spec is KEEPING:
            assert mounted["persistentVolumeClaim"]["claimName"] in names - {notebooks.NAME}
        else:
            assert mounted["emptyDir"] == {"sizeLimit": "2Gi"}
        (owner,) = pod["metadata"]["ownerReferences"]
        kind = "serviceaccount" if spec is KEEPING else "pod"
        name = notebooks.NAME if spec is KEEPING else "hub"
        assert owner["uid"] == uid(world, kind, name)

        with made.person("bert", SERVER_PORT) as bert:
            assert bert.logged_in(made.password), "the second port is the same door"
            assert bert.asked("GET", "/user/ann/api/status").status_code in (403, 404)
        assert made.password not in made.log.read_text()

        before = made.presented()
        made.renew()
        eventually("the certificate is renewed", lambda: made.presented() != before)
        assert ann.asked("GET", "/user/ann/api/status").status_code == 200

        own_name = pod["metadata"]["name"]
        eventually(
            "an idle server ends",
            lambda: own_name not in {row["metadata"]["name"] for row in made.servers()},
            reason=made.reason,
        )
        left = json.loads(world.kubectl(f"-n {NAMESPACE} get pvc --output json"))["items"]
        assert {claim["metadata"]["name"] for claim in left} >= names
    world.kubectl(f"-n {NAMESPACE} delete pods --all --grace-period=0 --force")


@at_length
@as_root
@pytest.mark.engine
def test_another_password_ends_what_a_former_one_gave(
    world: NodesWorld, root: ImageRoot, tmp_path: Path, cleaned: ExitStack
) -> None:
    made = NotebooksOfTest(world, KEEPING, tmp_path, root)
    database = tmp_path / "data" / start.DATABASE
    ann = cleaned.enter_context(made.person("ann"))
    with ExitStack() as stack:
        stack.enter_context(made.proxy())
        with made.hub():
            assert ann.logged_in(made.password), made.reason()
            ann.asked("GET", "/hub/spawn")
            first = stack.enter_context(made.kubelet())
            ann.begin()
            token = ann.new_api_token()
            assert made.with_token(token) == 200
        known = rows(database, "SELECT id, name FROM users")
        assert "ann" in {row[1] for row in known}
        with made.hub():
            assert made.with_token(token) == 200, "the same password ends nothing"
            assert [row["metadata"]["uid"] for row in made.servers()] == [first["metadata"]["uid"]]
            assert ann.asked("GET", "/hub/home").url.path == "/hub/home"
    schema = "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql NOTNULL ORDER BY name"
    tables = ";\n\n".join(row[0].replace("\t", "    ") for row in rows(database, schema)) + ";"
    assert [line.rstrip() for line in tables.splitlines()] == SCHEMA.read_text().splitlines()

    changed = NotebooksOfTest(world, described(storage=True, password=2), tmp_path, root)
    assert changed.password != made.password
    claim = next(row for row in first["spec"]["volumes"] if row["name"] == "home")
    name = claim["persistentVolumeClaim"]["claimName"]
    home = uid(world, "pvc", name)
    with ExitStack() as stack:
        stack.enter_context(changed.proxy())
        stack.enter_context(changed.hub())
        assert changed.servers() == []
        assert changed.with_token(token) == 403
        assert rows(database, "SELECT id, name FROM users") == known
        assert ann.at(changed.url).asked("GET", "/hub/home").url.path == "/hub/login"
        assert not ann.logged_in(made.password)
        assert ann.logged_in(changed.password), changed.reason()
        ann.asked("GET", "/hub/spawn")
        second = stack.enter_context(changed.kubelet())
        ann.begin()
        assert ann.computed("print(6 * 7)") == "42\n"
        assert claim in second["spec"]["volumes"]
        assert uid(world, "pvc", name) == home
    for mark in (made.password, changed.password):
        assert mark not in (tmp_path / "data" / start.MARK).read_text()
        assert mark not in made.log.read_text()
    world.kubectl(f"-n {NAMESPACE} delete pods --all --grace-period=0 --force")


@pytest.mark.engine
def test_the_hubs_account_may_end_servers_and_without_rights_nothing_begins(
    world: NodesWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rights that the hub has anyway: they are asked of a real API."""
    assert world.applied(KEEPING).returncode == 0
    token = world.kubectl(f"-n {NAMESPACE} create token {notebooks.NAME}").strip()
    authority = world.cluster.keys.signers[Authority.KUBERNETES].certificate
    account = folder_in(tmp_path, "account", account_files(token, authority.encode()))
    host, port = address_of(world)
    pods = start.ServerPods(account, host, int(port))
    for name, labels in (("jupyter-ann", notebooks.SERVERS), ("hub", notebooks.SELECTOR)):
        world.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
                "spec": pod_of(KEEPING, notebooks.NAME),
            }
        )
    assert pods.servers() == ["jupyter-ann"]
    start.end_servers(pods)
    assert pods.servers() == []
    assert uid(world, "pod", "hub"), "it ends people's servers alone"
    pods.delete("jupyter-ann")

    world.kubectl(f"-n {NAMESPACE} delete rolebinding {notebooks.NAME}")
    data = folder_in(tmp_path, "data")
    secrets = folder_in(tmp_path, "secrets", {"password": b"password"})
    for name, folder in (("ACCOUNT", account), ("DATA", data), ("SECRETS", secrets)):
        monkeypatch.setattr(start, name, folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    for number, reason in ((port, "403"), (str(free_port()), "does not answer")):
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", number)
        with pytest.raises(SystemExit, match=f"The hub does not start: .*{reason}"):
            start.main()
    assert list(data.iterdir()) == []
    world.kubectl(f"-n {NAMESPACE} delete pods --all --grace-period=0 --force")


@pytest.mark.engine
def test_switched_off_it_leaves_nothing_in_the_cluster(world: NodesWorld) -> None:
    """But for what a namespace's end takes away, which no controller is here for."""
    assert world.applied(KEEPING).returncode == 0
    kinds = "deployments,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies"
    listed = f"get {kinds},namespaces,configmaps --all-namespaces --output name"
    assert "jupyterhub" in world.kubectl(listed)
    done = world.applied(cluster(machines=MACHINES))
    assert done.returncode == 0, done.stderr
    assert "jupyterhub" not in world.kubectl(listed)
    phase = world.kubectl(
        f"get namespace {NAMESPACE} --ignore-not-found --output jsonpath={{.status.phase}}"
    )
    assert phase in ("", "Terminating")
