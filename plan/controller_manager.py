"""kube-controller-manager."""

from plan import election, health, kubeconfig, layout, readyz, reload, tls
from plan.artifact import artifact
from plan.model import File, Unit
from spec.cluster import Cluster

UNIT = "kube-controller-manager.service"
PORT = 10257
HEALTH = f"https://127.0.0.1:{PORT}/healthz"


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The kubeconfig of the controller manager."""
    return (kubeconfig.file(spec, node, "controller-manager"),)


def unit(spec: Cluster, node: str) -> Unit:
    """The service, which starts once the API is ready: before that, its program would exit once."""
    flags = {
        **_SERVING,
        **_CONNECTION,
        **_KEYS,
        **_election(spec),
        **_pod_networks(spec),
        "cluster-name": spec.name,
        "profiling": "false",
        "flex-volume-plugin-dir": layout.VOLUME_PLUGINS,
        # CIS 1.3.1: Kubernetes' own value is 12500 dead pods, each an object in etcd.
        "terminated-pod-gc-threshold": "1000",
    }
    watched = reload.files("kube-controller-manager", flags, kubeconfig.named("controller-manager"))
    return Unit(
        name=UNIT,
        description="Kubernetes controller manager",
        program=artifact(spec, "kube-controller-manager").command.path,
        flags=flags,
        type="exec",
        after=("network-online.target", "kube-apiserver.service"),
        before_start=(readyz.wait(spec, node),),
        after_start=(health.wait(HEALTH, layout.AUTHORITY),),
        needs=watched.needs,
        reads=watched.reads,
        service={"TimeoutStopSec": "15", "OOMScoreAdjust": "-900"},
    )


_SERVING = {
    "bind-address": "127.0.0.1",
    "secure-port": str(PORT),
    "tls-cert-file": layout.certificate("controller-manager-server"),
    "tls-private-key-file": layout.private_key("controller-manager-server"),
    **tls.SERVING,
    "client-ca-file": layout.AUTHORITY,
    "requestheader-client-ca-file": layout.FRONT_PROXY_AUTHORITY,
    "requestheader-allowed-names": "front-proxy-client",
}

_CONNECTION = {
    name: layout.kubeconfig("controller-manager")
    for name in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
} | {"use-service-account-credentials": "true"}

_KEYS = {
    # The program ends where this file has a second certificate, as the file with those that are
    # trusted may have (1.37.1, pkg/controller/certificates/signer/ca_provider.go).
    "cluster-signing-cert-file": layout.SIGNING_AUTHORITY,
    "cluster-signing-key-file": layout.AUTHORITY_KEY,
    "root-ca-file": layout.AUTHORITY,
    "service-account-private-key-file": layout.SERVICE_ACCOUNT_PRIVATE,
}


def _election(spec: Cluster) -> dict[str, str]:
    if not election.needed(spec):
        return {"leader-elect": "false"}
    return {
        "leader-elect": "true",
        "leader-elect-lease-duration": election.LEASE,
        "leader-elect-renew-deadline": election.RENEWAL,
        "leader-elect-retry-period": election.RETRY,
    }


def _pod_networks(spec: Cluster) -> dict[str, str]:
    """Flags for pod networks, which Node objects contain only where flannel reads them there."""
    if spec.flannel.store == "etcd":
        return {"allocate-node-cidrs": "false"}
    return {
        "allocate-node-cidrs": "true",
        "cluster-cidr": str(spec.networks.pods),
        "node-cidr-mask-size": str(spec.networks.pods_per_node),
        "service-cluster-ip-range": str(spec.networks.services),
        "configure-cloud-routes": "false",
    }
