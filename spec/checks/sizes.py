"""Machines that are large enough for what they do.

Measured on a running cluster: a machine with every role used 609 MiB, a minion 327 MiB, both
without a pod of anybody. As much again lets a component start beside its predecessor.
"""

from collections.abc import Iterator

from spec.description import Description
from spec.machine import Role
from spec.part import Unparsed
from spec.refusal import Refusal, dotted

MEMORY = {
    Role.CONTROL_PLANE: (1024, "the API server would be killed for want of memory"),
    Role.MINION: (512, "kubelet would evict pods as soon as they start"),
    Role.ETCD: (512, "etcd would be killed for want of memory"),
}
"""Role to the least memory in MiB, and what comes of less."""

DISK = {
    # 4 GiB is the base image's own size; etcd's database may grow to 2 GiB, and a defragmentation
    # writes it a second time.
    Role.ETCD: (8, "etcd could not grow to its quota and be defragmented"),
    # kubelet evicts pods where less than 15 % of the disk is free.
    Role.CONTROL_PLANE: (6, "kubelet would evict pods for want of disk space"),
    Role.MINION: (6, "kubelet would evict pods for want of disk space"),
}
"""Role to the least disk in GiB, and what comes of less."""

MOST_MEMORY, MOST_DISK = 16 * 2**20, 64 * 2**10


def memory_is_enough(spec: Description, name: str) -> Iterator[Refusal]:
    """The memory of a machine that is made is enough for each of its roles."""
    memory = spec.machines[name].memory
    yield from _enough(spec, name, "memory", memory, "MiB", MEMORY, MOST_MEMORY)


def disk_is_enough(spec: Description, name: str) -> Iterator[Refusal]:
    """The disk of a machine that is made is enough for each of its roles."""
    disk = spec.machines[name].disk
    yield from _enough(spec, name, "disk", disk, "GiB", DISK, MOST_DISK)


def sizes_are_of_a_machine_that_is_made(spec: Description, name: str) -> Iterator[Refusal]:
    """A machine that exists has the size that it has."""
    if spec.is_made(name):
        return
    machine = spec.machines[name]
    for field in ("cpus", "memory", "disk"):
        if field in machine.model_fields_set:
            yield Refusal(
                dotted(("machines", name, field)),
                "is given for a machine that exists already",
                "it would have no effect",
                "leave it out",
            )


def _enough(
    spec: Description,
    name: str,
    field: str,
    value: int,
    unit: str,
    least: dict[Role, tuple[int, str]],
    most: int,
) -> Iterator[Refusal]:
    if not spec.is_made(name):
        return
    roles = _roles(spec, name)
    needed, breaks = max((least[role] for role in roles), default=(1, "nothing would fit"))
    path = dotted(("machines", name, field))
    if value < needed:
        what = _in_words(roles)
        yield Refusal(
            path, f"{value} is too little for {what}", breaks, f"write at least {needed}, in {unit}"
        )
    elif value > most:
        yield Refusal(
            path,
            f"{value} is more {unit} than any host has",
            "the machine could not start",
            f"write a number from {needed} to {most}, in {unit}",
        )


def _roles(spec: Description, name: str) -> frozenset[Role]:
    """What the machine does; a control plane is an etcd member where no machine says so."""
    roles = spec.machines[name].roles
    try:
        return roles | {Role.ETCD} if name in spec.etcd_members else roles
    except Unparsed:
        return roles


def _in_words(roles: frozenset[Role]) -> str:
    """The roles in words, always in the same order."""
    return " with ".join(str(role) for role in Role if role in roles) or "a machine"
