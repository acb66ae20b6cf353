"""Where machines run, as data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

OFFER_VARIABLE = "HARDWAY_OFFER"
"""Names the file in which the lab of this host says where machines can run (a ``Libvirt``)."""

FROZEN = ConfigDict(frozen=True, extra="forbid")


class Libvirt(BaseModel):
    """A libvirt, and the base image that lies in one of its storage pools."""

    model_config = FROZEN

    kind: Literal["libvirt"] = "libvirt"
    uri: str
    """The libvirt connection URI, such as ``qemu:///system``."""
    domain_type: Literal["kvm", "qemu"] = "qemu"
    """``kvm`` where the processor's virtualisation works; ``qemu`` emulates, 8-15 times slower."""
    pool: str = "default"
    image: str
    """The base image's volume in ``pool``; machines are copy-on-write overlays of it."""
    image_format: Literal["raw", "qcow2"] = "qcow2"
    kernel: str | None = None
    """Kernel and initrd for direct boot; without them the image boots by its own loader."""
    initrd: str | None = None
    console_logs: str | None = None
    """A directory in which libvirt writes each machine's serial console, ``<domain>.log``."""
