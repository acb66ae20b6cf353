"""The review of an unchanged cluster, made from its spec alone, for its picture."""

from ipaddress import IPv4Address

from preview.change import Verb
from preview.review import MachineReview, Review
from spec.cluster import Cluster


def still(spec: Cluster) -> Review:
    """The review of a cluster without changes; it needs no plan, no artifact and no state."""
    return Review(
        cluster=spec.name,
        kubernetes=(spec.kubernetes, spec.kubernetes),
        endpoint=spec.api_url,
        networks=(
            ("machines", ", ".join(map(str, spec.networks.machines))),
            ("pods", str(spec.networks.pods)),
            ("services", str(spec.networks.services)),
        ),
        machines=tuple(sorted((drawn(spec, name) for name in spec.machines), key=picture_order)),
    )


def picture_order(machine: MachineReview) -> tuple[bool, IPv4Address]:
    """The sort key of the picture: machines that are only nodes come last; then by address."""
    return machine.roles == ("node",), IPv4Address(machine.address)


def drawn(spec: Cluster, name: str) -> MachineReview:
    """The review of a machine without changes."""
    machine = spec.machines[name]
    roles = (
        ("etcd", spec.etcd_members),
        ("control-plane", spec.control_planes),
        ("node", spec.nodes),
    )
    return MachineReview(
        name=name,
        address=str(machine.address),
        roles=tuple(role for role, names in roles if name in names),
        verb=Verb.SAME,
        memory=machine.memory,
        cpus=machine.cpus,
        disk=machine.disk,
    )
