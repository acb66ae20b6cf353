"""Clusters on a libvirt that emulates, and on one that does not."""

from typing import Literal

from spec.cluster import Cluster
from spec.hypervisor import Libvirt


def on(spec: Cluster, kind: Literal["kvm", "qemu"]) -> Cluster:
    """The cluster, its machines made by such a libvirt."""
    where = Libvirt(uri="qemu:///system", image="base", domain_type=kind)
    return spec.model_copy(update={"hypervisor": where})
