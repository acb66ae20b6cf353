"""The adapters of hypervisors by their kind, as far as they need no engine.

``makers.py`` has the other half, which declares resources. A new kind of hypervisor is a folder
beside ``libvirt``, an entry here, and an entry there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hypervisors.existing.resources import RESOURCE_TYPES as EXISTING_RESOURCES
from hypervisors.existing.upkeep import ExistingUpkeep
from hypervisors.libvirt.resources import RESOURCE_TYPES as LIBVIRT_RESOURCES
from hypervisors.libvirt.upkeep import LibvirtUpkeep
from hypervisors.upkeep import ResourceTypes, Upkeep
from hypervisors.virtualbox.resources import RESOURCE_TYPES as VIRTUALBOX_RESOURCES
from hypervisors.virtualbox.upkeep import VirtualBoxUpkeep
from spec.cluster import Cluster
from spec.hypervisor import Hypervisor


@dataclass(frozen=True)
class Adapter:
    """A kind of hypervisor."""

    resources: ResourceTypes
    upkeep: Callable[[Any], Upkeep]
    """Makes the upkeep of a hypervisor from its model in the spec."""


ADAPTERS: dict[str, Adapter] = {
    "libvirt": Adapter(LIBVIRT_RESOURCES, LibvirtUpkeep),
    "virtualbox": Adapter(VIRTUALBOX_RESOURCES, VirtualBoxUpkeep),
    "existing": Adapter(EXISTING_RESOURCES, ExistingUpkeep),
}
"""The adapters by the ``kind`` of their models in ``spec.hypervisor``."""


def is_machine(resource_type: str) -> bool:
    """Whether resources of this type are machines."""
    return any(adapter.resources.machine == resource_type for adapter in ADAPTERS.values())


def holds_data(resource_type: str) -> bool:
    """Whether the deletion of a resource of this type loses a machine's data."""
    return resource_type in data_types()


def data_types() -> tuple[str, ...]:
    """The types of the resources that hold machines' data: disks, or machines with their disks."""
    return tuple(adapter.resources.data for adapter in ADAPTERS.values())


def restarting_types() -> tuple[str, ...]:
    """The types of machines that an update shuts down and starts again."""
    every = (adapter.resources for adapter in ADAPTERS.values())
    return tuple(types.machine for types in every if types.restarts)


def replaced_for(resource_type: str) -> frozenset[str]:
    """The inputs whose change replaces a resource of this type; none for an unknown type."""
    return frozenset().union(
        *(adapter.resources.replaced_for.get(resource_type, ()) for adapter in ADAPTERS.values())
    )


def is_made(resource_type: str) -> bool:
    """Whether a hypervisor makes the resources of this type."""
    return any(resource_type in adapter.resources.replaced_for for adapter in ADAPTERS.values())


def completed(resource_type: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a resource with what its provider adds to them."""
    whole = dict(inputs)
    for adapter in ADAPTERS.values():
        for name, default in adapter.resources.defaults.get(resource_type, {}).items():
            if isinstance(default, Mapping):
                whole[name] = [{**default, **item} for item in whole.get(name, ())]
            else:
                whole.setdefault(name, default)
    return whole


def kept_up(spec: Cluster, names: Iterable[str]) -> list[tuple[Upkeep, list[str]]]:
    """The upkeep of each hypervisor, with those of these machines that it makes.

    A machine without a known hypervisor is in no list.
    """
    groups: list[tuple[Hypervisor, list[str]]] = []
    for name in names:
        where = spec.hypervisor_of(name)
        if where is None or where.kind not in ADAPTERS:
            continue
        for known, members in groups:
            if known == where:
                members.append(name)
                break
        else:
            groups.append((where, [name]))
    return [(ADAPTERS[where.kind].upkeep(where), members) for where, members in groups]
