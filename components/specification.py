"""The resource that keeps the cluster's spec, so that an impossible change can be refused."""

from collections.abc import Iterable, Set
from ipaddress import IPv4Address
from typing import Any

import pulumi
from pulumi import dynamic

from certs.tracked import Checked
from hypervisors.adapters import kept_up
from hypervisors.upkeep import MachineSize
from plan.leaving import left_behind
from spec import resource_names
from spec.change import grown_disks, refused_changes, resized
from spec.cluster import Cluster
from spec.hypervisor import domain_name
from spec.kept import FOUNDERS, JOINING, LISTS, founders, joining, kept, read
from spec.network import VirtualIp


class SpecificationProvider(Checked):
    """Refuses an impossible change when the engine checks it, which it also does in a preview.

    The check also decides which members of etcd may begin the cluster. In its first spec these are
    all members. Members that come later join those that run, also where these do not answer at
    that moment: two new ones of three could else begin an empty cluster of their own.

    All machines depend on this resource, so its create and update can prepare them. They ensure
    that the disks of new machines do not exist yet, and that nobody on a bridge has their
    addresses. An update also grows disks, since a larger disk changes no resource of its machine,
    and shuts down machines that will be replaced with another size.
    """

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        old, new = read(olds), read(news)
        sentences = _refused(old, new, lists=LISTS in olds)
        if old and new:
            news = {
                **news,
                FOUNDERS: " ".join(founders(old, new, olds.get(FOUNDERS))),
                JOINING: " ".join(joining(old, new)),
            }
        # A failure names no property, since the engine would print the property's whole value
        # before the sentence.
        return dynamic.CheckResult(
            news, [dynamic.CheckFailure("", sentence) for sentence in sentences]
        )

    def diff(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        # A change of the hypervisor is no difference here, since the machines' own resources show
        # it. The engine keeps the new inputs anyway, for the next check.
        return dynamic.DiffResult(changes=olds.get("spec") != news["spec"])

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        if new := read(props):
            _refuse_taken(new, new.machines)
            _refuse_bridge(new, frozenset())
        return super().create(props)

    def update(self, id_: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.UpdateResult:
        old, new = read(olds), read(news)
        if old and new:
            _refuse_taken(new, new.machines.keys() - old.machines.keys())
            _refuse_bridge(new, _addresses(old))
        if new:
            sizes = grown_disks(old, new)
            for upkeep, names in kept_up(new, sizes):
                upkeep.grow({domain_name(new.name, name): sizes[name] for name in names})
            if old:
                _shut_down(new, resized(old, new))
        return super().update(id_, olds, news)


def _refuse_taken(spec: Cluster, machines: Iterable[str]) -> None:
    """Raise an exception where a hypervisor has one of these new machines' names already."""
    for upkeep, names in kept_up(spec, machines):
        upkeep.refuse_taken([domain_name(spec.name, name) for name in names])


def _refuse_bridge(spec: Cluster, own: Set[IPv4Address]) -> None:
    """Raise an exception where a host lacks the bridge or somebody on it has a new address.

    ``own`` are the addresses that the cluster has already. The virtual address is looked for where
    a control plane would have it.
    """
    if (bridge := spec.networks.bridge) is None or not (_addresses(spec) - own):
        return
    for upkeep, names in kept_up(spec, spec.machines):
        here = {spec.machines[name].address for name in names}
        if isinstance(spec.endpoint, VirtualIp) and not {*names}.isdisjoint(spec.control_planes):
            here.add(spec.endpoint.address)
        if new := here - own:
            upkeep.refuse_bridge(bridge, new)


def _addresses(spec: Cluster) -> frozenset[IPv4Address]:
    """The addresses of the cluster's machines and its virtual address."""
    virtual = {spec.endpoint.address} if isinstance(spec.endpoint, VirtualIp) else set()
    return frozenset({machine.address for machine in spec.machines.values()} | virtual)


def _shut_down(spec: Cluster, names: Set[str]) -> None:
    """Have these machines power themselves off.

    Members of etcd come last and one after the other, so that the leader can hand over to a member
    that stays up.
    """
    members = [name for name in spec.etcd_members if name in names]
    for turn in (sorted(names - set(members)), *([name] for name in members)):
        for upkeep, there in kept_up(spec, turn):
            sizes = {
                domain_name(spec.name, name): MachineSize(
                    spec.machines[name].memory, spec.machines[name].cpus
                )
                for name in there
            }
            upkeep.shut_down(sizes, lambda line: print(line, flush=True))


def _refused(old: Cluster | None, new: Cluster | None, *, lists: bool) -> tuple[str, ...]:
    """The sentences that refuse a change; none where the old spec is unreadable or the same."""
    if old is None or new is None or old == new:
        return ()
    # The check for leftovers comes only where the change itself is allowed: a change of the runtime
    # is refused for itself, and would also leave the old runtime behind.
    return refused_changes(old, new) or left_behind(old, new, lists=lists)


class Specification(dynamic.Resource, module="hardway", name="Specification"):
    """The spec of the running cluster.

    The machines and the other resources of the cluster depend on it, so they change only after its
    checks.
    """

    founders: pulumi.Output[str | None]
    """As ``spec.kept.FOUNDERS``; None where an older program wrote the state and the spec has not
    changed since."""
    founding: pulumi.Output[tuple[str, ...]]
    """The members of etcd that may begin the cluster."""
    joining: pulumi.Output[str | None]
    """As ``spec.kept.JOINING``, of the last change of the spec; None where an older program wrote
    the state."""

    def __init__(self, spec: Cluster, opts: pulumi.ResourceOptions) -> None:
        super().__init__(SpecificationProvider(), resource_names.SPECIFICATION, kept(spec), opts)
        self.founding = self.founders.apply(
            lambda names: spec.etcd_members if names is None else tuple(names.split())
        )

    def unless_joining(self, member: str, step: pulumi.Resource) -> pulumi.Output[pulumi.Resource]:
        """The step of a member of etcd, or this resource where the member only joins the others."""
        return self.joining.apply(lambda names: self if member in (names or "").split() else step)
