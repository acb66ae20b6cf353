"""flanneld: gets the node's subnet of the pod network and routes packets to other subnets."""

import json
from typing import Any

from plan import cni, kubeconfig, layout, reload
from plan.artifact import artifact
from plan.model import File, Unit
from plan.program import program
from spec.cluster import Cluster

PREFIX = "/coreos.com/network"
"""The prefix of all of flannel's keys in etcd."""
CONFIG = f"{layout.KUBERNETES}/flannel.json"
"""The file with the network's configuration, on every node. Where etcd is the store, flanneld reads
the same configuration from ``PREFIX/config``, at its start only; there the file exists so that a
changed network restarts flanneld."""
DEVICES = program("remove-vxlan")
PACKET_SIZE = program("packet-size")
HEALTH_PORT = 8285
UNIT = "flanneld.service"


def network(spec: Cluster) -> dict[str, Any]:
    """The network's configuration, the same on all nodes.

    The format is described in flannel's Documentation/configuration.md.
    """
    backend: dict[str, Any] = {"Type": spec.flannel.backend}
    if spec.flannel.backend == "vxlan":
        backend |= {"VNI": spec.flannel.vni, "Port": spec.flannel.port}
    if spec.networks.mtu:
        # With host-gw flanneld goes by the interface alone; a change must restart it there as well.
        backend["MTU"] = spec.networks.mtu
    return {
        "Network": str(spec.networks.pods),
        "SubnetLen": spec.networks.pods_per_node,
        "EnableNFTables": spec.proxy_mode == "nftables",
        "Backend": backend,
    }


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The network's configuration, and the program that removes devices of an earlier network.

    Where the spec has a size of packets, also the program for it. Where Kubernetes keeps the
    subnets, also a kubeconfig.
    """
    configuration = File(path=CONFIG, content=json.dumps(network(spec), indent=2) + "\n")
    programs = (DEVICES, PACKET_SIZE) if spec.networks.mtu else (DEVICES,)
    if spec.flannel.store == "etcd":
        return (configuration, *programs)
    return (configuration, *programs, kubeconfig.file(spec, node, "flannel"))


def unit(spec: Cluster, node: str) -> Unit:
    """The service; once it has a subnet, its unit writes the CNI list.

    Before flanneld starts, its unit removes the devices of other VNIs: flanneld recreates its own
    device where the port has changed, but ignores devices with other names.
    """
    flags = {
        **_store(spec),
        # Pod traffic must use the machines' network, whichever other interfaces exist.
        "iface": str(spec.machines[node].address),
        "ip-masq": "true",
        "subnet-file": cni.SUBNET_FILE,
        "healthz-ip": "127.0.0.1",
        "healthz-port": str(HEALTH_PORT),
    }
    named = {} if spec.flannel.store == "etcd" else kubeconfig.named("flannel")
    watched = reload.files("flanneld", flags, named)
    return Unit(
        name=UNIT,
        description="flannel",
        program=artifact(spec, "flanneld").command.path,
        dashes="-",
        flags=flags,
        environment={"NODE_NAME": node} if spec.flannel.store == "kubernetes" else {},
        before_start=(_remove_others(spec), *_packet_size(spec, node)),
        after_start=(cni.after_flannel(),),
        needs=(*watched.needs, CONFIG, cni.TEMPLATE, cni.RENDER.path),
        vxlan=_device(spec),
    )


def _remove_others(spec: Cluster) -> str:
    """An ``ExecStartPre`` line that leaves flannel's device of this network and no other."""
    return f"{DEVICES.path} {_device(spec)}".rstrip()


def _packet_size(spec: Cluster, node: str) -> tuple[str, ...]:
    """An ``ExecStartPre`` line for the size of packets, where the spec has one.

    The first step has set it already, and here it is set at each boot.
    """
    mtu = spec.networks.mtu
    return (f"{PACKET_SIZE.path} {spec.machines[node].address} {mtu}",) if mtu else ()


def _device(spec: Cluster) -> str:
    """The name of the VXLAN device that flanneld creates; empty for a backend without a device."""
    return f"flannel.{spec.flannel.vni}" if spec.flannel.backend == "vxlan" else ""


def _store(spec: Cluster) -> dict[str, str]:
    """Flags for the store of the subnets.

    In etcd, flannel's certificate gives access to the keys under ``PREFIX`` only.
    """
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
