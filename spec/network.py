"""Where everything is reached: the address plan, the API's endpoint, the pod network."""

import hashlib
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from spec.part import Address, Expected, Network, Part, Port, Text, Whole

API_PORT = 6443
"""Of every API server, and of a virtual IP."""

RESERVED_PORTS = {
    2379: "etcd",
    2380: "etcd",
    2381: "etcd",
    API_PORT: "kube-apiserver",
    7443: "a minion's own balancer",
    8285: "flanneld",
    10248: "kubelet",
    10249: "kube-proxy",
    10250: "kubelet",
    10256: "kube-proxy",
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}
"""The ports of the components on machines."""

NODE_PORTS = range(30000, 32768)
"""The API server gives these to Services of type NodePort."""


class Networks(Part):
    """The address ranges of a cluster, which must not overlap."""

    machines: Network
    pods: Network = IPv4Network("172.16.0.0/16")
    services: Network = IPv4Network("192.168.3.0/24")
    pods_per_node: Annotated[Whole, Expected("a prefix length alone, such as 24")] = 24
    """The prefix length of the part of ``pods`` that a node gets."""

    @property
    def gateway(self) -> IPv4Address:
        """The first address: the host's own end of the machines' network."""
        return self.machines.network_address + 1

    @property
    def api_service(self) -> IPv4Address:
        """Of the Service ``kubernetes``, which the API server makes: the first service address."""
        return self.services.network_address + 1

    @property
    def dns_service(self) -> IPv4Address:
        """Of the Service ``kube-dns``: the tenth service address, by custom."""
        return self.services.network_address + 10


class VirtualIp(Part):
    """An address that moves to a control plane whose API server answers."""

    kind: Literal["virtual-ip"]
    address: Address


class Balancer(Part):
    """A balancer that somebody else runs in front of the control planes."""

    kind: Literal["balancer"]
    host: Annotated[Text, Expected("an IPv4 address or a DNS name")]
    port: Port = API_PORT


Endpoint = Annotated[VirtualIp | Balancer, Field(discriminator="kind")]


class Flannel(Part):
    """The pod network."""

    backend: Literal["vxlan", "host-gw"] = "vxlan"
    store: Literal["etcd", "kubernetes"] = "etcd"
    """Where flanneld keeps its configuration and the nodes' subnets."""
    vni: Annotated[Whole, Field(ge=1, le=2**24 - 1)] = 1
    """The VXLAN network identifier."""
    port: Port = 8472
    """The UDP port of VXLAN."""


def mac_address(cluster: str, address: IPv4Address) -> str:
    """A MAC address under KVM's prefix, fixed by cluster and address."""
    tail = hashlib.sha256(f"{cluster}/{address}".encode()).hexdigest()
    return f"52:54:00:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"
