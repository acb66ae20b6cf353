"""flanneld: gives the node its subnet of the pod network and brings packets to the others'."""

import json
from typing import Any

from plan import cni, kubeconfig, layout, reload
from plan.artifact import artifact
from plan.model import File, Unit
from plan.program import program
from spec.cluster import Cluster

PREFIX = "/coreos.com/network"
"""Everything of flannel in etcd is under it."""
CONFIG = f"{layout.KUBERNETES}/flannel.json"
"""The network's configuration, on every node. Where etcd is the store, flanneld reads the same from
``PREFIX/config``, at its start only: the file is there so that a changed network restarts it."""
DEVICES = program("remove-vxlan")
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


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The network's configuration, and the program that removes what another network left.

    A kubeconfig, where Kubernetes keeps the subnets.
    """
    configuration = File(path=CONFIG, content=json.dumps(network(spec), indent=2) + "\n")
    if spec.flannel.store == "etcd":
        return (configuration, DEVICES)
    return (configuration, DEVICES, kubeconfig.file(spec, node, "flannel"))


def unit(spec: Cluster, node: str) -> Unit:
    """The daemon; once it has a subnet, the CNI list is made.

    Before it starts, the devices of other VNIs go: flanneld makes its own device anew where its
    port is another, and knows nothing of devices with another name.
    """
    flags = {
        **_store(spec),
        # Pod traffic takes the machines' network, whatever other interfaces there are.
        "iface": str(spec.machines[node].address),
        "ip-masq": "true",
        "subnet-file": cni.SUBNET_FILE,
        "healthz-ip": "127.0.0.1",
        "healthz-port": str(HEALTH_PORT),
    }
    named = {} if spec.flannel.store == "etcd" else kubeconfig.named("flannel")
    found = reload.files("flanneld", flags, named)
    return Unit(
        name=UNIT,
        description="flannel",
        program=artifact(spec, "flanneld").command.path,
        dashes="-",
        flags=flags,
        environment={"NODE_NAME": node} if spec.flannel.store == "kubernetes" else {},
        before_start=(_remove_others(spec),),
        after_start=(cni.after_flannel(),),
        needs=(*found.needs, CONFIG, cni.TEMPLATE, cni.RENDER.path),
        vxlan=_device(spec),
    )


def _remove_others(spec: Cluster) -> str:
    """An ``ExecStartPre`` line that leaves flannel's device of this network and no other."""
    return f"{DEVICES.path} {_device(spec)}".rstrip()


def _device(spec: Cluster) -> str:
    """The device that flanneld makes; none where packets need no other header."""
    return f"flannel.{spec.flannel.vni}" if spec.flannel.backend == "vxlan" else ""


def _store(spec: Cluster) -> dict[str, str]:
    """Flags of where the subnets are kept. Of etcd's keys its certificate opens its prefix only."""
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
