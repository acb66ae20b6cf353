"""The table of certificates, with the issuer, holder and uses of each.

It follows "PKI certificates and requirements" of the Kubernetes documentation and kubeadm 1.37's
list of certificates. The certificate of kube-apiserver-kubelet-client has kubeadm's 1.37 form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address

from spec.cluster import Cluster

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)


class Authority(StrEnum):
    """A certificate authority of the cluster."""

    KUBERNETES = "kubernetes"
    ETCD = "etcd"
    FRONT_PROXY = "front-proxy"


AUTHORITIES = {
    Authority.KUBERNETES: "kubernetes-ca",
    Authority.ETCD: "etcd-ca",
    Authority.FRONT_PROXY: "kubernetes-front-proxy-ca",
}
"""The common name of each authority, from the Kubernetes documentation."""


def common_name(authority: Authority, number: int) -> str:
    """The common name of an authority with this number, which tells it from the first."""
    return AUTHORITIES[authority] if number == 1 else f"{AUTHORITIES[authority]}-{number}"


def authority_numbers(spec: Cluster) -> dict[Authority, tuple[int, ...]]:
    """The numbers of each authority: first of the one that signs, then of one that is trusted."""
    numbers = spec.authority_numbers
    return {
        Authority.KUBERNETES: numbers.kubernetes,
        Authority.ETCD: numbers.etcd,
        Authority.FRONT_PROXY: numbers.front_proxy,
    }


class Use(StrEnum):
    """An extended key usage."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A certificate of the table, for a machine or for a person."""

    name: str
    """The name of the certificate in the plan, unique on its machine."""
    node: str | None
    """The machine that holds the certificate and its key; None for a person's certificate."""
    issuer: Authority
    common_name: str
    organization: str | None = None
    uses: frozenset[Use]
    dns_names: tuple[str, ...] = ()
    addresses: tuple[IPv4Address, ...] = ()
    lifetime: timedelta = LIFETIME


SERVER, CLIENT = frozenset({Use.SERVER}), frozenset({Use.CLIENT})
BOTH = SERVER | CLIENT

LOOPBACK = IPv4Address("127.0.0.1")

ADMINS = "hardway:cluster-admins"
"""The group of the admin's certificate, bound to the role cluster-admin."""

PEER = "kube-etcd-peer"
"""The common name of every member's peer certificate. It tells members from other clients with a
certificate of etcd's authority.

etcd checks the name with ``--peer-cert-allowed-cn``. Without that flag, a holder of any certificate
of this authority (such as flannel on every node) can use the peer port and so bypass etcd's users.
"""


def _client(name: str, issuer: Authority, common_name: str) -> Callable[[str], Row]:
    return lambda node: Row(
        name=name, node=node, issuer=issuer, common_name=common_name, uses=CLIENT
    )


ON_ETCD_MEMBERS = (
    # This user has etcd's role root (plan.etcd), so that operators can access etcd.
    _client("etcd-healthcheck-client", Authority.ETCD, "kube-etcd-healthcheck-client"),
)

ON_CONTROL_PLANES = (
    _client("apiserver-etcd-client", Authority.ETCD, "kube-apiserver-etcd-client"),
    # The 1.37 form: no organization, bound to system:kubelet-api-admin (kubernetes#138957).
    _client("apiserver-kubelet-client", Authority.KUBERNETES, "kube-apiserver-kubelet-client"),
    _client("front-proxy-client", Authority.FRONT_PROXY, "front-proxy-client"),
    _client("controller-manager", Authority.KUBERNETES, "system:kube-controller-manager"),
    _client("scheduler", Authority.KUBERNETES, "system:kube-scheduler"),
)

ON_NODES = (_client("kube-proxy", Authority.KUBERNETES, "system:kube-proxy"),)

FOR_PEOPLE = (
    Row(
        name="admin",
        node=None,
        issuer=Authority.KUBERNETES,
        common_name="kubernetes-admin",
        organization=ADMINS,
        uses=CLIENT,
    ),
    # Bypasses RBAC. It is needed to make the binding of ADMINS, and no machine holds it.
    Row(
        name="super-admin",
        node=None,
        issuer=Authority.KUBERNETES,
        common_name="kubernetes-super-admin",
        organization="system:masters",
        uses=CLIENT,
    ),
)


def certificates(spec: Cluster) -> tuple[Row, ...]:
    """Every certificate of a cluster: those of people, then those of machines, by machine name."""
    return FOR_PEOPLE + tuple(row for node in sorted(spec.machines) for row in held_by(spec, node))


def held_by(spec: Cluster, node: str) -> tuple[Row, ...]:
    """The certificates that a machine holds."""
    rows: list[Row] = []
    if node in spec.etcd_members:
        rows += [_etcd(spec, node, "etcd-server", "kube-etcd")]
        rows += [_etcd(spec, node, "etcd-peer", PEER)]
        rows += [row(node) for row in ON_ETCD_MEMBERS]
    if node in spec.control_planes:
        rows += [_api_server(spec, node)]
        rows += [_loopback_server(node, "controller-manager-server", "kube-controller-manager")]
        rows += [_loopback_server(node, "scheduler-server", "kube-scheduler")]
        rows += [row(node) for row in ON_CONTROL_PLANES]
    if node in spec.nodes:
        rows += [_kubelet_client(node), _kubelet_server(spec, node)]
        rows += [row(node) for row in ON_NODES]
        rows += [_flannel(spec, node)]
    return tuple(rows)


def _etcd(spec: Cluster, node: str, name: str, common_name: str) -> Row:
    # Both uses: a member is its own client when it checks itself (etcd#9785).
    return Row(
        name=name,
        node=node,
        issuer=Authority.ETCD,
        common_name=common_name,
        uses=BOTH,
        dns_names=(node, "localhost"),
        addresses=(spec.machines[node].address, LOOPBACK),
    )


def _api_server(spec: Cluster, node: str) -> Row:
    names = [node, "localhost", *_prefixes(f"kubernetes.default.svc.{spec.dns_domain}")]
    addresses = [spec.machines[node].address, LOOPBACK, spec.networks.api_service]
    try:
        addresses.append(IPv4Address(spec.api_host))
    except ValueError:
        names.append(spec.api_host)
    return Row(
        name="apiserver",
        node=node,
        issuer=Authority.KUBERNETES,
        common_name="kube-apiserver",
        uses=SERVER,
        dns_names=tuple(dict.fromkeys(names)),
        addresses=tuple(dict.fromkeys(addresses)),
    )


def _prefixes(name: str) -> Iterator[str]:
    """The first label of a DNS name, the first two, and so on, as the documentation lists them."""
    labels = name.split(".")
    return (".".join(labels[:end]) for end in range(1, len(labels) + 1))


def _loopback_server(node: str, name: str, common_name: str) -> Row:
    return Row(
        name=name,
        node=node,
        issuer=Authority.KUBERNETES,
        common_name=common_name,
        uses=SERVER,
        dns_names=(node, "localhost"),
        addresses=(LOOPBACK,),
    )


def _kubelet_client(node: str) -> Row:
    # The Node authorizer identifies a kubelet by the name of its Node object, which is the
    # machine's name.
    return Row(
        name="kubelet-client",
        node=node,
        issuer=Authority.KUBERNETES,
        common_name=f"system:node:{node}",
        organization="system:nodes",
        uses=CLIENT,
    )


def _kubelet_server(spec: Cluster, node: str) -> Row:
    # A later API server will check that this common name belongs to the node (KEP-4872).
    return Row(
        name="kubelet-server",
        node=node,
        issuer=Authority.KUBERNETES,
        common_name=f"system:node:{node}",
        organization="system:nodes",
        uses=SERVER,
        dns_names=(node,),
        addresses=(spec.machines[node].address,),
    )


def _flannel(spec: Cluster, node: str) -> Row:
    # In etcd this user may access one prefix only (plan.etcd); in Kubernetes a role limits it.
    etcd = spec.flannel.store == "etcd"
    return Row(
        name="flannel",
        node=node,
        issuer=Authority.ETCD if etcd else Authority.KUBERNETES,
        common_name="flannel" if etcd else "system:flannel",
        uses=CLIENT,
    )
