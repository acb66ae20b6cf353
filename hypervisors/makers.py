"""Chooses the hypervisor that makes each machine of a cluster, from the spec alone."""

from collections.abc import Callable
from typing import Any

import pulumi

from hypervisors.existing.machines import ExistingMachines
from hypervisors.libvirt.machines import LibvirtHypervisor
from hypervisors.port import Hypervisor
from hypervisors.virtualbox.machines import VirtualBoxHypervisor
from spec.cluster import Cluster, SpecError
from spec.hypervisor import Hypervisor as HypervisorSpec

MAKERS: dict[str, Callable[[Any, pulumi.Resource, str], Hypervisor]] = {
    "libvirt": LibvirtHypervisor,
    "virtualbox": VirtualBoxHypervisor,
    "existing": ExistingMachines,
}
"""Makes a hypervisor from its model in the spec, its parent resource and a label, by the ``kind``.

The label tells its resources from those of other places; the cluster's own hypervisor has none.
Where two machines have equal models, they share a hypervisor and its provider.
"""


def makers(spec: Cluster, parent: pulumi.Resource) -> dict[str, Hypervisor]:
    """The hypervisor of each machine. Raises SpecError where a machine has none."""
    made: list[tuple[HypervisorSpec, Hypervisor]] = []
    chosen: dict[str, Hypervisor] = {}
    for name in spec.machines:
        where = spec.hypervisor_of(name)
        if where is None:
            raise SpecError(
                "hypervisor is not given and no lab offers one: run this through ./hardway, "
                "or write hypervisor.uri and hypervisor.image into hardway:cluster"
            )
        if where.wants_image:
            raise SpecError(
                "hypervisor.image is not given and no lab offers one: run this through ./hardway, "
                "or write the image of your own"
            )
        known = next((hypervisor for model, hypervisor in made if model == where), None)
        if known is None:
            known = MAKERS[where.kind](where, parent, spec.label_of(name))
            made.append((where, known))
        chosen[name] = known
    return chosen
