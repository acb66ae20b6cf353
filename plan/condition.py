"""What a condition of a ready cluster is: the kinds of checks, each with what it compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from plan.limits import Limit


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
class CurrentKeys:
    """Where keys turned over, Secrets and API servers have those of the spec."""

    kind: Literal["keys"] = "keys"
    members: Mapping[str, str]
    """Name of a member of etcd to its client URL."""
    planes: tuple[str, ...]
    """The control planes."""
    encryption: str
    """The name of the key that encrypts Secrets in etcd, such as ``key2``."""
    service_accounts: str
    """The name of the key pair that signs service accounts' tokens, such as ``pair2``."""


@dataclass(frozen=True, kw_only=True)
class TrustedAuthorities:
    """Pods, and programs behind the API, trust these authorities and no others."""

    kind: Literal["authorities"] = "authorities"
    kubernetes: tuple[str, ...]
    """The common names of the certificates."""
    front_proxy: tuple[str, ...]
    """The same, of the authority by which API servers are known to programs behind them."""


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


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """These APIs, which pods serve through the API servers, are available."""

    kind: Literal["api-services"] = "api-services"
    names: tuple[str, ...]
    """Names of APIService objects."""


@dataclass(frozen=True, kw_only=True)
class Backups:
    """This machine's last backup of etcd was made and copied, and is no older than that."""

    kind: Literal["backups"] = "backups"
    machine: str
    seconds: int


@dataclass(frozen=True, kw_only=True)
class Room:
    """On these machines, no more than this share of the file system of a folder is used."""

    kind: Literal["room"] = "room"
    machines: tuple[str, ...]
    folder: str
    percent: int


@dataclass(frozen=True, kw_only=True)
class Restarted:
    """A machine has booted again; its node, where it is a node, is Ready since that boot."""

    kind: Literal["restarted"] = "restarted"
    machine: str
    before: str
    """The identifier of the boot before."""
    is_node: bool


@dataclass(frozen=True, kw_only=True)
class Known:
    """A program that keeps measurements or logs has some of each of these values of a label.

    It is asked from the network of its own pod, so no network policy stands in the way.
    """

    kind: Literal["known"] = "known"
    inside: Pods
    port: int
    path: str
    """The path at which the program answers queries as Prometheus does."""
    query: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NodeProblems:
    """Each of these nodes has all conditions of these types, and none of them is true."""

    kind: Literal["node-problems"] = "node-problems"
    nodes: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WayIn:
    """A web server in the cluster answers from outside, by http and by https, or by https alone.

    What it answers does not matter, but its certificate is of the cluster's authority.
    """

    kind: Literal["way-in"] = "way-in"
    nodes: Mapping[str, str]
    """Node to its address. Each asks the next one at that address, or the load balancer's."""
    balanced_by: str
    """Namespace and name of the Service whose load balancer's address is asked instead of nodes;
    else empty."""
    name: str
    """The name for which the certificate is."""
    http: int | None
    """The port for http; None where it answers by https alone."""
    https: int


@dataclass(frozen=True, kw_only=True)
class ProgrammedGateway:
    """A Gateway and each of its listeners are accepted, and what serves routes has them."""

    kind: Literal["gateway"] = "gateway"
    path: str
    """The path of the Gateway in the API."""


Check = (
    Clocks
    | Members
    | Space
    | CurrentKeys
    | TrustedAuthorities
    | ApiServers
    | Nodes
    | Pods
    | NameResolves
    | PodsReach
    | ServiceAnswers
    | ApiServices
    | Known
    | WayIn
    | ProgrammedGateway
    | NodeProblems
    | Services
    | Backups
    | Room
    | Restarted
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that must hold before the cluster counts as ready."""

    name: str
    waits_for: str
    """The message during the wait: completes "waiting until ..."."""
    check: Check
    deadline: int
    """The condition's limit in seconds, counted from when the condition before it held."""


def condition(*, name: str, waits_for: str, check: Check, limit: Limit) -> Condition:
    """A condition with its limit."""
    return Condition(name=name, waits_for=waits_for, check=check, deadline=limit.seconds)
