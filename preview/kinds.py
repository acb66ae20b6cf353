"""The resources that mean something here, and the clusters that two of their states describe."""

from collections.abc import Iterable

from preview.change import ResourceChange
from spec.cluster import Cluster
from spec.kept import read

CLUSTER = "hardway:index:Cluster"
MACHINE = "hardway:index:Machine"
"""The components that hold the other resources: of the cluster as a whole, and of a machine."""
COMMAND = "command:remote:Command"
DOMAIN = "libvirt:index/domain:Domain"
"""What a machine is to a hypervisor."""
VOLUME = "libvirt:index/volume:Volume"
SPECIFICATION, AUTHORITIES, CERTIFICATES, GUARD, READY = (
    f"pulumi-python:dynamic/hardway:{name}"
    for name in ("Specification", "Authorities", "Certificates", "Guard", "Ready")
)
BESIDE = {SPECIFICATION: frozenset({"hypervisor"})}
"""Kind to the inputs that are kept for the next change, and whose own change is none (the
provider's ``diff`` in components/specification.py)."""


def clusters(changes: Iterable[ResourceChange]) -> tuple[Cluster | None, Cluster | None]:
    """Before and after; None where there is none, or it cannot be read."""
    for one in changes:
        if one.kind == SPECIFICATION:
            before, after = (
                read(side.inputs) if side else None for side in (one.before, one.after)
            )
            return before, after
    return None, None
