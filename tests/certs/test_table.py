"""The table against the list of "PKI certificates and requirements" and kubeadm 1.37's."""

from ipaddress import IPv4Address

import pytest

from certs.table import Authority, Row, Use, certificates, held_by
from spec.cluster import Cluster
from tests.certs.clusters import APART, BALANCED, SHAPES, SINGLE, cluster

K, E, F = Authority.KUBERNETES, Authority.ETCD, Authority.FRONT_PROXY

# name: issuer, common name, organization, uses (s: server, c: client)
WRITTEN = {
    "etcd-server": (E, "kube-etcd", None, "cs"),
    "etcd-peer": (E, "kube-etcd-peer", None, "cs"),
    "etcd-healthcheck-client": (E, "kube-etcd-healthcheck-client", None, "c"),
    "apiserver-etcd-client": (E, "kube-apiserver-etcd-client", None, "c"),
    "apiserver": (K, "kube-apiserver", None, "s"),
    "apiserver-kubelet-client": (K, "kube-apiserver-kubelet-client", None, "c"),
    "front-proxy-client": (F, "front-proxy-client", None, "c"),
    "controller-manager": (K, "system:kube-controller-manager", None, "c"),
    "scheduler": (K, "system:kube-scheduler", None, "c"),
    "kube-proxy": (K, "system:kube-proxy", None, "c"),
    "admin": (K, "kubernetes-admin", "hardway:cluster-admins", "c"),
    "super-admin": (K, "kubernetes-super-admin", "system:masters", "c"),
    # Not in the documents' list: servers of their own, so that clients can check whom they ask.
    "controller-manager-server": (K, "kube-controller-manager", None, "s"),
    "scheduler-server": (K, "kube-scheduler", None, "s"),
}
OF_EACH_NODE = {
    "kubelet-client": (K, "system:node:{node}", "system:nodes", "c"),
    "kubelet-server": (K, "system:node:{node}", "system:nodes", "s"),
}
FLANNEL = {
    "etcd": (E, "flannel", None, "c"),
    "kubernetes": (K, "system:flannel", None, "c"),
}

every_shape = pytest.mark.parametrize("spec", SHAPES.values(), ids=SHAPES)


@every_shape
def test_every_row_is_as_the_documents_write_it(spec: Cluster) -> None:
    for row in certificates(spec):
        issuer, name, organization, uses = (
            WRITTEN | OF_EACH_NODE | {"flannel": FLANNEL[spec.flannel.store]}
        )[row.name]
        assert (row.issuer, row.common_name, row.organization) == (
            issuer,
            name.format(node=row.node),
            organization,
        )
        assert "".join(sorted(use.value[0] for use in row.uses)) == uses


MEMBER = {"etcd-server", "etcd-peer", "etcd-healthcheck-client"}
CONTROL_PLANE = {
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "front-proxy-client",
    "controller-manager",
    "controller-manager-server",
    "scheduler",
    "scheduler-server",
}
NODE = {"kubelet-client", "kubelet-server", "kube-proxy", "flannel"}


@pytest.mark.parametrize(
    ("spec", "node", "names"),
    [
        (SINGLE, "master", MEMBER | CONTROL_PLANE | NODE),
        (APART, "e1", MEMBER),
        (APART, "c1", CONTROL_PLANE | NODE),
        (APART, "m1", NODE),
        (BALANCED, "a", MEMBER | CONTROL_PLANE | NODE),
        (BALANCED, "d", NODE),
    ],
)
def test_a_machine_holds_what_its_roles_need(spec: Cluster, node: str, names: set[str]) -> None:
    held = [row.name for row in held_by(spec, node)]
    assert set(held) == names
    assert len(held) == len(names)


def _row(spec: Cluster, node: str, name: str) -> Row:
    return next(row for row in held_by(spec, node) if row.name == name)


@pytest.mark.parametrize(
    ("spec", "node", "name", "dns_names", "addresses"),
    [
        (
            SINGLE,
            "master",
            "apiserver",
            (
                "master localhost kubernetes kubernetes.default kubernetes.default.svc "
                "kubernetes.default.svc.cluster kubernetes.default.svc.cluster.local"
            ),
            "192.168.1.10 127.0.0.1 192.168.3.1",
        ),
        (
            APART,
            "c2",
            "apiserver",
            (
                "c2 localhost kubernetes kubernetes.default kubernetes.default.svc "
                "kubernetes.default.svc.cluster kubernetes.default.svc.cluster.local"
            ),
            "192.168.1.32 127.0.0.1 192.168.3.1 192.168.1.100",
        ),
        (
            BALANCED,
            "b",
            "apiserver",
            (
                "b localhost kubernetes kubernetes.default kubernetes.default.svc "
                "kubernetes.default.svc.k8s kubernetes.default.svc.k8s.example "
                "kubernetes.default.svc.k8s.example.org api.example.org"
            ),
            "192.168.1.52 127.0.0.1 192.168.3.1",
        ),
        (APART, "e2", "etcd-server", "e2 localhost", "192.168.1.22 127.0.0.1"),
        (APART, "e2", "etcd-peer", "e2 localhost", "192.168.1.22 127.0.0.1"),
        (APART, "m3", "kubelet-server", "m3", "192.168.1.43"),
        (APART, "c1", "scheduler-server", "c1 localhost", "127.0.0.1"),
    ],
)
def test_a_server_is_named_as_its_clients_call_it(
    spec: Cluster, node: str, name: str, dns_names: str, addresses: str
) -> None:
    row = _row(spec, node, name)
    assert sorted(row.dns_names) == sorted(dns_names.split())
    assert sorted(row.addresses) == sorted(map(IPv4Address, addresses.split()))


@every_shape
def test_no_machine_can_pass_by_rbac(spec: Cluster) -> None:
    for row in certificates(spec):
        if row.organization in ("system:masters", "hardway:cluster-admins"):
            assert row.node is None


@every_shape
def test_only_servers_have_other_names_and_each_has_its_machines_own(spec: Cluster) -> None:
    for row in certificates(spec):
        if Use.SERVER not in row.uses:
            assert row.dns_names == row.addresses == ()
        else:
            assert row.node in row.dns_names
            if not row.name.endswith(("scheduler-server", "controller-manager-server")):
                assert row.node
                assert spec.machines[row.node].address in row.addresses


@every_shape
def test_no_two_machines_are_the_same_server_or_node(spec: Cluster) -> None:
    servers = [
        (row.name, row.dns_names, row.addresses)
        for row in certificates(spec)
        if Use.SERVER in row.uses
    ]
    assert len(servers) == len(set(servers))


def test_only_a_peers_certificate_has_the_name_by_which_etcd_knows_peers() -> None:
    for row in certificates(APART):
        assert (row.common_name == "kube-etcd-peer") == (row.name == "etcd-peer")


def test_another_minion_changes_no_machines_rows() -> None:
    machines = {name: (str(machine.address), "") for name, machine in APART.machines.items()}
    letters = {"e": "e", "c": "a", "m": "i"}
    more = {name: (address, letters[name[0]]) for name, (address, _) in machines.items()}
    grown = cluster(
        {"a-first": ("192.168.1.99", "i")} | more,
        endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
    )
    for node in APART.machines:
        assert held_by(grown, node) == held_by(APART, node)
