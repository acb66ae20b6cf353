"""The names of a cluster's resources in Pulumi, by which the state identifies them.

The program that declares the resources and the programs that read a state or a preview use these
names. A machine's resource has the machine's name. The other resources of a machine have names of
the machine and the part; the parts are the steps of its plan and those that are listed here.
"""

from collections.abc import Iterable

SPECIFICATION = "specification"
AUTHORITIES = "authorities"
PEOPLE_KEYS = "people-keys"
"""The keys and certificates of people, and of add-ons: no machine has them."""
SSH_KEY = "ssh-key"
"""The first SSH key with which the program logs in, and what machines' host keys are made of."""
BACKUP_KEYS = "backup-keys"
"""The keys with which backups are encrypted and copied elsewhere."""
PASSWORD_SEED = "password-seed"  # noqa: S105, a resource's name
"""The seed of passwords of the program's own making, where an add-on has one."""
NETWORK = "network"
OBJECTS = "objects"
"""The comparison of the objects in the API with those that are declared."""
READY = "ready"
"""The resource that waits for the whole cluster after all steps."""

GUARD, KEYS, DISK, SEED, SCRIPTS = "guard", "keys", "disk", "seed", "scripts"
"""The parts of a machine besides its steps: the comparison with its plan, its keys and
certificates, its disk, the seed disk for its first boot, and the copy of the steps' scripts."""


def numbered(name: str, number: int) -> str:
    """The name of a resource of which there are several over time; the first has no number."""
    return name if number == 1 else f"{name}-{number}"


def of_place(name: str, label: str) -> str:
    """A name in a place of the cluster's machines; the first place has no label."""
    return f"{name}-{label}" if label else name


def part(machine: str, part: str) -> str:
    """The name of the resource that is this part of a machine."""
    return f"{machine}-{part}"


def part_of(resource: str, machine: str) -> str:
    """The part of a machine that a resource is."""
    return resource.removeprefix(part(machine, ""))


def owner(resource: str, part: str) -> str:
    """The machine that a resource with this part belongs to."""
    return resource.removesuffix(f"-{part}")


def machine_of(resource: str, machines: Iterable[str]) -> str | None:
    """The machine that a resource belongs to; None where it belongs to none of these.

    Of machines ``a`` and ``a-b`` the resource ``a-b-node`` is a part of ``a-b``.
    """
    own = [name for name in machines if resource.startswith(part(name, ""))]
    return max(own, key=len, default=None)
