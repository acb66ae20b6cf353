"""Where things lie on a machine, and at which ports they listen: each said once."""

from spec.cluster import API_PORT, Balancer, Cluster
from spec.names import is_address

PKI = "/etc/kubernetes/pki"
"""Keys and certificates of Kubernetes' components: all of root's (CIS 1.1.19)."""
ETCD_PKI = "/etc/etcd/pki"
"""Keys and certificates of the member, which runs under a user of its own."""
KUBERNETES = "/etc/kubernetes"
VOLUME_PLUGINS = "/var/lib/kubelet/volume-plugins"
"""Made by the controller manager and kubelet; their own choice lies in /usr, often read-only."""
ETCD_DATA = "/var/lib/etcd"
STATE = "/var/lib/hardway"
"""What the installation itself keeps: artifacts, the saved steps, what services run with."""
ETCD_ANSWERED = f"{STATE}/etcd-answered"
"""There once the member has answered: without its data it must not start again. It lies outside of
the data and goes with the machine's disk, as the data do."""
ETCD_JOINS = "/run/hardway/etcd-joins"
"""Flags of the one start with which a member joins a cluster that runs."""
ETCD_REMOVED = "/run/hardway/etcd-removed"
"""There once the member ended because the others removed it: systemd does not start it again."""

AUTHORITY = f"{PKI}/ca.crt"
ETCD_AUTHORITY = f"{PKI}/etcd-ca.crt"
"""For etcd's clients."""
MEMBER_AUTHORITY = f"{ETCD_PKI}/ca.crt"
"""For members themselves."""
FRONT_PROXY_AUTHORITY = f"{PKI}/front-proxy-ca.crt"
SERVICE_ACCOUNT_PUBLIC = f"{PKI}/sa.pub"
SERVICE_ACCOUNT_PRIVATE = f"{PKI}/sa.key"
AUTHORITY_KEY = f"{PKI}/ca.key"
"""For the controller manager, which signs certificate requests."""
ENCRYPTION = f"{KUBERNETES}/encryption.yaml"

KUBECONFIGS = {
    "controller-manager": "controller-manager",
    "scheduler": "scheduler",
    "kubelet": "kubelet-client",
    "kube-proxy": "kube-proxy",
    "flannel": "flannel",
}
"""Component to the certificate that its kubeconfig names (flannel: if Kubernetes is its store)."""

LOCAL_BALANCER_PORT = 7443
"""Where a minion's own balancer passes connections on to the control planes."""
ETCD_CLIENT_PORT, ETCD_PEER_PORT, ETCD_METRICS_PORT = 2379, 2380, 2381


def certificate(name: str) -> str:
    """The path of a certificate of this machine."""
    return f"{ETCD_PKI if _of_member(name) else PKI}/{name}.crt"


def private_key(name: str) -> str:
    """The path of the private key of a certificate of this machine."""
    return f"{ETCD_PKI if _of_member(name) else PKI}/{name}.key"


def kubeconfig(name: str) -> str:
    """The path of the kubeconfig of a component of ``KUBECONFIGS``."""
    return f"{KUBERNETES}/{name}.conf"


def _of_member(name: str) -> bool:
    return name.startswith("etcd-")


def local_api_url(spec: Cluster, node: str) -> str:
    """Where the components of a machine find the API.

    A control plane asks its own API server. A minion asks the only control plane, the balancer that
    somebody else runs, or its own balancer before several control planes.
    """
    if node in spec.control_planes:
        return f"https://127.0.0.1:{API_PORT}"
    if len(spec.control_planes) == 1 or isinstance(spec.endpoint, Balancer):
        return spec.api_url
    return f"https://127.0.0.1:{LOCAL_BALANCER_PORT}"


def api_name(spec: Cluster, node: str) -> str:
    """The DNS name that a machine must know to find the API; empty where it asks an address."""
    asks = node in spec.nodes and local_api_url(spec, node) == spec.api_url
    return spec.api_host if asks and not is_address(spec.api_host) else ""


def api_server_url(spec: Cluster, control_plane: str) -> str:
    """Where the API server of a control plane itself answers."""
    return f"https://{spec.machines[control_plane].address}:{API_PORT}"


def etcd_url(spec: Cluster, member: str) -> str:
    """Where a member of etcd answers its clients."""
    return f"https://{spec.machines[member].address}:{ETCD_CLIENT_PORT}"


def etcd_urls(spec: Cluster) -> tuple[str, ...]:
    """Where etcd's clients reach each member."""
    return tuple(etcd_url(spec, member) for member in spec.etcd_members)
