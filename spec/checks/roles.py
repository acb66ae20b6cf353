"""Checks the roles of machines: control planes, etcd members and nodes for pods."""

from collections.abc import Iterator

from spec.description import Description
from spec.machine import Role
from spec.refusal import Refusal, called, dotted, listed


def machine_has_a_role(spec: Description, name: str) -> Iterator[Refusal]:
    """A machine has at least one role."""
    if not spec.machines[name].roles:
        yield Refusal(
            dotted(("machines", name, "roles")),
            "is empty",
            "the machine would do nothing",
            "write [minion], or leave the machine out",
        )


def there_is_a_control_plane(spec: Description) -> Iterator[Refusal]:
    """There is at least one machine, and one of them is a control plane."""
    if not spec.machines:
        yield Refusal(
            "machines",
            "has no machine in it",
            "there would be no cluster",
            "write at least one, such as master: {address: 192.168.1.10, roles: ai}",
        )
    elif not spec.control_planes:
        name = min(spec.machines)
        yield Refusal(
            dotted(("machines", name, "roles")),
            "has no control-plane, and no other machine's has it",
            "nothing would serve the API",
            f"write roles: ai for {called(name)} or another machine",
        )


def there_is_a_place_for_pods(spec: Description) -> Iterator[Refusal]:
    """At least one minion accepts pods without tolerations."""
    minions = {n: m for n, m in spec.machines.items() if Role.MINION in m.roles}
    if spec.machines and not minions:
        name = min(spec.machines)
        yield Refusal(
            dotted(("machines", name, "roles")),
            "has no minion, and no other machine's has it",
            "there would be no place for pods",
            "write roles: ai for a control plane, or add a machine with roles: i",
        )
    elif minions and all(_is_closed(spec, name) for name in minions):
        name = min(minions)
        yield Refusal(
            dotted(("machines", name, "taints")),
            "keeps pods away, as the taints of all other minions do",
            "there would be no place for the cluster's own DNS",
            "write PreferNoSchedule, or leave one minion without taints",
        )


def _is_closed(spec: Description, name: str) -> bool:
    return any(taint.effect != "PreferNoSchedule" for taint in spec.machines[name].taints)


def etcd_has_a_majority(spec: Description) -> Iterator[Refusal]:
    """The number of etcd members is odd: one member more would tolerate no more failures."""
    members = spec.etcd_members
    if members and len(members) % 2 == 0:
        who = listed(map(called, members), "and")
        how = (
            "write etcd into the roles of an odd number of machines"
            if any(Role.ETCD in machine.roles for machine in spec.machines.values())
            else "write etcd into the roles of one or three machines, or change the number of "
            "control planes, which are etcd's members where no machine says so"
        )
        yield Refusal(
            dotted(("machines", members[-1], "roles")),
            f"makes {len(members)} etcd members, {who}",
            f"etcd would bear no more failures than with {len(members) - 1}",
            how,
        )


def several_control_planes_have_an_endpoint(spec: Description) -> Iterator[Refusal]:
    """Several control planes have an endpoint with a single address."""
    if len(spec.control_planes) > 1 and spec.endpoint is None:
        yield Refusal(
            "endpoint",
            f"is missing for the control planes {listed(map(called, spec.control_planes), 'and')}",
            "the API would be gone with the first of them",
            "write endpoint: {kind: virtual-ip, address: <a free address>}, or kind: balancer",
        )
