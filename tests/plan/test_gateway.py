"""The Gateway API: the real Traefik, as in its pod, before a real API, with routes of people."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certs.authority import new_authority
from certs.table import Authority
from lab.progress import Silence
from lab.recorded_crds import GATEWAY_API, definitions, recorded
from plan.addons import defined, gateway, ingress, wanted
from plan.cluster import cluster_plan
from plan.condition import ProgrammedGateway
from plan.needs import ports
from plan.objects import Manifest
from preview.consequences import consequences
from probe.access import Access
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.running import stored_program
from tests.plan.shell import cluster
from tests.plan.stored import as_root, inside
from tests.plan.test_ingress import (
    FIXED,
    HOST,
    NOW,
    ON,
    described,
    entering,
    may,
    networked_world,
    objects,
    pair_for,
    pod,
    served,
    store_pair,
    wished,
)
from tests.plan.test_node_objects import NodesWorld
from tests.probe.asking import asked_once

GATEWAY = described(gateway=True, certificate_names=[HOST])
LIMITED = described(gateway=True, namespaces=["open"])
CHECK = ProgrammedGateway(path=gateway.PATH)
API = "gateway.networking.k8s.io/v1"


# -- objects -------------------------------------------------------------------------------------


def test_without_the_setting_nothing_of_it_is_there() -> None:
    for spec in (ON, FIXED):
        assert "ateway" not in json.dumps(wanted(spec)["ingress"], default=repr)
        assert not any(name.endswith(gateway.GROUP) for name in defined(spec))
        assert "gateway" not in {row.name for row in cluster_plan(spec).conditions}


def test_each_listener_is_at_a_port_of_traefik_and_of_the_way_in() -> None:
    """Traefik refuses a listener at whose port it does not listen itself."""
    for spec in (GATEWAY, described(balanced=True, gateway=True)):
        (made,) = objects(spec, "Gateway")
        listening = {row["name"]: row["containerPort"] for row in _container(spec)["ports"]}
        listeners = {row["name"]: row["port"] for row in made["spec"]["listeners"]}
        assert listeners == {"http": listening["web"], "https": listening["websecure"]}
        assert listeners == {"http": 80, "https": 443}
        (policy,) = objects(spec, "NetworkPolicy")
        opened = {row["port"] for row in policy["spec"]["ingress"][0]["ports"]}
        assert opened == set(listeners.values())
    assert set(ports(GATEWAY, "minion")) == set(ports(ON, "minion"))


def test_low_ports_need_neither_root_nor_a_capability() -> None:
    security = pod(GATEWAY)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert [row["name"] for row in security["sysctls"]] == ["net.ipv4.ip_unprivileged_port_start"]
    assert _container(GATEWAY)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "sysctls" not in pod(ON)["securityContext"]


def test_https_has_the_certificate_of_the_add_on() -> None:
    (made,) = objects(GATEWAY, "Gateway")
    (reference,) = made["spec"]["listeners"][1]["tls"]["certificateRefs"]
    held = {row["metadata"]["name"]: row for row in objects(GATEWAY, "Secret")}
    secret = held[reference["name"]]
    assert secret["metadata"]["namespace"] == made["metadata"]["namespace"]
    assert secret["data"] == held[ingress.SECRET]["data"]


def test_it_writes_nothing_but_what_it_says_of_objects() -> None:
    for spec in (GATEWAY, LIMITED):
        for role in objects(spec, "ClusterRole", "Role"):
            for rule in role["rules"]:
                assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
                if set(rule["verbs"]) - {"get", "list", "watch"}:
                    assert rule["verbs"] == ["update"]
                    assert all(resource.endswith("/status") for resource in rule["resources"])


def test_limited_to_namespaces_it_reads_none_but_these_and_the_gateways_own() -> None:
    read = {
        role["metadata"].get("namespace")
        for role in objects(LIMITED, "ClusterRole", "Role")
        for rule in role["rules"]
        if {"secrets", "configmaps", "httproutes"} & set(rule["resources"])
    }
    assert read == {"open", gateway.NAMESPACE}
    secrets = {row["metadata"]["namespace"] for row in objects(LIMITED, "Secret")}
    assert ingress.namespace(LIMITED) not in read, "where other add-ons have their Secrets"
    assert secrets == {gateway.NAMESPACE, ingress.namespace(LIMITED)}
    watched = "--providers.kubernetesgateway.namespaces=open,hardway-gateway"
    assert watched in _container(LIMITED)["args"]
    named = described(gateway=True, namespaces=["open", gateway.NAMESPACE])
    assert len(objects(named, "Role")) == 2, "also where a person names it"


def test_it_shows_the_address_that_ingresses_show() -> None:
    def shown(spec: Cluster) -> list[str]:
        args = _container(spec)["args"]
        return [arg.split("statusaddress.")[1] for arg in args if "statusaddress" in arg]

    assert shown(GATEWAY) == ["ip=192.168.1.10"]
    fixed = described(balanced=True, gateway=True, address="192.168.1.205")
    assert shown(fixed) == ["ip=192.168.1.205"]
    free = described(balanced=True, gateway=True)
    assert shown(free) == ["service.namespace=hardway-addons", "service.name=traefik"]
    assert not shown(described(balanced=True, gateway=True, namespaces=["open"]))


def test_the_kinds_of_the_standard_channel_are_recorded(progress: Silence) -> None:
    (module,) = (row for row in recorded() if row.file == gateway.DEFINITIONS.name)
    assert gateway.DEFINITIONS.read_text() == definitions(module, progress)
    channels = {
        row["metadata"]["annotations"]["gateway.networking.k8s.io/channel"]
        for row in gateway.definitions()
    }
    assert channels == {"standard"}


def test_a_preview_says_that_routes_go_with_their_kinds() -> None:
    def sentences_of(before: Cluster, after: Cluster) -> list[str]:
        return [
            row.sentence
            for row in consequences(before, after, (), ())
            if "httproutes.gateway.networking.k8s.io" in row.sentence
        ]

    for after in (ON, cluster()):
        (sentence,) = sentences_of(GATEWAY, after)
        assert "deletes all objects of them, people's as well" in sentence
    assert not sentences_of(ON, GATEWAY)
    assert not sentences_of(GATEWAY, LIMITED)


def _container(spec: Cluster) -> Manifest:
    (container,) = pod(spec)["containers"]
    whole: Manifest = container
    return whole


# -- the program ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesWorld]:
    with networked_world("gateway", tmp_path_factory.mktemp("gateway")) as made:
        yield made


def applied(world: NodesWorld, manifest: Manifest) -> None:
    world.kubectl("apply --server-side --force-conflicts --filename -", manifest)


def of_gateway(name: str = gateway.NAME, namespace: str = gateway.NAMESPACE) -> dict[str, str]:
    """A Gateway as a route names it."""
    return {"name": name, "namespace": namespace}


def to_service(name: str) -> dict[str, Any]:
    return {"name": name, "port": 80}


def routed(
    world: NodesWorld,
    namespace: str,
    name: str,
    host: str,
    backend: dict[str, Any],
    parent: dict[str, str] | None = None,
    kind: str = "HTTPRoute",
) -> None:
    """A route that leads a host to a backend."""
    applied(
        world,
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "parentRefs": [parent or of_gateway()],
                "hostnames": [host],
                "rules": [{"backendRefs": [backend]}],
            },
        },
    )


def states(world: NodesWorld, kind: str, namespace: str, name: str) -> dict[str, str]:
    """The conditions of a route's only parent: type to status and reason."""
    whole = json.loads(world.kubectl(f"-n {namespace} get {kind} {name} --output json"))
    return {
        row["type"]: f"{row['status']} {row['reason']}"
        for parent in whole.get("status", {}).get("parents", ())
        for row in parent["conditions"]
    }


SERVED = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}


def unmet(world: NodesWorld) -> str:
    """What the condition says of the Gateway; nothing where it holds."""
    return str(asked_once(CHECK, Access(machines={}, ssh_key="", kubeconfig=world.admin)) or "")


@as_root
@pytest.mark.engine
class TestRoutes:
    def test_its_version_is_the_one_with_which_traefik_was_built(self, tmp_path: Path) -> None:
        archive = stored_program(ingress.NAME, ON.versions)
        program = inside(archive, ingress.NAME, tmp_path).read_bytes()
        assert f"dep\tsigs.k8s.io/gateway-api\tv{GATEWAY_API}\t".encode() in program

    def test_the_condition_waits_until_traefik_has_both_listeners(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        assert world.applied(ON).returncode == 0
        assert "answers 404" in unmet(world)
        done = world.applied(GATEWAY)
        assert done.returncode == 0, done.stdout + done.stderr
        assert unmet(world).count("is not Accepted (") == 3
        with entering(world, GATEWAY, tmp_path) as entered:
            eventually(
                "it holds",
                lambda: not unmet(world),
                reason=lambda: f"{unmet(world)} {entered.log.read_text()[-3000:]}",
            )
            shown = world.kubectl(f"-n {gateway.NAMESPACE} get gateway {gateway.NAME}")
            assert "192.168.1.10" in shown
            assert "True" in world.kubectl(f"get gatewayclass {gateway.CLASS}")
            world.kubectl(f"-n {gateway.NAMESPACE} delete secret {gateway.SECRET}")
            eventually(
                "https has no certificate any more",
                lambda: unmet(world).startswith(
                    "the listener https of the Gateway traefik is not Accepted (Cannot load"
                ),
                reason=lambda: unmet(world),
            )
            assert world.applied(GATEWAY).returncode == 0
            eventually("it holds again", lambda: not unmet(world), reason=lambda: unmet(world))

    def test_a_route_answers_by_http_and_https_beside_ingresses(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with (
            served(world, "shop", "web"),
            served(world, "shop", "blog"),
            entering(world, GATEWAY, tmp_path) as entered,
        ):
            assert entered.http(HOST)[0] == 404, "no route wants it"
            routed(world, "shop", "main", HOST, to_service("web"))
            entered.until("the host leads there", (200, "shop/web /a"), HOST, "/a")
            assert entered.https(HOST, "/b") == (200, "shop/web /b")
            eventually(
                "the route says so",
                lambda: states(world, "httproute", "shop", "main") == SERVED,
                reason=lambda: str(states(world, "httproute", "shop", "main")),
            )
            assert entered.http("other.example.org")[0] == 404
            wished(world, "shop", "main", "blog.example.org", "blog")
            entered.until("an Ingress, too", (200, "shop/blog /"), "blog.example.org")
            routed(world, "shop", "main", HOST, to_service("nobody"))
            eventually("there is no such Service", lambda: entered.http(HOST)[0] == 500)
            assert entered.https(HOST)[0] == 500
            eventually(
                "and the route says so",
                lambda: (
                    states(world, "httproute", "shop", "main")["ResolvedRefs"]
                    == "False BackendNotFound"
                ),
                reason=lambda: str(states(world, "httproute", "shop", "main")),
            )
            world.kubectl("-n shop delete httproute main")
            eventually("no route wants it again", lambda: entered.http(HOST)[0] == 404)
            world.kubectl("-n shop delete ingress main")

    def test_what_the_gateway_serves_besides_is_accepted(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with served(world, "shop", "web"), entering(world, GATEWAY, tmp_path):
            routed(world, "shop", "calls", "rpc.example.org", to_service("web"), kind="GRPCRoute")
            eventually(
                "it has a GRPCRoute",
                lambda: states(world, "grpcroute", "shop", "calls") == SERVED,
                reason=lambda: str(states(world, "grpcroute", "shop", "calls")),
            )
            world.kubectl("-n shop delete grpcroute calls")

    def test_a_gateway_of_a_person_has_another_certificate(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        host = "own.example.com"
        signer = new_authority(Authority.FRONT_PROXY, NOW)
        authority = tmp_path / "own-ca.crt"
        authority.write_text(signer.certificate)
        with served(world, "shop", "web"), entering(world, GATEWAY, tmp_path) as entered:
            store_pair(world, "shop", "own", pair_for(signer, host))
            listener = {
                "name": "https",
                "port": 443,
                "protocol": "HTTPS",
                "hostname": host,
                "tls": {"certificateRefs": [{"name": "own"}]},
            }
            applied(
                world,
                {
                    "apiVersion": API,
                    "kind": "Gateway",
                    "metadata": {"name": "own", "namespace": "shop"},
                    "spec": {"gatewayClassName": gateway.CLASS, "listeners": [listener]},
                },
            )
            routed(world, "shop", "own", host, to_service("web"), of_gateway("own", "shop"))
            eventually(
                "it is answered",
                lambda: entered.https(host, authority=authority) == (200, "shop/web /"),
                reason=entered.log.read_text,
            )
            assert entered.http(host)[0] == 404, "its Gateway has no listener for http"
            assert entered.https(HOST)[0] == 404, "and all else has the cluster's"
            world.kubectl("-n shop delete gateway,httproute own")

    def test_a_route_reaches_no_service_of_traefik_and_none_of_strangers(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        internal = {"group": "traefik.io", "kind": "TraefikService", "name": "ping@internal"}
        foreign = {**to_service("web"), "namespace": "private"}
        with (
            served(world, "shop", "web"),
            served(world, "private", "web"),
            entering(world, GATEWAY, tmp_path) as entered,
        ):
            routed(world, "shop", "foreign", "foreign.example.org", foreign)
            routed(world, "shop", "internal", "internal.example.org", internal)
            eventually(
                "that of strangers is refused",
                lambda: entered.http("foreign.example.org")[0] == 500,
            )
            eventually(
                "and that of Traefik",
                lambda: (
                    states(world, "httproute", "shop", "internal").get("ResolvedRefs")
                    == "False RefNotPermitted"
                ),
                reason=lambda: str(states(world, "httproute", "shop", "internal")),
            )
            assert entered.http("internal.example.org")[0] == 404, "and not 200"
            applied(
                world,
                {
                    "apiVersion": API,
                    "kind": "ReferenceGrant",
                    "metadata": {"name": "shop", "namespace": "private"},
                    "spec": {
                        "from": [
                            {"group": gateway.GROUP, "kind": "HTTPRoute", "namespace": "shop"}
                        ],
                        "to": [{"group": "", "kind": "Service"}],
                    },
                },
            )
            entered.until("it is granted", (200, "private/web /"), "foreign.example.org")
            world.kubectl("-n shop delete httproute foreign internal")

    def test_other_namespaces_than_the_settings_are_not_read(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        with (
            served(world, "hidden", "web"),
            served(world, "open", "web"),
            entering(world, LIMITED, tmp_path) as entered,
        ):
            for name in ("hidden", "open"):
                routed(world, name, "main", f"{name}.example.org", to_service("web"))
            entered.until("what it may read", (200, "open/web /"), "open.example.org")
            assert entered.http("hidden.example.org")[0] == 404
            eventually("both listeners", lambda: not unmet(world), reason=lambda: unmet(world))
            account = f"system:serviceaccount:{ingress.namespace(LIMITED)}:{ingress.NAME}"
            for name, answer in (("open", "yes"), ("hidden", "no"), ("hardway-nodes", "no")):
                assert may(world, f"list secrets -n {name} --as {account}") == answer

    def test_switched_off_its_kinds_go_with_their_objects(
        self, world: NodesWorld, tmp_path: Path
    ) -> None:
        """The last test: nobody here ends the deletion of a namespace."""
        assert world.applied(GATEWAY).returncode == 0
        routed(world, "shop", "main", HOST, to_service("web"))
        kinds = "customresourcedefinitions"
        assert world.kubectl(f"get {kinds} --output name").count(gateway.GROUP) == 10
        done = world.applied(ON)
        assert done.returncode == 0, done.stdout + done.stderr
        eventually("its kinds are gone", lambda: gateway.GROUP not in world.kubectl(f"get {kinds}"))
        rights = world.kubectl(f"get clusterrole hardway:{ingress.NAME} --output json")
        assert "gateway" not in rights
        with entering(world, ON, tmp_path) as entered:
            assert entered.http(HOST)[0] == 404
