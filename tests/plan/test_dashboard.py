"""The page that shows the cluster: the real server, pages and API server, in a real browser."""

import json
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from certs.table import Authority
from ops import expose
from plan import controller_manager
from plan.addons import dashboard, wanted
from plan.needs import ports
from plan.objects import Manifest
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import inside
from tests.plan.test_node_objects import NodesWorld, world_in
from tests.ports import free_port
from tests.preview.browser import Browser, Keys, browser

SHOP = "shop"
"""A namespace with a person's own things."""


def described(**more: Any) -> Cluster:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "minion": {"address": "192.168.1.11"},
    }
    return cluster(machines=machines, addons=more)


ON = described(dashboard=True)
ADMIN = described(dashboard={"access": "admin"})
(PAGE,) = dashboard.ADD_ON.pages(ON)


def objects(spec: Cluster, kind: str) -> list[Manifest]:
    return [manifest for manifest in wanted(spec)["dashboard"] if manifest["kind"] == kind]


def pod_of(spec: Cluster) -> Manifest:
    (deployment,) = objects(spec, "Deployment")
    pod: Manifest = deployment["spec"]["template"]
    return pod


# -- objects -------------------------------------------------------------------------------------


def test_no_port_of_a_machine_is_opened_and_pods_do_not_reach_it() -> None:
    assert ports(ON, "minion") == ports(described(), "minion")
    (policy,) = objects(ON, "NetworkPolicy")
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["from"] == [{"ipBlock": {"cidr": "192.168.1.0/24"}}]
    pod = pod_of(ON)
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert ingress["ports"][0]["port"] == container["ports"][0]["containerPort"] == PAGE.port


def test_no_pod_has_a_token_of_its_accounts() -> None:
    for spec in (ON, ADMIN):
        assert pod_of(spec)["spec"]["automountServiceAccountToken"] is False
        accounts = objects(spec, "ServiceAccount")
        assert len(accounts) == 2
        assert not any(row["automountServiceAccountToken"] for row in accounts)


def test_the_server_has_no_rights_and_people_have_those_of_the_spec() -> None:
    roles = {}
    for spec in (ON, ADMIN):
        bindings = objects(spec, "ClusterRoleBinding")
        subjects = {row["subjects"][0]["name"] for row in bindings}
        assert subjects == {PAGE.account}
        roles[spec.addons.dashboard] = {row["roleRef"]["name"] for row in bindings}
    assert "cluster-admin" not in roles[ON.addons.dashboard]
    assert roles[ADMIN.addons.dashboard] == {"cluster-admin"}


# -- the server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with world_in(tmp_path_factory.mktemp("dashboard")) as world:
        world.registered(world.spec)
        world.furnish(SHOP)
        (manager,) = (row for row in world.plane.units if row.name == controller_manager.UNIT)
        # Kubernetes' own roles for people are put together by it, and by nothing else.
        flags = {**manager.flags, "controllers": "clusterrole-aggregation-controller"}
        with world.master.running(replace(manager, flags=flags)):
            view = "get clusterrole view --output jsonpath={.rules[*].resources}"
            eventually("the role is whole", lambda: "pods" in world.kubectl(view))
            yield world


TokenFor = Callable[[Cluster], str]


@pytest.fixture
def token_for(world: NodesWorld, monkeypatch: pytest.MonkeyPatch) -> TokenFor:
    """The token that ``open`` gives a person in this cluster, once it has these add-ons."""
    reached = cast(Any, SimpleNamespace(kubeconfig=world.admin))
    monkeypatch.setattr(expose, "_entered", lambda *_: None)

    def token(spec: Cluster) -> str:
        done = world.applied(spec)
        assert done.returncode == 0, done.stdout + done.stderr
        return expose.page_token(reached, PAGE)

    return token


class Serving:
    """The server as in its pod, at a port of this computer."""

    def __init__(self, world: NodesWorld, folder: Path) -> None:
        self.log, self.port = folder / "headlamp.log", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        authority = folder / "ca.crt"
        authority.write_text(world.cluster.keys.signers[Authority.KUBERNETES].certificate)
        program = inside(stored_program(dashboard.NAME, ON.versions), dashboard.NAME, folder)
        (container,) = pod_of(ON)["spec"]["containers"]
        at = {dashboard.AUTHORITY: str(authority), f":{dashboard.PORT}": f"127.0.0.1:{self.port}"}
        self._command = [str(program), *container["args"]]
        for before, after in at.items():
            self._command = [word.replace(before, after) for word in self._command]
        config = json.loads(world.kubectl("config view --raw --output json"))
        server = config["clusters"][0]["cluster"]["server"]
        host, port = server.removeprefix("https://").split(":")
        self._environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("a") as output:
            process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                env={**self._environment, "GOMAXPROCS": "1"},
            )
        try:
            eventually("the server answers", self._answers, reason=self.log.read_text)
            yield process
        finally:
            process.terminate()
            process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False, timeout=60).is_success
        except httpx.TransportError:
            return False

    def person(self) -> httpx.Client:
        """Somebody with a browser of their own."""
        return httpx.Client(base_url=f"{self.url}/clusters/main", trust_env=False, timeout=120)


@pytest.fixture
def serving(world: NodesWorld, tmp_path: Path) -> Iterator[Serving]:
    made = Serving(world, tmp_path)
    with made.running():
        yield made


def logged_in(person: httpx.Client, token: str) -> httpx.Response:
    return person.post("/set-token", json={"token": token})


def own_name(person: httpx.Client, **headers: str) -> str:
    """By whose rights the API answers."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = person.post(path, json=review, headers=headers)
    assert answer.is_success, answer.text
    return str(answer.json()["status"]["userInfo"]["username"])


ACCOUNT = f"system:serviceaccount:{PAGE.namespace}:{PAGE.account}"


@pytest.mark.engine
def test_a_person_may_do_what_the_spec_says(serving: Serving, token_for: TokenFor) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}}
    for spec, expected in ((ON, 403), (ADMIN, 201)):
        with serving.person() as person:
            assert person.get("/api/v1/pods").status_code in (401, 403)
            assert logged_in(person, token_for(spec)).is_success
            assert own_name(person) == ACCOUNT
            for path in ("/api/v1/pods", "/api/v1/nodes", "/apis/apps/v1/deployments"):
                assert person.get(path).status_code == 200
            made = person.post(f"/api/v1/namespaces/{SHOP}/secrets", json=secret)
            assert made.status_code == expected, made.text
            assert person.get("/api/v1/secrets").status_code == (403 if expected == 403 else 200)


@pytest.mark.engine
def test_a_token_ends_after_a_working_day(world: NodesWorld, token_for: TokenFor) -> None:
    token = token_for(ON)
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "own"},
        "spec": {"token": token},
    }
    answer = world.kubectl("create --output json --filename -", review)
    status = json.loads(answer)["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == ACCOUNT
    claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 8 * 3600


@pytest.mark.engine
def test_nobody_acts_as_somebody_else(
    serving: Serving, token_for: TokenFor, world: NodesWorld
) -> None:
    token = token_for(ADMIN)
    somebody = {"Impersonate-User": "somebody"}
    forbidden = {"X-Remote-User": "system:admin", "X-Remote-Group": "system:masters"}
    with serving.person() as person:
        assert logged_in(person, token).is_success
        assert own_name(person, **somebody) == ACCOUNT
        assert own_name(person, **forbidden) == ACCOUNT
    server = json.loads(world.kubectl("config view --raw --output json"))["clusters"][0]["cluster"]
    with httpx.Client(base_url=server["server"], verify=False, trust_env=False) as direct:
        direct.headers["Authorization"] = f"Bearer {token}"
        assert own_name(direct, **somebody) == "somebody", "the API server itself would take it"


@pytest.mark.engine
def test_a_way_into_a_container_is_the_apis_to_refuse(
    serving: Serving, token_for: TokenFor, world: NodesWorld
) -> None:
    """No kubelet runs here, so who may go that way is refused by the way's other end."""
    world.begin(SHOP, "entered")
    path = f"/api/v1/namespaces/{SHOP}/pods/entered/exec?command=sh&stdin=true"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
        "Sec-WebSocket-Version": "13",
    }
    reasons = []
    for spec in (ON, ADMIN):
        with serving.person() as person:
            assert logged_in(person, token_for(spec)).is_success
            answer = person.get(path, headers=upgrade)
            reasons.append((answer.status_code, answer.text))
            foreign = {**upgrade, "Origin": "http://127.0.0.1:1"}
            refused = person.get(path, headers=foreign)
            assert (refused.status_code, refused.text.strip()) == (
                403,
                "only this server's own pages may ask",
            )
    (denied, why), (status, reason) = reasons
    assert denied == 403
    assert "pods/exec" in why
    assert status == 500
    assert "dial" in reason or "connect" in reason or "address" in reason, reason


# -- the pages -----------------------------------------------------------------------------------


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as window:
        window.wide(1400)
        yield window


def typed(window: Browser, token: str) -> None:
    """Somebody types or pastes a token into the login page."""
    (field,) = window.until(lambda: window.all("input#token"), "it asks for a token")
    field.clear()
    field.send_keys(token, Keys.TAB)
    for button in window.all("button"):
        if button.text.strip().lower() == "authenticate":
            button.click()
            return
    raise AssertionError("there is no button to log in")


def shown(window: Browser) -> str:
    return str(window.run("return document.body.innerText"))


@pytest.mark.browser
@pytest.mark.engine
def test_a_person_logs_in_looks_around_and_logs_out(
    serving: Serving, token_for: TokenFor, world: NodesWorld, window: Browser, tmp_path: Path
) -> None:
    world.begin(SHOP, "web")
    token = token_for(ON)
    window.driver.get(PAGE.url(f"127.0.0.1:{serving.port}"))
    typed(window, "not-a-token")
    window.until(lambda: "Error authenticating" in shown(window), "a wrong token is refused")
    assert window.driver.get_cookies() == []
    typed(window, token)
    window.until(lambda: not window.all("input#token"), "the token is taken")
    window.until(lambda: "Overview" in shown(window), "there is an overview")
    (cookie,) = window.driver.get_cookies()
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Strict"
    assert cookie["value"] not in token
    assert token not in json.dumps(window.run("return {...localStorage, ...sessionStorage}"))

    window.driver.get(f"{serving.url}/c/main/pods")
    window.until(lambda: "web" in shown(window), "a pod that was there")
    world.begin(SHOP, "later")
    window.until(lambda: "later" in shown(window), "a pod that came, by a WebSocket")
    window.driver.save_screenshot(str(tmp_path / "pods.png"))
    asked = [url for url in window.requests() if url.startswith(("http", "ws"))]
    assert asked
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{serving.port}"}
    refused = [row for row in window.complaints() if "Content Security Policy" in row]
    assert refused == []

    (leave,) = window.all("button[aria-label='Log out']")
    leave.click()
    window.until(lambda: window.all("input#token"), "it asks for a token again")
    assert window.driver.get_cookies() == []
    with serving.person() as person:
        person.cookies.set(cookie["name"], cookie["value"])
        assert person.get("/api/v1/pods").status_code in (401, 403), "the session has ended"
