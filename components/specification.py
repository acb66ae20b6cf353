"""What the cluster is described as, kept so that a change that it cannot take is refused."""

from collections.abc import Iterable, Set
from typing import Any

import pulumi
from pulumi import dynamic

from certs.tracked import Checked
from hypervisors.growth import grow, refuse_taken
from hypervisors.shutdown import MachineSize, shut_down
from plan.leaving import left_behind
from spec import resource_names
from spec.change import grown_disks, refused_changes, resized
from spec.cluster import Cluster
from spec.hypervisor import Libvirt, domain_name
from spec.kept import kept, read


class SpecificationProvider(Checked):
    """Refuses a change when the engine checks it, which it does in a preview as well.

    It comes before all machines. So it also grows their disks, since nothing else of a machine has
    to, shuts down those that will be made anew with another size, and sees that the disks of new
    machines are not there yet.
    """

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        sentences = _refused(read(olds), read(news))
        # Of no property: the engine would print its whole value before the sentence.
        return dynamic.CheckResult(news, [dynamic.CheckFailure("", one) for one in sentences])

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        # Where machines run is shown by their own resources. The engine keeps the inputs all the
        # same, for the next check.
        return dynamic.DiffResult(changes=olds.get("spec") != news["spec"])

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        if new := read(props):
            _refuse_taken(new, new.machines)
        return super().create(props)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        old, new = read(olds), read(news)
        if old and new:
            _refuse_taken(new, new.machines.keys() - old.machines.keys())
        if new and isinstance(new.hypervisor, Libvirt):
            sizes = grown_disks(old, new)
            grow(new.hypervisor, {domain_name(new.name, one): sizes[one] for one in sizes})
            if old:
                _shut_down(new.hypervisor, new, resized(old, new))
        return super().update(id_, olds, news)


def _refuse_taken(spec: Cluster, machines: Iterable[str]) -> None:
    """Raise DiskError where one of these machines, which are to be made, has a disk already."""
    if isinstance(spec.hypervisor, Libvirt):
        refuse_taken(spec.hypervisor, [domain_name(spec.name, name) for name in machines])


def _shut_down(where: Libvirt, spec: Cluster, names: Set[str]) -> None:
    """Have these machines power themselves off.

    Members of etcd come last, one after the other: who leads hands over to one that stays up.
    """
    members = [name for name in spec.etcd_members if name in names]
    for turn in (sorted(names - set(members)), *([name] for name in members)):
        sizes = {
            domain_name(spec.name, name): MachineSize(
                spec.machines[name].memory, spec.machines[name].cpus
            )
            for name in turn
        }
        if sizes:
            shut_down(where, sizes, lambda line: print(line, flush=True))


def _refused(old: Cluster | None, new: Cluster | None) -> tuple[str, ...]:
    """Nothing where the older program allowed what this one refuses."""
    if old is None or new is None or old == new:
        return ()
    # What is left behind is told where it is not the same mistake: another runtime leaves the old.
    return (*refused_changes(old, new), *_members(old, new)) or left_behind(old, new)


def _members(old: Cluster, new: Cluster) -> tuple[str, ...]:
    """Nothing here brings a member into a living etcd yet, or takes one out of it."""
    if old.etcd_members == new.etcd_members:
        return ()
    sentence = (
        f"machines: etcd's members are {', '.join(old.etcd_members)} and cannot become "
        f"{', '.join(new.etcd_members)} in a living cluster yet, since etcd itself would not know "
        "of it; write them as they were"
    )
    return (sentence,)


class Specification(dynamic.Resource, module="hardway", name="Specification"):
    """The spec of the running cluster: whatever comes after it is only touched if it may change."""

    def __init__(self, spec: Cluster, opts: pulumi.ResourceOptions) -> None:
        super().__init__(SpecificationProvider(), resource_names.SPECIFICATION, kept(spec), opts)
