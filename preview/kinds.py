"""The types of resources that a preview interprets, and the clusters before and after a change."""

from collections.abc import Iterable

from hypervisors.existing.resources import MACHINE as EXISTING
from plan import library
from preview.change import ResourceChange
from preview.registration import Registration
from spec.cluster import Cluster
from spec.kept import LISTS, read

CLUSTER = "hardway:index:Cluster"
MACHINE = "hardway:index:Machine"
"""The components that are parents of other resources: of the whole cluster, and of a machine."""
COMMAND = "command:remote:Command"
COPY = "command:remote:CopyToRemote"
"""The scripts of all steps, as they are copied to a machine; see also ``has_scripts``."""
SPECIFICATION, AUTHORITIES, CERTIFICATES, GUARD, OBJECTS, READY = (
    f"pulumi-python:dynamic/hardway:{name}"
    for name in ("Specification", "Authorities", "Certificates", "Guard", "Objects", "Ready")
)
STASH = "pulumi:index:Stash"
"""Keeps keys of which no two are alike, and nothing else: SSH keys, keys of backups."""
BESIDE = {SPECIFICATION: frozenset({"hypervisor", LISTS}), READY: frozenset({"access"})}
"""The inputs by type whose difference alone is no change of the resource. They are only kept for
the next check, or wait (see the providers' ``diff``)."""
LOGIN = {
    COMMAND: frozenset({"connection"}),
    COPY: frozenset({"connection"}),
    GUARD: frozenset({"login"}),
    OBJECTS: frozenset({"login"}),
    EXISTING: frozenset({"publicKey", "privateKey", "otherKeys"}),
}
"""The inputs by type that have the key with which the program logs in, or the keys that are let
in. The engine names none of a guard's, since they are all secret."""


def clusters(changes: Iterable[ResourceChange]) -> tuple[Cluster | None, Cluster | None]:
    """The cluster before and after; None where there is no cluster or its spec is unreadable."""
    for change in changes:
        if change.kind == SPECIFICATION:
            before, after = (
                read(side.inputs) if side else None for side in (change.before, change.after)
            )
            return before, after
    return None, None


def has_scripts(resource: Registration) -> bool:
    """Whether the resource brings the scripts of all steps to a machine."""
    if resource.kind == COPY:
        return True
    data = resource.inputs.get("stdin")
    return resource.kind == COMMAND and isinstance(data, str) and library.lays_down(data)


def is_step(change: ResourceChange) -> bool:
    """Whether the resource is a step of a machine."""
    return change.kind == COMMAND and not has_scripts(change.declared)
