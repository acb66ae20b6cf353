"""Checks that machines are large enough for their roles.

Measured on a running cluster without pods of users: a machine with every role used 609 MiB, a
minion 327 MiB. The same amount again lets a component start beside its predecessor.
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
"""The least memory in MiB for each role, and the effect of less."""

DISK = {
    # The base image itself has 4 GiB. etcd's database may grow to 2 GiB, and a defragmentation
    # writes a second copy.
    Role.ETCD: (8, "etcd could not grow to its quota and be defragmented"),
    # kubelet evicts pods when less than 15 % of the disk is free.
    Role.CONTROL_PLANE: (6, "kubelet would evict pods for want of disk space"),
    Role.MINION: (6, "kubelet would evict pods for want of disk space"),
}
"""The least disk in GiB for each role, and the effect of less."""

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
    """The spec gives no size for a machine that exists already, since it would have no effect."""
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
    """The roles of a machine, with etcd if it is a member.

    Control planes are the members where no machine has the role etcd.
    """
    roles = spec.machines[name].roles
    try:
        return roles | {Role.ETCD} if name in spec.etcd_members else roles
    except Unparsed:
        return roles


def _in_words(roles: frozenset[Role]) -> str:
    """The roles in words, in a fixed order."""
    return " with ".join(str(role) for role in Role if role in roles) or "a machine"
