"""What the resources of a cluster are called in Pulumi, which is how a state knows them again.

The program that declares them and the programs that read a state or a preview use the same names. A
machine's resource is called after the machine, and its other parts after the machine and the part:
each step of its plan, and what is listed here.
"""

from collections.abc import Iterable

SPECIFICATION = "specification"
AUTHORITIES = "authorities"
PEOPLE_KEYS = "people-keys"
"""The keys and certificates of people."""
SSH_KEY = "ssh-key"
"""The key with which this program logs in."""
NETWORK = "network"
READY = "ready"
"""Of the whole cluster, after all steps."""

GUARD, KEYS, DISK, SEED = "guard", "keys", "disk", "seed"
"""Parts of a machine beside its steps: what compares it with its plan, its keys and certificates,
its disk, and what it reads at its first boot."""


def part(machine: str, part: str) -> str:
    """The resource that is this part of a machine."""
    return f"{machine}-{part}"


def part_of(resource: str, machine: str) -> str:
    """Which part of a machine a resource is."""
    return resource.removeprefix(part(machine, ""))


def owner(resource: str, part: str) -> str:
    """The machine of which a resource is this part."""
    return resource.removesuffix(f"-{part}")


def machine_of(resource: str, machines: Iterable[str]) -> str | None:
    """The machine that a resource is a part of; None where it is none's.

    Of machines ``a`` and ``a-b`` the resource ``a-b-node`` is a part of ``a-b``.
    """
    own = [name for name in machines if resource.startswith(part(name, ""))]
    return max(own, key=len, default=None)
