"""Where machines run, as data."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from spec.part import Address, Expected, Part, Port, Text

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


class Libvirt(Part):
    """A libvirt, and the base image that lies in one of its storage pools."""

    kind: Literal["libvirt"] = "libvirt"
    uri: Annotated[
        str,
        StringConstraints(
            strict=True, pattern=r"^qemu(\+[a-z0-9]+)?://[^\s/?]*/(system|session)(\?\S*)?$"
        ),
        Expected("a connection URI of libvirt's QEMU driver, such as qemu:///system"),
    ]
    domain_type: Literal["kvm", "qemu"] = "qemu"
    """``kvm`` where the processor's virtualisation works; ``qemu`` emulates, 8-15 times slower."""
    pool: InPool = "default"
    image: Annotated[
        InPool,
        Expected(
            "the name alone of the base image's volume in the pool, as virsh vol-list shows it"
        ),
    ]
    """The base image's volume in ``pool``; machines are copy-on-write overlays of it."""
    image_format: Literal["raw", "qcow2"] = "qcow2"
    kernel: HostPath | None = None
    """Kernel and initrd for direct boot; without them the image boots by its own loader."""
    initrd: HostPath | None = None
    kernel_arguments: tuple[KernelArgument, ...] = ()
    """More words for the kernel of a direct boot, such as ``mitigations=off``."""
    disk_cache: Literal["default", "none", "writeback", "directsync", "unsafe"] = "default"
    """Of the machines' disks, in libvirt's words. ``unsafe`` does not wait for the host's disk:
    etcd is then many times faster, and a power failure of the host may cost a machine."""
    console_logs: (
        Annotated[
            str,
            StringConstraints(strict=True, pattern=r"^/[^\x00-\x1f'\"<>&]+$"),
            Expected("an absolute path on libvirt's host without quotes, <, > and &"),
        ]
        | None
    ) = None
    """A directory in which libvirt writes each machine's serial console, ``<domain>.log``.

    It stands in ``hypervisors/domain.xslt`` as it is.
    """


class VirtualBox(Part):
    """VirtualBox on the host that runs the program."""

    kind: Literal["virtualbox"]
    image: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"(?i)\.(vdi|vmdk)$"),
        Expected("the path of a VDI or VMDK file"),
    ]
    """The path of the base image (VDI or VMDK) that machines are differencing disks of."""


class Existing(Part):
    """Machines that are there already and are reached by SSH; nothing makes or ends them."""

    kind: Literal["existing"]
    user: User = "root"
    """Root, or a user that may ``sudo`` without a password."""
    port: Port = 22
    host_keys: dict[Address, Text] = Field(default_factory=dict)
    """Address to the machine's public host key, as in ``/etc/ssh/ssh_host_ed25519_key.pub``."""


def _libvirt_unless_said(value: Any) -> Any:
    """A hypervisor without a kind is a libvirt, the only one that specs could name at first."""
    if isinstance(value, Mapping) and "kind" not in value:
        return {"kind": "libvirt", **value}
    return value


Hypervisor = Annotated[
    Annotated[Libvirt | VirtualBox | Existing, Field(discriminator="kind")],
    BeforeValidator(_libvirt_unless_said),
]
"""Where a machine comes from, told apart by ``kind``."""
