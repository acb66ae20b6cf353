"""The resources that mean something here, and the clusters that two of their states describe."""

from collections.abc import Iterable

import yaml

from preview.change import ResourceChange
from preview.registration import Registration
from spec.cluster import Cluster, SpecError, parse

COMMAND = "command:remote:Command"
DOMAIN = "libvirt:index/domain:Domain"
"""What a machine is to a hypervisor."""
VOLUME = "libvirt:index/volume:Volume"
SPECIFICATION, AUTHORITIES, CERTIFICATES, GUARD, READY = (
    f"pulumi-python:dynamic/hardway:{name}"
    for name in ("Specification", "Authorities", "Certificates", "Guard", "Ready")
)
DISK = "-disk"
"""What a machine's disk is called after the machine (hypervisors/libvirt.py)."""


def clusters(changes: Iterable[ResourceChange]) -> tuple[Cluster | None, Cluster | None]:
    """Before and after; None where there is none, or it cannot be read."""
    for one in changes:
        if one.kind == SPECIFICATION:
            return _cluster(one.before), _cluster(one.after)
    return None, None


def _cluster(declared: Registration | None) -> Cluster | None:
    if declared is None:
        return None
    try:
        return parse(yaml.safe_load(declared.inputs["spec"]), name="")
    except SpecError:  # of an older program, which allowed what this one refuses
        return None
