"""The description of a cluster as a person writes it, before the checks of its parts together."""

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from spec.backup import Backup
from spec.downloads import Architecture
from spec.hypervisor import Hypervisor, HypervisorPart, Libvirt, LoginSettings
from spec.ingress import Ingress
from spec.load_balancer import LoadBalancer
from spec.machine import Machine, Role
from spec.network import API_PORT, Balancer, Endpoint, Flannel, Networks, VirtualIp
from spec.notebooks import Notebooks
from spec.part import Address, Expected, LeftOut, Part, Switch, Text, Truth, Whole
from spec.proxy import Proxy
from spec.registry import Name, Registry
from spec.resource_names import of_place
from spec.rollout import Rollout
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


class MetricsServer(Part):
    """What measures nodes and pods."""

    resolution: Annotated[Whole, Field(ge=15, le=600)] = 30
    """Seconds between two readings of a kubelet."""


class Monitoring(Part):
    """What keeps a history of nodes and pods, and draws it."""

    retention: Annotated[Whole, Field(ge=1, le=366)] = 7
    """Days that the history goes back."""
    interval: Annotated[Whole, Field(ge=15, le=120)] = 30
    """Seconds between two readings of a kubelet, of a machine's disks and of CoreDNS; pods' network
    traffic is read half as often, and an API server every two minutes."""


class Logs(Part):
    """What keeps the logs of pods and the journals of machines."""

    retention: Annotated[Whole, Field(ge=1, le=366)] = 7
    """Days that the logs go back."""
    limit: Annotated[Whole, Field(ge=1, le=1000)] = 2
    """GiB that they take on the disk: beyond that the oldest day goes, however young it is."""


class Dashboard(Part):
    """What shows the cluster in a browser."""

    access: Annotated[Literal["view", "admin"], Expected("view or admin")] = "view"
    """What a person may do there who logs in with the token that `./hardway open dashboard` gives:
    ``view`` reads all but Secrets, ``admin`` may do everything. With a token of another account, a
    person may do what that account may."""


class Addons(Part):
    """What runs in the cluster itself."""

    coredns: Truth = True
    """Whether CoreDNS answers, at the tenth address of ``networks.services``."""
    name_servers: tuple[Address, ...] = ()
    """To whom CoreDNS passes on names outside the cluster, at most 15; without any to
    ``networks.name_servers``, and without those it answers no such name. No address of
    ``networks.services`` or ``networks.pods``, none that leads to no machine (loopback, link-local,
    multicast), and only with ``coredns``."""
    storage: Truth = False
    """Whether a claim without a storage class gets a volume: a folder in ``/var/lib/local-path`` of
    the node on which its first pod runs. Its pods then run on that node only; the folder goes with
    the claim, and stays where the add-on is switched off."""
    network_policy: Truth = False
    """Whether objects of the kind NetworkPolicy are enforced: without it, nobody reads them."""
    load_balancer: Annotated[
        LoadBalancer | None, Switch, LeftOut("such Services get no address")
    ] = None
    """Addresses for Services of the type LoadBalancer."""
    metrics_server: Annotated[
        MetricsServer | None,
        Switch,
        Expected("true, false, or a mapping with resolution"),
        LeftOut("`false`"),
    ] = None
    """Whether ``kubectl top`` and autoscalers know what nodes and pods use: ``true``, or a mapping
    of its settings."""
    monitoring: Annotated[
        Monitoring | None,
        Switch,
        Expected("true, false, or a mapping with retention and interval"),
        LeftOut("`false`"),
    ] = None
    """Whether a history of nodes, pods, namespaces, DNS and API servers is kept, with pages that
    draw it: ``true``, or a mapping of its settings. With ``storage`` it is a claim, else it is on
    the node of its pod and ends with that pod."""
    problem_detector: Truth = False
    """Whether problems of nodes that their kernels report, such as a file system that became
    read-only, are conditions of the nodes and of `./hardway validate`, and events."""
    logs: Annotated[
        Logs | None,
        Switch,
        Expected("true, false, or a mapping with retention and limit"),
        LeftOut("`false`"),
    ] = None
    """Whether the logs of all pods and the journals of all nodes are kept in one place, with a page
    that searches them: ``true``, or a mapping of its settings. With ``storage`` it is a claim, else
    it is on the node of its pod and ends with that pod. Only with ``coredns``, by which what reads
    logs finds what keeps them."""
    ingress: Annotated[
        Ingress | None,
        Switch,
        Expected(
            "true, false, or a mapping with certificate_names, address, namespaces, "
            "default_backend and gateway"
        ),
        LeftOut("`false`"),
    ] = None
    """Whether Services are reached from outside by http and https, as objects of the kind Ingress
    say: ``true``, or a mapping of its settings. With ``load_balancer`` at an address of its own,
    else at ports 80 and 443 of every node."""
    dashboard: Annotated[
        Dashboard | None,
        Switch,
        Expected("true, false, or a mapping with access"),
        LeftOut("`false`"),
    ] = None
    """Whether the cluster has a page, Headlamp's, that shows what is in it: ``true``, or a mapping
    of its settings. `./hardway open dashboard` opens it, with a token to log in."""

    notebooks: Annotated[
        Notebooks | None,
        Switch,
        Expected(
            "true, false, or a mapping with memory, cpus, servers, idle, home, password and "
            "certificate_names"
        ),
        LeftOut("`false`"),
    ] = None
    """Whether people get Jupyter notebooks, by https at ports 8000 and 8888 of the first control
    plane: ``true``, or a mapping of its settings. Each person who logs in has a server, a pod. With
    ``storage`` its home is a claim, else what is in it ends with the server. Only with ``coredns``,
    by which servers find the hub. `./hardway open notebooks` opens it, and says the password."""

    @property
    def enabled(self) -> frozenset[str]:
        """The fields of the add-ons that are on."""
        return frozenset(name for name, value in self if value is True or isinstance(value, Part))


class Etcd(Part):
    """What keeps all that the cluster knows."""

    generation: Annotated[Whole, Field(ge=1), Expected("a whole number, 1 or more")] = 1
    """One more after each restore by hand: members from before it are not let in.
    `./hardway restore` does without. Of a living cluster never less."""
    version: Annotated[
        Text | None,
        Expected('a version in quotes, such as "3.6.14"'),
        LeftOut("the version that comes with the cluster's Kubernetes"),
    ] = None
    """Of etcd. The one that comes with the Kubernetes minor version before is possible as well: a
    living cluster goes back to it, member by member, and up again. Not while its members change."""


class KeyNumbers(Part):
    """The numbers of keys that turn over when a person writes another number."""

    encryption: Annotated[Whole, Field(ge=1), Expected("a whole number, 1 or more")] = 1
    """The number of the key that encrypts Secrets in etcd. Another number turns it over in one
    update: all API servers get to know the new key, then write with it, then all Secrets are
    rewritten, then the old key leaves the machines; API servers restart one at a time. The former
    number brings the former key back. Not while control planes leave."""
    service_accounts: Annotated[Whole, Field(ge=1), Expected("a whole number, 1 or more")] = 1
    """The number of the key pair that signs the tokens of service accounts. Another number turns it
    over in one update: all API servers get to trust the new pair beside the former one, then they
    and the controller managers sign with it; API servers restart one at a time, twice. Tokens of
    the former pair are accepted until the first update more than 26 hours later: by then no pod has
    one. The former number brings the former pair back. Not while control planes leave."""


def _numbers(value: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(value) <= 2 or len({*value}) != len(value) or min(value) < 1:
        raise ValueError("neither one number nor two different ones")
    return value


TurningNumbers = Annotated[
    tuple[Whole, ...],
    AfterValidator(_numbers),
    Expected("a list of one or two different whole numbers, 1 or more, such as [1, 2]"),
]
TrustedNumbers = Annotated[TurningNumbers, LeftOut("`[1]`")]


FIRST = (1,)
"""The numbers of an authority, or of an SSH key, that has never turned over."""


class AuthorityNumbers(Part):
    """Which authorities the cluster has: the first in a list signs, a second is trusted as well.

    An authority turns over in three updates: ``[1]`` becomes ``[1, 2]``, then ``[2, 1]``, then
    ``[2]``. Up to the last, each of them can be taken back.
    """

    kubernetes: TrustedNumbers = FIRST
    """The numbers of the authority for API servers, kubelets and people. Add-ons' pods start anew
    where the list gets longer or shorter; your own that speak to the API should before ``[2, 1]``.
    With ``[2]``, kubeconfigs from before ``[2, 1]`` are refused."""
    etcd: TrustedNumbers = FIRST
    """The numbers of the authority for etcd's members and clients."""
    front_proxy: TrustedNumbers = FIRST
    """The numbers of the authority by which aggregated APIs, such as that of metrics-server, know
    the API servers."""


class BaseImage(Part):
    """A distribution's cloud image that machines start from, in place of the one the lab builds."""

    source: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^(https?://\S+|[^:\s][^:]*)$"),
        Expected("a http or https URL, or a path on this host"),
    ]
    """The image: a URL without a user in it, or a path on this host, from the checkout on where it
    is not absolute."""
    sha256: Sha256 | None = None
    """The digest of the file that its maker publishes; this or ``sha512`` is required."""
    sha512: Sha512 | None = None
    """The other digest; both are compared where both are given."""


class ArtifactSource(Part):
    """Where machines get the programs and image archives that their base image lacks."""

    mirror: Annotated[
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"^https?://[^\s]+[^/\s]$"),
            Expected("a http or https URL without a slash at its end"),
        ]
        | None,
        LeftOut("the lab's"),
    ] = None
    """A site mirror: it has every file at ``<mirror>/sha256/<digest>``. Each machine reaches it, so
    it is none of the cluster, and no ``localhost``; without user, query and fragment."""
    digests: dict[Text, Sha256] = Field(default_factory=dict)
    """The sha256 of a file that is not the official one, by ``<name>-<version>`` such as
    ``kubelet-1.37.1``."""


def _alone_it_does_everything(value: Any) -> Any:
    """Gives the only machine of a cluster the roles ``ai`` where the spec gives it no roles."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, machine),) = value.items()
        if isinstance(machine, Mapping) and "roles" not in machine:
            return {name: {**machine, "roles": "ai"}}
    return value


class Description(Part):
    """What a person wants of a cluster; the rest follows without choice."""

    name: Annotated[Text, LeftOut("the stack's name")]
    """Begins the names of the machines and their network on the hypervisor: at most 63 of ``a-z``,
    ``0-9`` and ``-``, a letter or digit at both ends."""
    kubernetes: Annotated[Text, Expected('a version in quotes, such as "1.37.1"')] = Field(
        default_factory=lambda: catalogue()[0].kubernetes
    )
    """Of the API servers and kubelets; a fitting version of each other component comes with it. A
    living cluster goes to the next minor version, one at a time, and not back to an older one."""
    architecture: Architecture = "amd64"
    """The processor of every machine."""
    dns_domain: Annotated[Text, Expected("a DNS name such as cluster.local")] = "cluster.local"
    """The domain of Services, in lower case: at most 230 characters."""
    networks: Networks
    """The address ranges."""
    machines: Annotated[dict[Text, Machine], BeforeValidator(_alone_it_does_everything)]
    """The machines by their names, which are host names and names of Node objects: at most 52 of
    ``a-z``, ``0-9`` and ``-``, a letter or digit at both ends, and not ``localhost``."""
    endpoint: Annotated[
        Endpoint | None, LeftOut("the control plane's address; required with several of them")
    ] = None
    """Where the API answers."""
    runtime: Literal["containerd", "docker"] = "containerd"
    """What runs containers: containerd, or Docker through cri-dockerd."""
    rollout: Rollout = Rollout()
    """How nodes become those of another version."""
    registries: dict[Name, Registry] = Field(default_factory=dict)
    """How nodes reach registries, by the names with which references of images begin, such as
    ``docker.io`` or ``registry.example.org:5000``; with containerd, ``_default`` stands for every
    other one."""
    proxy: Annotated[Proxy | None, LeftOut("machines download directly")] = None
    """Through whom machines download."""
    etcd: Etcd = Etcd()
    """What keeps all that the cluster knows."""
    keys: Annotated[KeyNumbers | None, LeftOut("each key is the first")] = None
    """Which keys the cluster has, where they turn over."""
    authorities: Annotated[AuthorityNumbers | None, LeftOut("each authority is the first")] = None
    """Which authorities the cluster has, where they turn over."""
    ssh_keys: Annotated[TurningNumbers | None, LeftOut("key 1 alone")] = None
    """The numbers of the SSH keys that machines let in: with the first in the list the program logs
    in. The key turns over in three updates: ``[1]`` becomes ``[1, 2]``, then ``[2, 1]``, then
    ``[2]``, with which machines and jump hosts refuse key 1. Up to the last, each of them can be
    taken back. A key that was left out does not come back: the next one is 3."""
    backup: Annotated[Backup | None, LeftOut("no backups are made")] = None
    """Backups of etcd; ``{}`` for those with the settings below."""
    flannel: Flannel = Flannel()
    """The pod network."""
    proxy_mode: Literal["nftables", "iptables"] = "nftables"
    """By which of the kernel's means kube-proxy leads packets to Services."""
    addons: Addons = Addons()
    """What runs in the cluster itself."""
    base_image: Annotated[
        BaseImage | None, LeftOut("a Debian that the lab builds, with all artifacts inside")
    ] = None
    """The cloud image from which the lab makes the base image; not beside a ``hypervisor`` that
    names a base image of its own, or that makes no machines."""
    hypervisor: Annotated[Hypervisor | None, LeftOut("what this host's lab offers")] = None
    """Where the machines run."""
    artifacts: ArtifactSource = ArtifactSource()
    """Where machines get programs and image archives."""

    @cached_property
    def versions(self) -> Versions:
        """One version of every component."""
        versions = versions_for(self.kubernetes)
        if self.etcd.version is None:
            return versions
        return versions.model_copy(update={"etcd": self.etcd.version.removeprefix("v")})

    @property
    def key_numbers(self) -> KeyNumbers:
        """Which keys the cluster has."""
        return self.keys or KeyNumbers()

    @property
    def authority_numbers(self) -> AuthorityNumbers:
        """Which authorities the cluster has."""
        return self.authorities or AuthorityNumbers()

    @property
    def ssh_key_numbers(self) -> tuple[int, ...]:
        """The numbers of the SSH keys that machines let in: first of the one that logs in."""
        return self.ssh_keys or FIRST

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
        return tuple(
            sorted(name for name, machine in self.machines.items() if role in machine.roles)
        )

    def machines_on(self, kind: type[HypervisorPart]) -> tuple[str, ...]:
        """The names of the machines on hypervisors of this kind."""
        return tuple(name for name in self.machines if isinstance(self.hypervisor_of(name), kind))

    def is_made(self, name: str) -> bool:
        """Whether a hypervisor makes this machine; the others exist already."""
        where = self.hypervisor_of(name)
        return where is None or where.makes_machines

    def is_emulated(self, name: str) -> bool:
        """Whether this machine's processor is emulated, many times slower than the host's."""
        where = self.hypervisor_of(name)
        return where is not None and where.is_emulated

    @property
    def in_lab(self) -> tuple[str, ...]:
        """The names of the machines that the spec leaves to the lab's offer."""
        return tuple(name for name in self.machines if self.hypervisor_of(name) is None)

    @property
    def libvirts_without_image(self) -> tuple[Libvirt, ...]:
        """The libvirts into whose pool the lab brings the base image, each of them once."""
        named = (self.hypervisor_of(name) for name in self.machines)
        return tuple(
            {
                (where.site, where.pool): where
                for where in named
                if isinstance(where, Libvirt) and where.wants_image
            }.values()
        )

    @property
    def networks_in_lab(self) -> dict[str, IPv4Network]:
        """The subnets of the machines that a lab makes, by the names that libvirt has for them."""
        return {
            of_place(self.name, self.network_label_of(name)): self.subnet_of(name)
            for name in self.in_lab
        }

    def hypervisor_of(self, name: str) -> Hypervisor | None:
        """Where this machine runs; None where the spec leaves it to the lab's offer."""
        return self.machines[name].hypervisor or self.hypervisor

    def place_of(self, name: str) -> str:
        """Identifies the place where this machine runs."""
        where = self.hypervisor_of(name)
        return where.site if where else "lab"

    def subnet_of(self, name: str) -> IPv4Network:
        """The subnet of this machine. Raises ValueError where its address is in none."""
        subnet = self.networks.subnet_of(self.machines[name].address)
        if subnet is None:
            raise ValueError(f"{name} is in no subnet of networks.machines")
        return subnet

    def label_of(self, name: str) -> str:
        """The label of the place where this machine runs; empty at the cluster's own hypervisor."""
        where = self.hypervisor_of(name)
        own = self.hypervisor.site if self.hypervisor else "lab"
        return where.label if where and where.site != own else ""

    def network_label_of(self, name: str) -> str:
        """Tells the network of this machine from the cluster's other ones.

        It is empty for the first subnet at the cluster's own hypervisor.
        """
        label, subnet = self.label_of(name), self.subnet_of(name)
        if not label and subnet == self.networks.machines[0]:
            return ""
        return "-".join(filter(None, (label, str(subnet).replace("/", "-"))))

    def login_of(self, name: str) -> LoginSettings:
        """How to log in to this machine."""
        where = self.hypervisor_of(name)
        return where.login(self.machines[name].address) if where else LoginSettings()

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
