"""A cluster that nothing happens to, from what a person wrote alone: for its picture."""

from preview.change import Verb
from preview.review import MachineReview, Review
from spec.cluster import Cluster


def still(spec: Cluster) -> Review:
    """The review of a cluster that is as it shall be; no plan, no artifact and no state is read."""
    return Review(
        cluster=spec.name,
        kubernetes=(spec.kubernetes, spec.kubernetes),
        endpoint=spec.api_url,
        networks=(
            ("machines", str(spec.networks.machines)),
            ("pods", str(spec.networks.pods)),
            ("services", str(spec.networks.services)),
        ),
        machines=tuple(drawn(spec, name) for name in in_order(spec)),
    )


def in_order(spec: Cluster) -> list[str]:
    """Names of machines as a cluster is drawn: members and control planes first, by address."""
    first = {*spec.etcd_members, *spec.control_planes}
    return sorted(spec.machines, key=lambda name: (name not in first, spec.machines[name].address))


def drawn(spec: Cluster, name: str) -> MachineReview:
    """A machine to which nothing happens."""
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
