"""The models of the hypervisors on which machines run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BeforeValidator, Field, StringConstraints

from spec.part import Address, Expected, LeftOut, Part, Port, Text

User = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[a-z_][a-z0-9_-]*$", max_length=32),
    Expected("a user's name in lower case, such as root"),
]


KernelArgument = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[^\s=\"']+(=[^\s\"']+)?$"),
    Expected("one word of a kernel's command line, such as quiet or mitigations=off"),
]


InPool = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[^\s/]([^/\x00-\x1f]*[^\s/])?$"),
    Expected("a name as virsh lists it, without a slash"),
]
"""The name of a storage pool, or of a volume in it."""

HostPath = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^/[^\x00-\x1f]+$"),
    Expected("an absolute path on libvirt's host"),
]

NO_DEFAULT = LeftOut("required: without it a libvirt is meant")


class Bastion(Part):
    """A jump host: the machines are reached through its sshd."""

    address: Annotated[Address, Expected("the jump host's address, such as 203.0.113.7")]
    """Its address, as seen from the computer that runs the program."""
    port: Port = 22
    """The TCP port of its sshd."""
    user: User = "root"
    """Who logs in there; this user needs no right but to pass connections on."""
    host_key: Text
    """Its public host key, as in its ``/etc/ssh/ssh_host_ed25519_key.pub``."""


@dataclass(frozen=True, kw_only=True)
class LoginSettings:
    """How to log in to a machine, besides its address and the private key."""

    user: str = "root"
    """Who logs in. A user other than root may ``sudo`` without a password."""
    port: int = 22
    host_key: str | None = None
    """The host key that the spec gives; None where the program makes the machine and its key."""
    bastion: Bastion | None = None


class HypervisorPart(Part):
    """What the program asks of every kind of hypervisor."""

    makes_machines: ClassVar[bool] = True
    """Whether the program makes the machines there; otherwise they exist already."""
    is_here: ClassVar[bool] = False
    """Whether the machines run on the host that runs the program."""
    grows_running: ClassVar[bool] = True
    """Whether the disk of a machine grows while the machine runs."""

    @property
    def site(self) -> str:
        """Identifies whatever has the machines, which share a network there."""
        return str(getattr(self, "kind", ""))

    @property
    def label(self) -> str:
        """A short name of the place, for resources of a cluster on several of them."""
        return self.site

    @property
    def is_emulated(self) -> bool:
        """Whether the machines' processors are emulated, many times slower than the host's."""
        return False

    @property
    def wants_image(self) -> bool:
        """Whether the spec leaves the base image to the lab's offer."""
        return False

    def login(self, address: IPv4Address) -> LoginSettings:  # noqa: ARG002  # of other kinds
        """How to log in to the machine at an address."""
        return LoginSettings()


class Libvirt(HypervisorPart):
    """A libvirt, on this host or on another one."""

    kind: Literal["libvirt"] = "libvirt"
    """Tells the kinds of hypervisor apart."""
    uri: Annotated[
        str,
        StringConstraints(
            strict=True, pattern=r"^qemu(\+[a-z0-9]+)?://[^\s/?]*/(system|session)(\?\S*)?$"
        ),
        Expected("a connection URI of libvirt's QEMU driver, such as qemu:///system"),
    ]
    """The libvirt in which the machines are made, on any host:
    ``qemu+ssh://user@host:22/system?keyfile=/path&knownhosts=/path`` logs in with a key and knows
    the host by a file of ``known_hosts``' form; without these, an agent or ``~/.ssh`` have both. A
    living cluster keeps it."""
    domain_type: Literal["kvm", "qemu"] = "qemu"
    """``kvm`` where the processor's virtualisation works; ``qemu`` emulates, 8-15 times slower."""
    pool: InPool = "default"
    """The storage pool with the base image and the machines' disks. A living cluster keeps it."""
    image: Annotated[
        Annotated[
            InPool,
            Expected(
                "the name alone of the base image's volume in the pool, as virsh vol-list shows it"
            ),
        ]
        | None,
        LeftOut(
            "that of ``base_image``, or a Debian that the lab builds, with all artifacts inside; "
            "``up`` brings it into the pool"
        ),
    ] = None
    """The base image's volume in ``pool``, and no machine's disk; machines are copy-on-write
    overlays of it."""
    image_format: Literal["raw", "qcow2"] = "qcow2"
    """The format of that volume."""
    kernel: Annotated[HostPath | None, LeftOut("the image boots by its own loader")] = None
    """A kernel, for direct boot; only together with ``initrd``."""
    initrd: HostPath | None = None
    """That kernel's initial file system; only together with ``kernel``."""
    kernel_arguments: tuple[KernelArgument, ...] = ()
    """More words for the kernel of a direct boot; only together with ``kernel``."""
    disk_cache: Literal["default", "none", "writeback", "directsync", "unsafe"] = "default"
    """Of the machines' disks, in libvirt's words. ``unsafe`` does not wait for the host's disk:
    etcd is then many times faster, and a power failure of the host may cost a machine."""
    # The pattern excludes characters that hypervisors/libvirt/domain.xslt would need to escape.
    console_logs: Annotated[
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"^/[^\x00-\x1f'\"<>&]+$"),
            Expected("an absolute path on libvirt's host without quotes, <, > and &"),
        ]
        | None,
        LeftOut("no log is written"),
    ] = None
    """A directory in which libvirt writes each machine's serial console, ``<domain>.log``."""

    @property
    def site(self) -> str:
        """The libvirt of the URI, whatever its transport and user (libvirt's "Connection URIs")."""
        parts = urlsplit(self.uri)
        driver = parts.scheme.partition("+")[0]
        host = parts.netloc.rpartition("@")[2]
        sockets = "".join(f"?socket={path}" for path in parse_qs(parts.query).get("socket", ()))
        return f"{driver}://{host}{parts.path}{sockets}"

    @property
    def label(self) -> str:
        """The name of libvirt's host; a digest where a socket or port tells libvirts apart."""
        parts = urlsplit(self.uri)
        if parts.hostname and self.site == f"qemu://{parts.hostname}/system":
            return parts.hostname
        return hashlib.sha256(self.site.encode()).hexdigest()[:8]

    @property
    def wants_image(self) -> bool:
        """Whether the spec leaves the base image to the lab's offer."""
        return self.image is None

    @property
    def is_emulated(self) -> bool:
        """Whether QEMU emulates the machines' processors."""
        return self.domain_type == "qemu"


class VirtualBox(HypervisorPart):
    """VirtualBox on the host that runs the program, as the same user.

    Each machine has two adapters: the first one is in a host-only network ``networks.machines``,
    which root has to allow in ``/etc/vbox/networks.conf``; the second one is the way out, with the
    same address of 10.0.2.0/24 on all machines. A machine is shut down and started again for
    another size, also of its disk.
    """

    is_here: ClassVar[bool] = True
    grows_running: ClassVar[bool] = False
    NAT: ClassVar[IPv4Network] = IPv4Network("10.0.2.0/24")
    """The network behind each machine's second adapter (VirtualBox's manual, "Network Address
    Translation"): the gateway has its second address, and the machine its fifteenth."""

    MOST_CPUS: ClassVar[int] = 64
    MOST_MEMORY: ClassVar[int] = 2 * 2**20
    """MiB."""

    kind: Annotated[Literal["virtualbox"], NO_DEFAULT]
    """Tells the kinds of hypervisor apart."""
    image: Annotated[
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"(?i)\.(vdi|vmdk)$"),
            Expected("the path of a VDI or VMDK file"),
        ]
        | None,
        LeftOut(
            "that of ``base_image``, or a Debian that the lab builds, with all artifacts inside"
        ),
    ] = None
    """The base image, with a boot loader for BIOS, cloud-init and a driver for virtio-scsi, from
    the checkout on where the path is not absolute. Machines' disks hold what differs from it."""

    @property
    def wants_image(self) -> bool:
        """Whether the spec leaves the base image to the lab's offer."""
        return self.image is None


class Existing(HypervisorPart):
    """Machines that are there already and are reached by SSH; nothing makes or ends them.

    At the first update each of them opens to your own SSH keys and takes the cluster's. It is
    handed back, as it was before, when it leaves the cluster.
    """

    makes_machines: ClassVar[bool] = False

    kind: Annotated[Literal["existing"], NO_DEFAULT]
    """Tells the kinds of hypervisor apart."""
    user: User = "root"
    """Who logs in: root, or a user that may ``sudo`` without a password."""
    port: Port = 22
    """The TCP port of the machines' sshd: none of the NodePorts 30000-32767, and no
    component's."""
    host_keys: Annotated[
        dict[Address, Text], LeftOut("required: an entry for each machine that exists")
    ] = Field(default_factory=dict)
    """The machines' public host keys by their addresses, ``192.168.1.10: ssh-ed25519 AAAA…``, as in
    the machine's ``/etc/ssh/ssh_host_ed25519_key.pub``: Ed25519, ECDSA or RSA. Each machine that
    exists has an entry; no entry is of another address."""
    bastion: Annotated[Bastion | None, LeftOut("machines are reached directly")] = None
    """The jump host through which machines are reached."""

    def login(self, address: IPv4Address) -> LoginSettings:
        """How to log in to the machine at an address."""
        return LoginSettings(
            user=self.user,
            port=self.port,
            host_key=self.host_keys.get(address),
            bastion=self.bastion,
        )


def _libvirt_unless_said(value: Any) -> Any:
    """Makes a hypervisor without a kind a libvirt, which was the only kind at first."""
    if isinstance(value, Mapping) and "kind" not in value:
        return {"kind": "libvirt", **value}
    return value


Hypervisor = Annotated[
    Annotated[Libvirt | VirtualBox | Existing, Field(discriminator="kind")],
    BeforeValidator(_libvirt_unless_said),
]
"""One of the kinds of hypervisor, which ``kind`` distinguishes."""


def domain_name(cluster: str, machine: str) -> str:
    """The name of a machine on its hypervisor."""
    return f"{cluster}-{machine}"
