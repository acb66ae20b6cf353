"""What a machine must have free or be able to get before the plan brings anything to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from plan import backup, balancer, layout, runtime, time_service, virtual_ip
from spec.cluster import API_PORT, Cluster
from spec.ingress import HTTP_PORT, HTTPS_PORT
from spec.load_balancer import HEALTH_PORT, MEMBER_PORT
from spec.network import RESERVED_PORTS
from spec.notebooks import HUB_PORT, SERVER_PORT


@dataclass(frozen=True, kw_only=True)
class NeededPort:
    """A port on which a component of a machine listens."""

    number: int
    component: str
    protocol: Literal["tcp", "udp"] = "tcp"
    from_machines: bool = False
    """Whether components of other machines connect to it."""
    is_redirected: bool = False
    """Whether packets to it go to a pod: nothing listens there, and what did would hear nothing."""

    @property
    def is_reached_by_tcp(self) -> bool:
        """Whether components of other machines open TCP connections to it."""
        return self.from_machines and self.protocol == "tcp"


def ports(spec: Cluster, node: str) -> tuple[NeededPort, ...]:
    """The ports on which the components of a machine listen, as its roles demand."""
    return tuple(_ports(spec, node))


def _ports(spec: Cluster, node: str) -> Iterator[NeededPort]:
    if node in spec.etcd_members:
        yield _reserved(layout.ETCD_CLIENT_PORT, from_machines=True)
        yield _reserved(layout.ETCD_PEER_PORT, from_machines=True)
        yield _reserved(layout.ETCD_METRICS_PORT)
    if node in spec.control_planes:
        yield _reserved(API_PORT, from_machines=True)
        yield _reserved(10257)
        yield _reserved(10259)
    if node in spec.nodes:
        yield _reserved(8285)
        yield _reserved(10248)
        yield _reserved(10249)
        yield _reserved(10250, from_machines=True)
        yield _reserved(10256)
        if spec.flannel.backend == "vxlan":
            yield NeededPort(
                number=spec.flannel.port, component="VXLAN", protocol="udp", from_machines=True
            )
        if spec.addons.load_balancer:
            yield from _of_speaker()
        elif spec.addons.ingress:
            for number in (HTTP_PORT, HTTPS_PORT):
                yield NeededPort(
                    number=number, component="ingress", from_machines=True, is_redirected=True
                )
        if spec.addons.notebooks and node == spec.control_planes[0]:
            for number in (HUB_PORT, SERVER_PORT):
                yield NeededPort(
                    number=number, component="notebooks", from_machines=True, is_redirected=True
                )
        if _balancer_packages(spec, node):
            yield _reserved(layout.LOCAL_BALANCER_PORT)


def _of_speaker() -> Iterator[NeededPort]:
    speaker, port = "MetalLB's speaker", MEMBER_PORT
    yield NeededPort(number=port, component=speaker, from_machines=True)
    yield NeededPort(number=port, component=speaker, protocol="udp", from_machines=True)
    yield NeededPort(number=HEALTH_PORT, component=speaker)


def _reserved(number: int, *, from_machines: bool = False) -> NeededPort:
    return NeededPort(number=number, component=RESERVED_PORTS[number], from_machines=from_machines)


def of_image(spec: Cluster) -> tuple[str, ...]:
    """The Debian packages that are in the base image of all machines, sorted.

    A machine of a lab without a way out can install none.
    """
    own = {*runtime.packages(spec), *backup.packages(spec, backup.member(spec) or "")}
    return tuple(sorted(own))


def packages(spec: Cluster, node: str) -> tuple[str, ...]:
    """The Debian packages that the steps of a machine install where they are missing, sorted."""
    names = {*time_service.packages(spec), *backup.packages(spec, node)}
    if node in spec.nodes:
        names.update(runtime.packages(spec))
        names.update(_balancer_packages(spec, node))
    if node in spec.control_planes and virtual_ip.wanted(spec):
        names.update(virtual_ip.PACKAGES)
    return tuple(sorted(names))


def taken_over(spec: Cluster, node: str) -> tuple[str, ...]:
    """The units of Debian's packages that the steps of a machine replace by their own, sorted."""
    names = []
    if node in spec.nodes and _balancer_packages(spec, node):
        names.append(balancer.UNIT)
    if node in spec.control_planes and virtual_ip.wanted(spec):
        names.append(virtual_ip.UNIT)
    return tuple(names)


def _balancer_packages(spec: Cluster, node: str) -> tuple[str, ...]:
    """The packages of a machine's own balancer; empty where it has none."""
    names, _, _ = balancer.parts(spec, node)
    return names
