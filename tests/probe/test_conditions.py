"""Each condition asked of real programs: whether it holds, and what it says where it does not."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from certs.authority import issued
from certs.bundle import Pair
from certs.table import CLIENT, SERVER, Authority, Row, common_name
from plan.addons.coredns import NAMESPACE, SELECTOR
from plan.condition import (
    ApiServers,
    ApiServices,
    Known,
    NameResolves,
    NodeProblems,
    Nodes,
    Pods,
    PodsReach,
    ServiceAnswers,
    TrustedAuthorities,
    WayIn,
)
from plan.roll import ROLLING
from probe.api import ApiError
from spec.versions import versions_for
from tests.engine.stack import eventually
from tests.plan.running import Keys, stored_program
from tests.plan.stored import as_root, inside
from tests.probe.asking import Asking
from tests.probe.cluster import VERSION, RunningCluster, running
from tests.probe.network import ADDRESS, FOREIGN_PORT, NAME, ONE, TLS_PORT, TWO, PodNetwork

pytestmark = [pytest.mark.engine, as_root]

PODS = Pods(namespace=NAMESPACE, selector=SELECTOR, count=2)


# -- the API servers -----------------------------------------------------------------------------


def api_servers(url: str, version: str = VERSION) -> ApiServers:
    return ApiServers(servers={"a1": url}, version=version)


def test_an_api_server_is_ready_and_of_its_version(asked: Asking, cluster: RunningCluster) -> None:
    assert asked(api_servers(cluster.url)) is None
    sentence = asked.sentence(api_servers(cluster.url, "v1.2.3"))
    assert sentence == f"the API server of a1 is {VERSION} and not v1.2.3"


@pytest.mark.parametrize(
    ("subject", "text", "sentence"),
    [
        ("/CN=Somebody", "{certificate}", "trust Somebody and not {wanted}"),
        ("/O=Somebody", "{certificate}", "trust O=Somebody and not {wanted}"),
        ("/CN=A/CN=B", "{certificate}", "trust CN=B,CN=A and not {wanted}"),
        ("/", "{certificate}", "trust an authority without a name and not {wanted}"),
        ("/", "-----BEGIN CERTIFICATE-----", "get what is no certificate"),
        ("/", "", "trust no authority and not {wanted}"),
    ],
)
def test_pods_get_an_authority_that_is_not_ours(
    asked: Asking, cluster: RunningCluster, tmp_path: Path, subject: str, text: str, sentence: str
) -> None:
    """Whatever somebody wrote in the place of the certificate."""
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", subject, "-keyout", key, "-out", file),
        ],
        check=True,
        capture_output=True,
    )
    given = text.format(certificate=file.read_text())
    object_path = "/api/v1/namespaces/default/configmaps"
    cluster.post(object_path, {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": given}})
    wanted = common_name(Authority.KUBERNETES, 1)
    check = TrustedAuthorities(
        kubernetes=(wanted,), front_proxy=(common_name(Authority.FRONT_PROXY, 1),)
    )
    try:
        assert asked.sentence(check) == f"pods of default {sentence.format(wanted=wanted)}"
    finally:
        cluster.remove(f"{object_path}/kube-root-ca.crt")


def test_each_api_server_is_asked_at_its_own_address(
    asked: Asking, cluster: RunningCluster
) -> None:
    """And not at the kubeconfig's, where a balancer would answer for it."""
    both = ApiServers(servers={"a1": cluster.url, "a2": "https://127.0.0.1:1"}, version=VERSION)
    unmet = asked(both)
    assert unmet is not None
    assert str(unmet) == (
        "the API server of a2 is not ready: https://127.0.0.1:1 cannot be reached "
        "(Connection refused)"
    )
    assert not unmet.wholly


def test_a_server_of_another_authority_is_not_believed(
    asked: Asking, cluster: RunningCluster
) -> None:
    foreign = Keys(cluster.local.spec).signers[Authority.KUBERNETES].certificate
    access = replace(cluster.access, kubeconfig=cluster.kubeconfig(authority=foreign))
    assert "its certificate is not good" in asked.sentence(api_servers(cluster.url), access)


def test_the_api_refuses_a_stranger_and_says_so(asked: Asking, cluster: RunningCluster) -> None:
    stranger = Row(name="x", node=None, issuer=Authority.KUBERNETES, common_name="x", uses=CLIENT)
    now = datetime.now(UTC)
    known = issued(stranger, cluster.keys.signers[Authority.KUBERNETES], now)
    access = replace(cluster.access, kubeconfig=cluster.kubeconfig(pair=known))
    nodes = Nodes(nodes=("m1",), version=VERSION)
    assert "answers 403" in asked.sentence(nodes, access)
    assert 'User "x" cannot list resource "nodes"' in asked.sentence(nodes, access)
    unknown = Keys(cluster.local.spec).of_people()["super-admin"]
    access = replace(cluster.access, kubeconfig=cluster.kubeconfig(pair=unknown))
    assert "answers 401 (Unauthorized)" in asked.sentence(nodes, access)


def test_without_a_kubeconfig_the_way_to_one_is_told(
    asked: Asking, cluster: RunningCluster
) -> None:
    access = replace(cluster.access, kubeconfig=None)
    assert "./hardway up" in asked.sentence(api_servers(cluster.url), access)


@pytest.mark.parametrize("text", ["", "- a", "current-context: x", "{"])
def test_a_kubeconfig_that_is_none_is_refused(
    asked: Asking, cluster: RunningCluster, text: str
) -> None:
    text = text or cluster.kubeconfig().replace("client-key-data: ", "client-key-data: AAAA")
    with pytest.raises(ApiError, match="kubeconfig cannot be used") as caught:
        asked(api_servers(cluster.url), replace(cluster.access, kubeconfig=text))
    assert "AAAA" not in str(caught.value)


# -- APIs that pods serve ------------------------------------------------------------------------


def test_an_api_that_a_pod_serves_is_available_or_says_why_not(
    asked: Asking, cluster: RunningCluster
) -> None:
    own = ApiServices(names=("v1.apps",))
    eventually("the API server has its own APIs", lambda: asked(own) is None)
    path = "/apis/apiregistration.k8s.io/v1/apiservices"
    missing = ApiServices(names=("v1.apps", "v1beta1.metrics.k8s.io"))
    assert "answers 404" in asked.sentence(missing)
    spec = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "nobody", "namespace": NAMESPACE},
    }
    cluster.post(path, {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec})
    try:
        eventually("it has been looked for", lambda: "nobody" in asked.sentence(missing))
        unmet = asked(missing)
        assert unmet is not None
        assert str(unmet).startswith("the API v1beta1.metrics.k8s.io is not available (")
        assert not unmet.wholly
    finally:
        cluster.remove(f"{path}/v1beta1.metrics.k8s.io")


# -- nodes ---------------------------------------------------------------------------------------


@pytest.fixture
def empty(cluster: RunningCluster) -> Iterator[RunningCluster]:
    yield cluster
    cluster.remove_all()


def test_the_nodes_are_these_and_ready_and_of_their_version(
    asked: Asking, empty: RunningCluster
) -> None:
    check = Nodes(nodes=("m1", "m2"), version=VERSION)
    unmet = asked(check)
    gone = "has no Node object (./hardway up --refresh has its kubelet register it)"
    assert str(unmet) == f"m1 {gone}; m2 {gone}"
    assert unmet is not None
    assert unmet.wholly

    empty.node("m1", "True")
    empty.node("m2", "False", message="container runtime network not ready")
    unmet = asked(check)
    assert str(unmet) == "m2 is not Ready (container runtime network not ready)"
    assert unmet is not None
    assert not unmet.wholly

    empty.node("m2", "True", version="v1.36.3")
    assert asked.sentence(check) == f"the kubelet of m2 is v1.36.3 and not {VERSION}"
    empty.node("m2", "Unknown", message="Kubelet stopped posting node status.")
    assert "m2 is not Ready (Kubelet stopped posting" in asked.sentence(check)
    empty.node("m2", "True")
    assert asked(check) is None
    rolling = {"metadata": {"annotations": {ROLLING: "drains default/web, cordoned for that"}}}
    empty.client.patch(
        "/api/v1/nodes/m2",
        json=rolling,
        headers={"content-type": "application/merge-patch+json"},
    )
    assert asked.sentence(check) == (
        "the change of m2 to another version has not ended (it drains default/web, cordoned for "
        "that): ./hardway up --refresh goes on with it"
    )
    empty.node("old", "True")
    assert "there is a Node old" in asked.sentence(check)


def test_a_problem_of_a_node_is_named_with_its_reason(asked: Asking, empty: RunningCluster) -> None:
    check = NodeProblems(nodes=("m1", "m2"), types=("ReadonlyFilesystem",))
    for name in check.nodes:
        empty.node(name, "True")
    silent = "nobody says yet whether m1 has the problem ReadonlyFilesystem"
    assert silent in asked.sentence(check)

    def say(name: str, status: str, **more: str) -> None:
        condition = {"type": "ReadonlyFilesystem", "status": status, **more}
        empty.status(f"/api/v1/nodes/{name}", {"conditions": [condition]})

    say("m1", "False")
    assert "m1" not in asked.sentence(check)
    say("m2", "False")
    assert asked(check) is None
    say("m2", "True", reason="FilesystemIsReadOnly", message="vda1 is read-only")
    unmet = asked(check)
    assert str(unmet) == (
        "m2 has the problem ReadonlyFilesystem (FilesystemIsReadOnly: vda1 is read-only)"
    )
    assert unmet is not None
    assert not unmet.wholly


# -- pods ----------------------------------------------------------------------------------------


def test_so_many_pods_are_ready(asked: Asking, empty: RunningCluster) -> None:
    assert asked.sentence(PODS) == "0 of 2 pods k8s-app=kube-dns are Ready"
    empty.pod("one", "m1", running(ONE))
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "coredns", "image": "x", "imageID": "", "ready": False}
    status = {"phase": "Pending", "containerStatuses": [{**container, "restartCount": 0}]}
    status["containerStatuses"][0]["state"] = waiting  # type: ignore[index]
    empty.pod("two", "m2", status)
    unmet = asked(PODS)
    assert str(unmet) == (
        "1 of 2 pods k8s-app=kube-dns are Ready; "
        "two on m2: its image cannot be pulled: no such image"
    )
    assert unmet is not None
    assert not unmet.wholly
    empty.pod("two", "m2", {**running(TWO), "containerStatuses": None})
    assert asked(PODS) is None


@pytest.fixture
def pods(empty: RunningCluster, network: PodNetwork) -> RunningCluster:
    """Two Ready pods on two machines, in networks that are there."""
    empty.pod("one", "m1", running(ONE))
    empty.pod("two", "m2", running(TWO))
    return empty


REACH = PodsReach(nodes=("m1", "m2"), pods=PODS, port=8181, path="/ready")


def test_nodes_reach_each_others_pods_and_the_pair_that_does_not_is_named(
    asked: Asking, pods: RunningCluster, network: PodNetwork
) -> None:
    assert asked(REACH) is None
    sentence = asked.sentence(replace(REACH, path="/nothing"))
    assert f"one on m1 does not reach two on m2 at http://{TWO}:8181/nothing" in sentence
    assert "404" in sentence
    network.cut(True)
    try:
        sentence = asked.sentence(REACH)
    finally:
        network.cut(False)
    assert f"one on m1 does not reach two on m2 at http://{TWO}:8181/ready" in sentence
    assert f"two on m2 does not reach one on m1 at http://{ONE}:8181/ready" in sentence


def test_pods_of_one_machine_prove_nothing_about_others(
    asked: Asking, pods: RunningCluster
) -> None:
    pods.remove(f"/api/v1/namespaces/{NAMESPACE}/pods/two")
    pods.pod("three", "m1", running(TWO))
    assert "are on m1" in asked.sentence(REACH)


def test_a_node_without_such_a_pod_asks_from_its_own_network(
    asked: Asking, pods: RunningCluster, tmp_path: Path
) -> None:
    """Here that is this computer's, from which a pod of the loopback interface is reached."""
    pods.remove(f"/api/v1/namespaces/{NAMESPACE}/pods/two")
    pods.pod("one", "m1", running("127.0.0.1"))
    (tmp_path / "ready").touch()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check = replace(REACH, pods=replace(PODS, count=1), port=server.server_port)
        assert asked(check) is None, "m1 has all of the pods and reaches none of another node"
        server.shutdown()
    sentence = asked.sentence(check)
    assert sentence.startswith(
        f"m2 does not reach one on m1 at http://127.0.0.1:{check.port}/ready ("
    )
    assert "m1 does not" not in sentence
    assert asked(replace(check, nodes=("m1",))) is None


def test_a_machine_that_cannot_be_asked_is_named(asked: Asking, pods: RunningCluster) -> None:
    access = pods.access
    machines = {**access.machines, "m2": replace(access.machines["m2"], port=1)}
    sentence = asked.sentence(REACH, replace(access, machines=machines))
    assert sentence.startswith("m2 (127.0.0.1 port 1) cannot be reached")


def test_a_pod_whose_network_is_not_there_is_named(asked: Asking, pods: RunningCluster) -> None:
    pods.pod("two", "m2", running("198.18.255.255"))
    sentence = asked.sentence(REACH)
    assert "two on m2 (no process here has the pod's address 198.18.255.255)" in sentence


def test_a_service_answers_with_a_certificate_of_the_cluster(
    asked: Asking, pods: RunningCluster
) -> None:
    """Also to a caller without one, whom the server tells nothing."""
    check = ServiceAnswers(inside=PODS, address=TWO, port=TLS_PORT)
    eventually("it answers", lambda: asked(check) is None)
    sentence = asked.sentence(replace(check, port=FOREIGN_PORT))
    assert "does not answer one on m1" in sentence
    assert "certificate" in sentence
    sentence = asked.sentence(replace(check, port=1))
    assert f"https://{TWO}:1/ does not answer two on m2" in sentence


@contextmanager
def web_server(folder: Path, pair: Pair | None = None) -> Iterator[int]:
    """The port of a web server on this computer, by https where it has a certificate."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if pair:
            file = folder / "server.pem"
            file.write_text(pair.certificate + pair.key)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(file)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_way_in_is_each_nodes_address_or_a_load_balancers(
    asked: Asking, empty: RunningCluster, tmp_path: Path
) -> None:
    row = Row(
        name="web",
        node=None,
        issuer=Authority.KUBERNETES,
        common_name="web",
        uses=SERVER,
        dns_names=(NAME,),
    )
    pair = issued(row, empty.keys.signers[Authority.KUBERNETES], datetime.now(UTC))
    service = f"/api/v1/namespaces/{NAMESPACE}/services"
    ports = [{"port": 80}]
    empty.post(
        service, {"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "ports": ports}}
    )
    with web_server(tmp_path) as http, web_server(tmp_path, pair) as https:
        check = WayIn(
            nodes={"m1": "127.0.0.1", "m2": "127.0.0.1"},
            balanced_by="",
            name=NAME,
            http=http,
            https=https,
        )
        assert asked(check) is None
        # Each asks the next one, the last one the first.
        sentence = asked.sentence(replace(check, nodes={"m1": "127.0.0.1", "m2": "127.0.0.9"}))
        assert f"http://127.0.0.9:{http}/ does not answer" in sentence
        assert sentence.count("as m1 asked") == 2
        assert "as m2 asked" not in sentence
        sentence = asked.sentence(replace(check, name="other.test"))
        assert f"https://127.0.0.1:{https}/ does not answer" in sentence
        assert "http://127" not in sentence
        unreached = {"m1": "127.0.0.9", "m2": "127.0.0.9"}
        balanced = replace(check, nodes=unreached, balanced_by=f"{NAMESPACE}/web")
        assert asked.sentence(balanced) == (
            f"the Service {NAMESPACE}/web has no load balancer's address yet"
        )
        empty.status(f"{service}/web", {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}})
        assert asked(balanced) is None
    empty.remove(f"{service}/web")


RESOLVES = NameResolves(inside=PODS, server=TWO, name=NAME, address=ADDRESS)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"address": "192.0.2.99"}, f"NOERROR with {ADDRESS} and not 192.0.2.99"),
        ({"name": "nobody.test"}, "NXDOMAIN with no address"),
        ({"server": "127.0.0.1", "name": NAME}, None),
        ({"server": "198.18.255.255"}, "one on m1 ("),
    ],
)
def test_a_name_resolves_inside_a_pod(
    asked: Asking, pods: RunningCluster, changes: dict[str, str], why: str | None
) -> None:
    unmet = asked(replace(RESOLVES, **changes))  # type: ignore[arg-type]
    if why is None:
        assert unmet is None
    else:
        assert why in str(unmet)


def test_what_a_program_knows_is_asked_from_its_own_pod(
    asked: Asking, pods: RunningCluster, network: PodNetwork, tmp_path: Path
) -> None:
    """VictoriaMetrics itself, which measures itself under the names of two nodes of three."""
    archive = stored_program("victoria-metrics", versions_for())
    program = inside(archive, "victoria-metrics", tmp_path)
    nodes = [{"targets": ["127.0.0.1:8428"], "labels": {"node": name}} for name in ("m1", "m2")]
    job = {"job_name": "itself", "scrape_interval": "1s", "static_configs": nodes}
    settings = tmp_path / "scrape.yaml"
    settings.write_text(json.dumps({"scrape_configs": [job]}))
    data = f"-storageDataPath={tmp_path / 'data'}"
    network.start([str(program), data, f"-promscrape.config={settings}"], 8428)
    check = Known(
        inside=PODS,
        port=8428,
        path="/api/v1/query",
        query='max_over_time(up{job="itself"}[5m]) == 1',
        label="node",
        values=("m1", "m2"),
    )
    eventually("it knows both", lambda: asked(check) is None)
    unmet = asked(replace(check, values=("m1", "m3")))
    assert (str(unmet), unmet and unmet.wholly) == ("one on m1 has nothing new of m3", False)
    assert "one on m1 (" in asked.sentence(replace(check, query="up{"))
    assert "one on m1 (" in asked.sentence(replace(check, port=1))
    assert "does not answer a query" in asked.sentence(replace(check, path="/health"))


def test_without_a_ready_pod_nothing_is_asked_from_inside(
    asked: Asking, empty: RunningCluster
) -> None:
    for check in (REACH, RESOLVES, ServiceAnswers(inside=PODS, address=TWO, port=1)):
        assert "no pod k8s-app=kube-dns in kube-system is Ready" in asked.sentence(check)
