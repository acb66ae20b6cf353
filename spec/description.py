"""A cluster as it is written down, before anybody has looked whether its parts fit together."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from spec.downloads import Architecture
from spec.hypervisor import Existing, Hypervisor, Libvirt
from spec.machine import Machine, Role
from spec.network import API_PORT, Balancer, Endpoint, Flannel, Networks, VirtualIp
from spec.part import Address, Expected, Part, Text, Truth, Whole
from spec.versions import Versions, catalogue, versions_for

Sha256 = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$"),
    Expected("64 hexadecimal digits in lower case, in quotes"),
]
Sha512 = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[0-9a-f]{128}$"),
    Expected("128 hexadecimal digits in lower case, in quotes"),
]


class Addons(Part):
    """What runs in the cluster itself."""

    coredns: Truth = True
    name_servers: tuple[Address, ...] = ()
    """To whom CoreDNS passes on names outside the cluster; empty, it answers none of them."""


class Etcd(Part):
    """What the cluster keeps everything in."""

    generation: Annotated[Whole, Field(ge=1), Expected("a whole number, 1 or more")] = 1
    """Whose data members hold: one more after each restore, which lets no earlier member in."""


class BaseImage(Part):
    """A distribution's cloud image that machines start from, in place of the one the lab builds."""

    source: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^(https?://\S+|[^:\s][^:]*)$"),
        Expected("a http or https URL, or a path on this host"),
    ]
    """A URL, or a path on this host."""
    sha256: Sha256 | None = None
    sha512: Sha512 | None = None


class ArtifactSource(Part):
    """Where machines get the programs and image archives that their base image lacks."""

    mirror: (
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"^https?://[^\s]+[^/\s]$"),
            Expected("a http or https URL without a slash at its end"),
        ]
        | None
    ) = None
    """A site mirror: it has every file at ``<mirror>/sha256/<digest>``."""
    digests: dict[Text, Sha256] = Field(default_factory=dict)
    """``<name>-<version>`` to the sha256 of the file, before the catalogue's own digests."""


def _alone_it_does_everything(value: Any) -> Any:
    """A cluster's only machine has every role unless it says otherwise."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, machine),) = value.items()
        if isinstance(machine, Mapping) and "roles" not in machine:
            return {name: {**machine, "roles": "ai"}}
    return value


class Description(Part):
    """What a person wants, and what follows from it without choice."""

    name: Text
    kubernetes: Annotated[Text, Expected('a version in quotes, such as "1.37.1"')] = Field(
        default_factory=lambda: catalogue()[0].kubernetes
    )
    """Of the API servers and, where nothing else is said, of all components."""
    architecture: Architecture = "amd64"
    """Of every machine."""
    dns_domain: Annotated[Text, Expected("a DNS name such as cluster.local")] = "cluster.local"
    networks: Networks
    machines: Annotated[dict[Text, Machine], BeforeValidator(_alone_it_does_everything)]
    """By name, which is the host name and the name of the Node object."""
    endpoint: Endpoint | None = None
    """Where the API answers; left out, at the only control plane's address."""
    runtime: Literal["containerd", "docker"] = "containerd"
    etcd: Etcd = Etcd()
    flannel: Flannel = Flannel()
    proxy_mode: Literal["nftables", "iptables"] = "nftables"
    """Of kube-proxy."""
    addons: Addons = Addons()
    base_image: BaseImage | None = None
    """What machines start from; left out, the lab builds a Debian with the artifacts inside."""
    hypervisor: Hypervisor | None = None
    """Where the machines run; left out, the lab of this host offers it."""
    artifacts: ArtifactSource = ArtifactSource()

    @cached_property
    def versions(self) -> Versions:
        """One version of every component."""
        return versions_for(self.kubernetes)

    @cached_property
    def control_planes(self) -> tuple[str, ...]:
        """The names of the machines with an API server, sorted."""
        return self._with(Role.CONTROL_PLANE)

    @cached_property
    def etcd_members(self) -> tuple[str, ...]:
        """The names of etcd's members, sorted: the control planes where no machine says so."""
        return self._with(Role.ETCD) or self.control_planes

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The names of the machines that are Node objects, sorted: minions and control planes.

        A control plane that is no minion is a node with the customary taint, so that the pod
        network and the API server's way to aggregated APIs reach it as well.
        """
        names = self.machines
        return tuple(sorted(n for n in names if names[n].roles & {Role.CONTROL_PLANE, Role.MINION}))

    def _with(self, role: Role) -> tuple[str, ...]:
        return tuple(sorted(name for name, one in self.machines.items() if role in one.roles))

    def is_made(self, name: str) -> bool:
        """Whether a hypervisor makes this machine; the others exist already."""
        return not isinstance(self._where(name), Existing)

    def is_emulated(self, name: str) -> bool:
        """Whether this machine's processor is emulated, many times slower than the host's."""
        where = self._where(name)
        return isinstance(where, Libvirt) and where.domain_type == "qemu"

    def _where(self, name: str) -> Hypervisor | None:
        return self.machines[name].hypervisor or self.hypervisor

    @property
    def api_host(self) -> str:
        """The IPv4 address or DNS name where the API answers everybody."""
        match self.endpoint:
            case VirtualIp(address=address):
                return str(address)
            case Balancer(host=host):
                return host
            case _:
                return str(self.machines[self.control_planes[0]].address)

    @property
    def api_url(self) -> str:
        """The URL where the API answers everybody."""
        port = self.endpoint.port if isinstance(self.endpoint, Balancer) else API_PORT
        return f"https://{self.api_host}:{port}"
