"""Where connections to a Service go, as its objects in the API say."""

from typing import Any

import pytest

from lab.problem import Problem
from ops.expose import Exposed, ServicePort, exposed_ports, service_port


def node(address: str, ready: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"n{address[-2:]}"},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [
                {"type": "Hostname", "address": "minion"},
                {"type": "InternalIP", "address": address},
            ],
        },
    }


NODES = [
    node("192.168.1.10", "Unknown"),
    node("192.168.1.11", "True"),
    node("192.168.1.12", "True"),
]


def service(*ports: dict[str, Any], address: str = "192.168.3.7", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {"clusterIP": address, "ports": list(ports)},
        "status": {"loadBalancer": status},
    }


def test_a_cluster_address_is_behind_a_node_that_is_ready() -> None:
    assert service_port(service({"port": 80}), NODES, None) == ServicePort(
        port=80, is_https=False, host="192.168.3.7", target=80, through="192.168.1.11"
    )


def test_a_cluster_address_is_behind_the_node_of_its_pod() -> None:
    """There a network policy sees the address of who asks, and not another node's."""
    for near, through in (({"n12"}, "192.168.1.12"), ({"n10"}, "192.168.1.11")):
        assert service_port(service({"port": 80}), NODES, None, near=near).through == through


def test_a_node_port_is_at_a_node_that_is_ready() -> None:
    assert service_port(service({"port": 80, "nodePort": 30080}), NODES, None) == ServicePort(
        port=80, is_https=False, host="192.168.1.11", target=30080
    )


def test_a_load_balancers_address_comes_first() -> None:
    balanced = service({"port": 443, "nodePort": 30443}, ingress=[{"ip": "192.168.1.50"}])
    assert service_port(balanced, NODES, None) == ServicePort(
        port=443, is_https=True, host="192.168.1.50", target=443
    )
    pending = service({"port": 443, "nodePort": 30443})
    assert service_port(pending, NODES, None).target == 30443


MANY = service(
    {"port": 53, "name": "dns", "protocol": "UDP"},
    {"port": 53, "name": "dns-tcp", "protocol": "TCP"},
    {"port": 9153, "name": "metrics"},
)


@pytest.mark.parametrize("wanted", ["9153", "metrics"])
def test_a_port_is_chosen_by_its_number_or_name(wanted: str) -> None:
    assert service_port(MANY, NODES, wanted).port == 9153


@pytest.mark.parametrize(
    ("described", "nodes", "wanted", "sentence"),
    [
        (MANY, NODES, None, r"has several TCP ports: .*53 \(dns-tcp\), 9153 \(metrics\)"),
        (MANY, NODES, "80", r"has no TCP port 80: name one of its ports: 53 \(dns-tcp\), 9153"),
        (MANY, NODES, "dns", "has no TCP port dns"),
        (service({"port": 53, "protocol": "UDP"}), NODES, None, "has no TCP port: expose another"),
        (service({"port": 80}, address="None"), NODES, None, "no address of its own: .*port-forw"),
        (service({"port": 80}), NODES[:1], None, "no node is ready"),
    ],
)
def test_what_cannot_be_reached_is_one_sentence(
    described: dict[str, Any], nodes: list[dict[str, Any]], wanted: str | None, sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence):
        service_port(described, nodes, wanted)


@pytest.mark.parametrize(
    ("port", "is_https"),
    [
        ({"port": 443}, True),
        ({"port": 8443}, True),
        ({"port": 9000, "name": "https"}, True),
        ({"port": 9000, "appProtocol": "https"}, True),
        ({"port": 9000, "appProtocol": "http", "name": "https"}, False),
        ({"port": 80, "name": "web"}, False),
    ],
)
def test_a_browser_gets_the_scheme_that_the_port_speaks(
    port: dict[str, Any], is_https: bool
) -> None:
    assert service_port(service(port), NODES, None).is_https is is_https
    scheme = "https" if is_https else "http"
    assert Exposed(host="127.0.0.1", port=8080, is_https=is_https).url == (
        f"{scheme}://127.0.0.1:8080/"
    )


def test_the_exposed_ports_of_a_service_are_those_of_no_other() -> None:
    forwarders = ["dev", "dev:default.web.80", "dev:default.web.443", "dev:default.web-2.80"]
    forwarders += ["dev:other.web.80", "lab2:default.web.80"]
    assert exposed_ports(forwarders, "dev", "default", "web") == {
        "80": "dev:default.web.80",
        "443": "dev:default.web.443",
    }
    assert exposed_ports(forwarders, "dev", "default", "db") == {}
