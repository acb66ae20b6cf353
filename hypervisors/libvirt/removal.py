"""Removes from libvirt what a cut-off update was making and the engine's state does not have."""

from collections.abc import Iterator, Mapping
from typing import Any

from hypervisors.libvirt.resources import DOMAIN, NETWORK, SEED, VOLUME
from hypervisors.libvirt.virsh import ask

REMOVALS: dict[str, tuple[tuple[str, ...], ...]] = {
    # The first command stops a domain or network and may fail; the last one frees the name.
    DOMAIN: (("destroy",), ("undefine", "--nvram")),
    NETWORK: (("net-destroy",), ("net-undefine",)),
    VOLUME: (("vol-delete", "--pool", "{pool}"),),
    SEED: (("vol-delete", "--pool", "{pool}"),),
}
"""Resource type to the virsh commands that remove such a resource from libvirt.

The resource's name goes between the first word of a command and its options.
"""

PATIENCE = 60
"""The time limit in seconds for an answer of libvirt."""


def remove(uri: str, pool: str, resource_type: str, inputs: Mapping[str, Any]) -> Iterator[str]:
    """Remove a half-made resource; yield a line for each virsh command that removed a part.

    ``pool`` is where a disk lies whose inputs name no pool. A resource of a type that libvirt does
    not have, or that has no name, is left alone.
    """
    name = inputs.get("name")
    if resource_type not in REMOVALS or not isinstance(name, str):
        return
    for verb, *options in REMOVALS[resource_type]:
        arguments = [option.format(pool=inputs.get("pool", pool)) for option in options]
        done = ask(uri, verb, name, *arguments, timeout=PATIENCE)
        if done is not None and done.returncode == 0:
            yield f"{name} was left half-made by an earlier update: {verb}"
