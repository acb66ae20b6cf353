"""Roles leave machines that stay: a control plane, then a node, while the cluster goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from plan import layout
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400), at_length]

CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "endpoint": {"kind": "virtual-ip", "address": "192.168.1.5"},
    "machines": {
        name: {"address": f"192.168.1.{number}", "roles": "eai", "memory": 3072}
        for number, name in enumerate("abc", 21)
    },
}
VIRTUAL_IP = "192.168.1.5"
OF_CONTROL_PLANES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "keepalived")
OF_NODES = ("kubelet", "kube-proxy", "flanneld", "containerd")
KEYS = (layout.AUTHORITY_KEY, layout.SERVICE_ACCOUNT_PRIVATE, layout.ENCRYPTION)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtro", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


def with_roles(**roles: str) -> dict[str, Any]:
    machines = CLUSTER["machines"]
    changed = {name: {**machines[name], "roles": letters} for name, letters in roles.items()}
    return {**CLUSTER, "machines": {**machines, **changed}}


def left(lab: Lab, node: str, services: tuple[str, ...]) -> str:
    """Of these services, what runs or has files there."""
    units = " ".join(f"/etc/systemd/system/{name}.service" for name in services)
    return lab.on(
        node, f"systemctl is-active {' '.join(services)} | grep -x active; ls {units}; true"
    )


def goes_on(lab: Lab) -> None:
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
    lab.pulumi("preview", "--refresh", "--expect-no-changes")


def test_a_control_plane_leaves_and_the_virtual_ip_moves(lab: Lab) -> None:
    for node in CLUSTER["machines"]:
        if VIRTUAL_IP in lab.on(node, "ip -4 -brief address"):
            leaves = node
    started = {name: lab.on(name, "systemctl show --property InvocationID etcd") for name in "abc"}
    lab.describe(with_roles(**{leaves: "ei"}))
    lab.hardway("up")
    assert left(lab, leaves, OF_CONTROL_PLANES) == ""
    assert VIRTUAL_IP not in lab.on(leaves, "ip -4 -brief address")
    for key in (*KEYS, layout.private_key("apiserver")):
        assert lab.on(leaves, f"ls {key} 2>/dev/null; true") == ""
    holders = [name for name in "abc" if VIRTUAL_IP in lab.on(name, "ip -4 -brief address")]
    assert len(holders) == 1
    after = {name: lab.on(name, "systemctl show --property InvocationID etcd") for name in "abc"}
    assert after == started, "no member of etcd restarts"
    goes_on(lab)


def test_a_node_leaves_and_its_machine_is_a_member_of_etcd_only(lab: Lab) -> None:
    roles = {name: machine["roles"] for name, machine in lab.cluster["machines"].items()}
    (leaves,) = (name for name, letters in roles.items() if letters == "ei")
    lab.describe(with_roles(**{leaves: "e"}))
    lab.hardway("up")
    assert left(lab, leaves, OF_NODES) == ""
    for folder in ("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/etc/kubernetes"):
        assert lab.on(leaves, f"ls -A {folder} 2>/dev/null; true") == "", folder
    links = lab.on(leaves, "ip -brief link")
    assert not any(name in links for name in ("flannel", "cni0", "veth"))
    rules = lab.on(leaves, "iptables-save; nft list ruleset")
    assert not any(name in rules for name in ("KUBE-", "FLANNEL", "flannel", "kube-proxy", "cni"))
    nodes = {node["metadata"]["name"] for node in lab.objects("nodes")["items"]}
    assert nodes == set("abc") - {leaves}
    goes_on(lab)
