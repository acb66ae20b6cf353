"""The conditions of a ready cluster, in the order in which they come true."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from plan import coredns, layout, network_policy, storage
from plan.limits import CONDITIONS
from spec.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """The clocks of these machines show the same time as this computer's and run as fast."""

    kind: Literal["clocks"] = "clocks"
    machines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Members:
    """etcd has exactly these members, each of them healthy and started."""

    kind: Literal["members"] = "members"
    members: Mapping[str, str]
    """Name to client URL."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """No member of etcd has an alarm or has used more than this share of its quota."""

    kind: Literal["space"] = "space"
    members: Mapping[str, str]
    """Name to client URL."""
    percent: int


@dataclass(frozen=True, kw_only=True)
class ApiServers:
    """Each API server is ready (``/readyz``) and of this version (``/version``)."""

    kind: Literal["api-servers"] = "api-servers"
    servers: Mapping[str, str]
    """Control plane to URL."""
    version: str
    """The ``gitVersion`` that API servers report, with its ``v``."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """These Node objects are Ready with kubelets of this version, and no other Node exists."""

    kind: Literal["nodes"] = "nodes"
    nodes: tuple[str, ...]
    version: str


@dataclass(frozen=True, kw_only=True)
class Pods:
    """At least ``count`` pods with these labels are Ready."""

    kind: Literal["pods"] = "pods"
    namespace: str
    selector: Mapping[str, str]
    count: int


@dataclass(frozen=True, kw_only=True)
class NameResolves:
    """A query from the network of one of the pods gets this address for the name."""

    kind: Literal["name-resolves"] = "name-resolves"
    inside: Pods
    server: str
    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class PodsReach:
    """From each of the nodes, a pod of another node can be reached at the pod's own address.

    The request comes from the network of one of the pods where the node runs one, otherwise from
    the node's own network.
    """

    kind: Literal["pods-reach"] = "pods-reach"
    nodes: tuple[str, ...]
    pods: Pods
    port: int
    path: str


@dataclass(frozen=True, kw_only=True)
class ServiceAnswers:
    """From the network of each of the pods, a TLS connection to the Service's address succeeds."""

    kind: Literal["service-answers"] = "service-answers"
    inside: Pods
    address: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Services:
    """All services that steps started on these machines run, and none restarts repeatedly."""

    kind: Literal["services"] = "services"
    machines: tuple[str, ...]


Check = (
    Clocks
    | Members
    | Space
    | ApiServers
    | Nodes
    | Pods
    | NameResolves
    | PodsReach
    | ServiceAnswers
    | Services
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that must hold before the cluster counts as ready."""

    name: str
    waits_for: str
    """The message during the wait: completes "waiting until ..."."""
    check: Check
    deadline: int
    """The condition's limit in ``plan.limits``, in seconds, counted from when the condition before
    it held."""


FULL = 80
"""Per cent of etcd's quota above which a person should act: at 100 % etcd refuses all writes."""


def conditions(spec: Cluster) -> tuple[Condition, ...]:
    """The conditions of this cluster, in order; each depends on those before it."""
    return (
        *_of_machines(spec),
        *(_of_pods(spec) if spec.addons.coredns else ()),
        *(_of_storage() if spec.addons.storage else ()),
        *(_of_network_policy(spec) if spec.addons.network_policy else ()),
        _services(spec),
    )


def _services(spec: Cluster) -> Condition:
    """The last condition, since some services restart until others answer."""
    return _condition(
        name="services",
        waits_for="every service runs, and none is started again and again",
        check=Services(machines=tuple(sorted(spec.machines))),
    )


def _of_machines(spec: Cluster) -> Iterator[Condition]:
    version = f"v{spec.versions.kubernetes}"
    # First, since a wrong clock makes every other condition report something misleading.
    yield _condition(
        name="clocks",
        waits_for="the machines' clocks go as this computer's does",
        check=Clocks(machines=tuple(sorted(spec.machines))),
    )
    members = dict(zip(spec.etcd_members, layout.etcd_urls(spec), strict=True))
    yield _condition(
        name="members",
        waits_for="etcd has exactly the members of the spec and all are healthy",
        check=Members(members=members),
    )
    # This condition does not come true by itself: its limit is for members that answer slowly.
    yield _condition(
        name="space",
        waits_for=f"etcd has no alarm, and each member used at most {FULL} % of its quota",
        check=Space(members=members, percent=FULL),
    )
    yield _condition(
        name="api",
        waits_for=f"every API server is ready and is {version}",
        check=ApiServers(
            servers={name: layout.api_server_url(spec, name) for name in spec.control_planes},
            version=version,
        ),
    )
    yield _condition(
        name="nodes",
        waits_for=f"the nodes are those of the spec, all Ready, with kubelets {version}",
        check=Nodes(nodes=spec.nodes, version=version),
    )


def _of_pods(spec: Cluster) -> Iterator[Condition]:
    count = coredns.replicas(spec)
    pods = Pods(namespace=coredns.NAMESPACE, selector=coredns.SELECTOR, count=count)
    yield _condition(
        name="dns-runs",
        waits_for=f"{count} of CoreDNS' pods are Ready",
        check=pods,
    )
    if len(spec.nodes) > 1:
        yield _condition(
            name="pods-reach",
            waits_for="every node reaches a pod of another node",
            check=PodsReach(
                nodes=spec.nodes, pods=pods, port=coredns.READY_PORT, path=coredns.READY_PATH
            ),
        )
    yield _condition(
        name="service",
        waits_for="the Service of the API answers pods",
        check=ServiceAnswers(inside=pods, address=str(spec.networks.api_service), port=443),
    )
    yield _condition(
        name="dns",
        waits_for="a pod finds the API by its name",
        check=NameResolves(
            inside=pods,
            server=str(spec.networks.dns_service),
            name=f"kubernetes.default.svc.{spec.dns_domain}",
            address=str(spec.networks.api_service),
        ),
    )


def _of_storage() -> Iterator[Condition]:
    yield _condition(
        name="storage",
        waits_for="what makes volumes for claims is Ready",
        check=Pods(namespace=storage.NAMESPACE, selector=storage.SELECTOR, count=1),
    )


def _of_network_policy(spec: Cluster) -> Iterator[Condition]:
    yield _condition(
        name="network-policy",
        waits_for="what enforces network policies is Ready on every node",
        check=Pods(
            namespace=network_policy.NAMESPACE,
            selector=network_policy.SELECTOR,
            count=len(spec.nodes),
        ),
    )


def _condition(*, name: str, waits_for: str, check: Check) -> Condition:
    """A condition with its limit."""
    return Condition(name=name, waits_for=waits_for, check=check, deadline=CONDITIONS[name].seconds)
