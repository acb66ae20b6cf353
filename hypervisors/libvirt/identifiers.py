"""The IDs by which the provider knows what a libvirt has already (pulumi-libvirt 0.5.4)."""

import uuid
from collections.abc import Mapping
from typing import Any

from hypervisors.libvirt.resources import DOMAIN, NETWORK, SEED, VOLUME
from hypervisors.libvirt.virsh import ask, reason
from hypervisors.upkeep import IdentifierError

LISTED: dict[str, tuple[str, ...]] = {
    NETWORK: ("net-list", "--all", "--name"),
    DOMAIN: ("list", "--all", "--name"),
    VOLUME: ("vol-list", "--pool", "{pool}"),
    SEED: ("vol-list", "--pool", "{pool}"),
}
"""Resource type to the virsh command that lists resources of it, a line each, the name first."""

ASKED: dict[str, tuple[str, ...]] = {
    NETWORK: ("net-uuid",),
    DOMAIN: ("domuuid",),
    VOLUME: ("vol-key", "--pool", "{pool}"),
    SEED: ("vol-key", "--pool", "{pool}"),
}
"""Resource type to the virsh command that says the identifier of a name."""

PATIENCE = 120
"""The time limit in seconds for an answer of libvirt."""


def identifier(uri: str, resource_type: str, inputs: Mapping[str, Any]) -> str | None:
    """The ID of a resource with the name and the pool of these inputs; None where there is none.

    The provider finds a seed disk by what stands before the semicolon, and would have made a UUID
    of its own for the rest. Raises IdentifierError.
    """
    name, pool = str(inputs["name"]), str(inputs.get("pool", "default"))
    listing = _answer(uri, *(part.format(pool=pool) for part in LISTED[resource_type]))
    if name not in {line.split()[0] for line in listing.splitlines() if line.strip()}:
        return None
    verb, *options = (part.format(pool=pool) for part in ASKED[resource_type])
    key = _answer(uri, verb, *options, name).strip()
    return f"{key};{uuid.uuid4()}" if resource_type == SEED else key


def _answer(uri: str, *arguments: str) -> str:
    try:
        done = ask(uri, *arguments, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise IdentifierError("the program virsh is missing; install libvirt-clients") from error
    if done is None:
        raise IdentifierError(f"libvirt at {uri} gives no answer within {PATIENCE} s")
    if done.returncode != 0:
        raise IdentifierError(f"virsh {' '.join(arguments)} failed ({reason(done)})")
    return done.stdout
