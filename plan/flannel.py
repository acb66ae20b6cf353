"""flanneld: gives the node its subnet of the pod network and brings packets to the others'."""

import json
from typing import Any

from plan import cni, layout
from plan.artifact import artifact
from plan.flags import files_named
from plan.model import File, Unit
from spec.cluster import Cluster

PREFIX = "/coreos.com/network"
"""Everything of flannel in etcd is under it."""
CONFIG = f"{layout.KUBERNETES}/flannel.json"
"""The network's configuration where Kubernetes is the store; in etcd it is ``PREFIX/config``."""
HEALTH_PORT = 8285
UNIT = "flanneld.service"


def network(spec: Cluster) -> dict[str, Any]:
    """The network, the same on all nodes (flannel's Documentation/configuration.md)."""
    backend: dict[str, Any] = {"Type": spec.flannel.backend}
    if spec.flannel.backend == "vxlan":
        backend |= {"VNI": spec.flannel.vni, "Port": spec.flannel.port}
    return {
        "Network": str(spec.networks.pods),
        "SubnetLen": spec.networks.pods_per_node,
        "EnableNFTables": spec.proxy_mode == "nftables",
        "Backend": backend,
    }


def files(spec: Cluster) -> tuple[File, ...]:
    """The network's configuration, where it is read from a file."""
    if spec.flannel.store == "etcd":
        return ()
    return (File(path=CONFIG, content=json.dumps(network(spec), indent=2) + "\n"),)


def unit(spec: Cluster, node: str) -> Unit:
    """The daemon; once it has a subnet, the CNI list is made."""
    flags = {
        **_store(spec),
        # Pod traffic takes the machines' network, whatever other interfaces there are.
        "iface": str(spec.machines[node].address),
        "ip-masq": "true",
        "subnet-file": cni.SUBNET_FILE,
        "healthz-ip": "127.0.0.1",
        "healthz-port": str(HEALTH_PORT),
    }
    return Unit(
        name=UNIT,
        description="flannel",
        program=artifact(spec, "flanneld").command.path,
        dashes="-",
        flags=flags,
        environment={"NODE_NAME": node} if spec.flannel.store == "kubernetes" else {},
        after_start=(cni.after_flannel(),),
        needs=(*files_named(flags), cni.TEMPLATE, cni.RENDER.path),
    )


def _store(spec: Cluster) -> dict[str, str]:
    """Flags of where the subnets are kept. Flannel's certificate opens its own prefix only."""
    if spec.flannel.store == "kubernetes":
        return {
            "kube-subnet-mgr": "true",
            "kubeconfig-file": layout.kubeconfig("flannel"),
            "net-config-path": CONFIG,
        }
    return {
        "etcd-endpoints": ",".join(layout.etcd_urls(spec)),
        "etcd-prefix": PREFIX,
        "etcd-cafile": layout.ETCD_AUTHORITY,
        "etcd-certfile": layout.certificate("flannel"),
        "etcd-keyfile": layout.private_key("flannel"),
    }
