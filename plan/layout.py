"""Paths on a machine, ports and URLs that several modules use; each is defined once."""

from spec.cluster import API_PORT, Balancer, Cluster
from spec.names import is_address

PKI = "/etc/kubernetes/pki"
"""Keys and certificates of Kubernetes' components: root owns all of them (CIS 1.1.19)."""
ETCD_PKI = "/etc/etcd/pki"
"""Keys and certificates of etcd's member, which runs under a user of its own."""
KUBERNETES = "/etc/kubernetes"
UNITS = "/etc/systemd/system"
"""The directory of the units that the steps write."""
VOLUME_PLUGINS = "/var/lib/kubelet/volume-plugins"
REGISTRY_CREDENTIALS = "/var/lib/kubelet/config.json"
"""The kubelet reads it by itself, at the latest five minutes after it changed."""
"""The controller manager and the kubelet create this directory; their default is in /usr, which is
often read-only."""
ETCD_DATA = "/var/lib/etcd"
STATE = "/var/lib/hardway"
"""The directory of the installation itself: artifacts, saved steps, and notes of the files with
which services were started."""
BROUGHT = f"{STATE}/applied"
"""The directory with the lists of what each step brought (``scripts/absence.sh``)."""
ETCD_ANSWERED = f"{STATE}/etcd-answered"
"""This file exists once the member has answered: it must then not start without its data. The file
is outside of the data directory and, like the data, disappears with the machine's disk."""
ETCD_FIRST_START = "/run/hardway/etcd-first-start"
"""The file with the flags for the single start without data, with which a member begins the cluster
or joins it. Without this file, a member without data does not start."""
ETCD_REMOVED = "/run/hardway/etcd-removed"
"""This file exists once the member has ended because the other members removed it: systemd then
does not start it again."""
BACKUPS = "/var/lib/hardway-backups"
"""The directory of the backups of etcd, apart from ``STATE``, whose files services of other users
reach."""
BACKUP_KEYS = "/etc/hardway/backup"
BACKUP_RECIPIENT = f"{BACKUP_KEYS}/recipient"
"""The public key for which backups are encrypted."""
BACKUP_LOGIN = f"{BACKUP_KEYS}/login"
"""The private key with which backups are copied elsewhere."""
BACKUP_BUCKET = f"{BACKUP_KEYS}/bucket"
"""The access key with which backups are uploaded to a bucket, as rclone reads it."""
BACKUP_AUTHORITY = "/etc/hardway/backup-authority.crt"
"""The certificates that a bucket's server must have its own from."""
BACKUP_HOSTS = "/etc/hardway/backup-known-hosts"

AUTHORITY = f"{PKI}/ca.crt"
"""The certificates of Kubernetes' authority that are trusted: two where it turns over."""
SIGNING_AUTHORITY = f"{PKI}/ca-signing.crt"
"""The certificate of the one that signs, for the controller manager, which reads no second one."""
ETCD_AUTHORITY = f"{PKI}/etcd-ca.crt"
"""The certificate of etcd's authority, for etcd's clients."""
MEMBER_AUTHORITY = f"{ETCD_PKI}/ca.crt"
"""The certificate of etcd's authority, for the members themselves."""
FRONT_PROXY_AUTHORITY = f"{PKI}/front-proxy-ca.crt"
SERVICE_ACCOUNT_PUBLIC = f"{PKI}/sa.pub"
SERVICE_ACCOUNT_PRIVATE = f"{PKI}/sa.key"
AUTHORITY_KEY = f"{PKI}/ca.key"
"""The authority's key, for the controller manager, which signs certificate requests."""
ENCRYPTION = f"{KUBERNETES}/encryption.yaml"

KUBECONFIGS = {
    "controller-manager": "controller-manager",
    "scheduler": "scheduler",
    "kubelet": "kubelet-client",
    "kube-proxy": "kube-proxy",
    "flannel": "flannel",
}
"""Component to the certificate that the component's kubeconfig names. flannel has a kubeconfig only
where Kubernetes is its store."""

LOCAL_BALANCER_PORT = 7443
"""The port on which a minion's own balancer accepts connections for the control planes."""
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
    """The URL at which the components of a machine reach the API.

    A control plane uses its own API server. A minion uses the only control plane, the external
    balancer, or its own balancer before several control planes.
    """
    if node in spec.control_planes:
        return f"https://127.0.0.1:{API_PORT}"
    if len(spec.control_planes) == 1 or isinstance(spec.endpoint, Balancer):
        return spec.api_url
    return f"https://127.0.0.1:{LOCAL_BALANCER_PORT}"


def login_mark(cluster: str) -> str:
    """What the lines with a cluster's SSH keys end with, in the list of a user's keys."""
    return f"hardway:{cluster}"


def api_name(spec: Cluster, node: str) -> str:
    """The DNS name that a machine must resolve to reach the API; empty where it uses an address."""
    asks = node in spec.nodes and local_api_url(spec, node) == spec.api_url
    return spec.api_host if asks and not is_address(spec.api_host) else ""


def api_server_url(spec: Cluster, control_plane: str) -> str:
    """The URL of the API server of a control plane itself."""
    return f"https://{spec.machines[control_plane].address}:{API_PORT}"


def etcd_url(spec: Cluster, member: str) -> str:
    """The client URL of a member of etcd."""
    return f"https://{spec.machines[member].address}:{ETCD_CLIENT_PORT}"


def etcd_urls(spec: Cluster) -> tuple[str, ...]:
    """The client URLs of all members."""
    return tuple(etcd_url(spec, member) for member in spec.etcd_members)
