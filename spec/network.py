"""The networks of a cluster: the address plan, the API's endpoint and the pod network."""

import hashlib
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from spec.part import Address, Expected, LeftOut, Network, Part, Port, Subnets, Text, Truth, Whole

API_PORT = 6443
"""The port of every API server, and of a virtual IP."""

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
"""The ports that components use on machines."""

NODE_PORTS = range(30000, 32768)
"""The ports that the API server assigns to Services of type NodePort."""


class Networks(Part):
    """The address ranges of a cluster, which must not overlap.

    They are private: in ``10.0.0.0/8``, ``172.16.0.0/12``, ``192.168.0.0/16`` or another range that
    nobody on the Internet has.
    """

    machines: Subnets
    """The machines' network, with room for all of them, the host and a virtual IP, or a list of
    several subnets. The host of machines that are made has a subnet's first address, unless they
    are on a ``bridge``. A subnet may be public with a ``bridge``, and where all its machines exist
    already. A living cluster takes more subnets and loses
    those without machines; the first one stays, and each machine stays in its own."""
    routed: Annotated[Truth | None, LeftOut("false, so they are behind NAT")] = None
    """Whether the networks of machines that are made are routed: their hosts pass packets on as
    they are, and your routers lead each subnet to its host. Behind NAT nothing outside of the host
    reaches them, so it is needed where machines are on several hosts or some exist already."""
    bridge: Annotated[
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$"),
            Expected("a bridge's name as ip link shows it, such as br0"),
        ]
        | None,
        LeftOut("machines that are made get a network of their own"),
    ] = None
    """The bridge of your own network that machines are on, with that network as the only subnet of
    ``machines``: one that each host of a libvirt has under this name, made and kept by you. For
    machines on a libvirt that ``hypervisor.uri`` names, here or by SSH. An address that somebody
    there has already is refused, as far as its owner answers ARP."""
    gateway: Annotated[
        Address | None, LeftOut("the first address of the subnet; required with `bridge`")
    ] = None
    """The router of your own network, by which machines on a ``bridge`` leave it: an address of
    ``machines`` that no machine has."""
    pods: Network = IPv4Network("172.16.0.0/16")
    """The pods' network, with a part of ``pods_per_node`` for each node: for all nodes together, or
    with ``flannel.store: etcd`` for one more and for four at least."""
    services: Network = IPv4Network("192.168.3.0/24")
    """The Services' network, ``/28`` or larger: the API has its first address, DNS its tenth."""
    pods_per_node: Annotated[Whole, Expected("a prefix length alone, such as 24")] = 24
    """The prefix length of the part of ``pods`` that a node gets, from 16 to 25."""
    name_servers: Annotated[
        tuple[Address, ...],
        LeftOut("what this computer asks, where a lab makes all machines and has a way out"),
    ] = ()
    """The name servers that machines ask, at most three, in ``/etc/resolv.conf``; a living cluster
    takes others, and ``[]`` leaves machines what they have. No address of ``services`` or ``pods``,
    and none that leads to no machine (loopback, link-local, multicast)."""
    time_servers: Annotated[
        tuple[Annotated[Text, Expected("an IPv4 address or a DNS name")], ...],
        LeftOut("machines keep time as they did before, which in a lab is by the host's clock"),
    ] = ()
    """The NTP servers by which machines keep time, with systemd-timesyncd and with no other
    servers; a machine that has another time service is refused. A living cluster takes others. A
    name in lower case that machines can look up, or an address outside of ``pods`` and
    ``services``."""
    outside: Annotated[bool | None, LeftOut("true where this computer has a default route")] = None
    """Whether the machines that a lab makes reach what this computer reaches. The system's libvirt
    always lets them."""

    mtu: Annotated[Whole | None, LeftOut("what the machines' interfaces have, such as 1500")] = None
    """The most bytes of a packet between machines, 576 to 9000, as all that is between them takes:
    that of their interfaces, and of pods' 50 less with ``flannel.backend: vxlan``, which needs
    1330. More than 1500 only where all machines exist already. A living cluster takes another."""

    def subnet_of(self, address: IPv4Address) -> IPv4Network | None:
        """The machines' subnet with an address; None where none has it."""
        return next((subnet for subnet in self.machines if address in subnet), None)

    @property
    def gateways(self) -> tuple[IPv4Address, ...]:
        """The gateway of each subnet of machines: the router's, or the host of made machines."""
        return tuple(self.gateway_of(subnet) for subnet in self.machines)

    def gateway_of(self, subnet: IPv4Network) -> IPv4Address:
        """The gateway of a subnet of machines."""
        return self.gateway if self.gateway else gateway_of(subnet)

    @property
    def api_service(self) -> IPv4Address:
        """The first service address, which the API server gives its own Service ``kubernetes``."""
        return self.services.network_address + 1

    @property
    def dns_service(self) -> IPv4Address:
        """The tenth service address, which by convention is that of the Service ``kube-dns``."""
        return self.services.network_address + 10


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """The first address of a subnet, which the host has where machines are made."""
    return subnet.network_address + 1


class VirtualIp(Part):
    """An address that moves to a control plane whose API server answers."""

    kind: Literal["virtual-ip"]
    """Tells the kinds of endpoint apart."""
    address: Address
    """A free address of ``networks.machines``, in the subnet of all control planes: no machine's,
    and not the host's."""


class Balancer(Part):
    """A balancer that somebody else runs in front of the control planes.

    It asks each of them for ``/readyz`` every five seconds or oftener, and goes by the answer.
    """

    kind: Literal["balancer"]
    """Tells the kinds of endpoint apart."""
    host: Annotated[Text, Expected("an IPv4 address or a DNS name")]
    """The balancer, without scheme and port, by a name that machines and this computer can look up:
    no machine of the cluster, no Service, no address of ``networks.pods`` or
    ``networks.services``, and not ``localhost``."""
    port: Port = API_PORT
    """The TCP port at which it answers."""


Endpoint = Annotated[VirtualIp | Balancer, Field(discriminator="kind")]


class Flannel(Part):
    """The pod network."""

    backend: Literal["vxlan", "host-gw"] = "vxlan"
    """How packets reach another node: wrapped in VXLAN, or by a route for each node."""
    store: Literal["etcd", "kubernetes"] = "etcd"
    """Where flanneld keeps its configuration and the nodes' parts of ``networks.pods``: in etcd, or
    in Kubernetes' Node objects."""
    vni: Annotated[Whole, Field(ge=1, le=2**24 - 1)] = 1
    """The VXLAN network identifier."""
    port: Port = 8472
    """The UDP port of VXLAN: 1024 or higher, none of the NodePorts 30000-32767, and no
    component's. Of no use with ``host-gw``."""


def mac_address(cluster: str, address: IPv4Address) -> str:
    """A MAC address with KVM's prefix, which depends only on the cluster and the IP address."""
    tail = hashlib.sha256(f"{cluster}/{address}".encode()).hexdigest()
    return f"52:54:00:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"
