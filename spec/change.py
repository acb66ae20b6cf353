"""Refuses changes from one spec to the next that a living cluster cannot take.

Kubernetes can be upgraded by one minor version at a time and never downgraded. Kubelets may be up
to three minor versions older than the API servers and never newer (Kubernetes' version skew
policy). etcd is upgraded in the same steps, and an upgrade from 3.6 to 3.7 needs 3.6.11 or later
(etcd's CHANGELOG-3.7); it also goes back by one minor version at a time.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from urllib.parse import parse_qs, urlsplit

from spec.cluster import Cluster
from spec.description import FIRST, AuthorityNumbers
from spec.hypervisor import Hypervisor, Libvirt
from spec.refusal import Refusal, dotted, listed
from spec.versions import catalogue, is_older, minor_of, parsed

ETCD_BEFORE_3_7 = (3, 6, 11)

ANOTHER_CLUSTER = "write it as it was, or make another cluster with it and move over"

FIXED: dict[str, tuple[Callable[[Cluster], object], str]] = {
    "name": (
        lambda spec: spec.name,
        "every machine would be replaced, and what etcd holds with it",
    ),
    "architecture": (
        lambda spec: spec.architecture,
        "no program on the machines' disks would run",
    ),
    "dns_domain": (
        lambda spec: spec.dns_domain,
        "running pods would go on asking for names that nobody serves",
    ),
    "networks.routed": (
        lambda spec: bool(spec.networks.routed),
        "the machines' network would be made anew under them",
    ),
    "networks.bridge": (
        lambda spec: spec.networks.bridge,
        "the machines would leave the network that they were made in",
    ),
    "networks.gateway": (
        lambda spec: spec.networks.gateway,
        "machines would keep the router that they were given at their first boot",
    ),
    "networks.pods": (
        lambda spec: spec.networks.pods,
        "running pods would have addresses that nobody routes",
    ),
    "networks.pods_per_node": (
        lambda spec: spec.networks.pods_per_node,
        "nodes would keep parts of another size, which would overlap new ones",
    ),
    "networks.services": (
        lambda spec: spec.networks.services,
        "existing Services would keep addresses that nobody serves",
    ),
    "runtime": (
        lambda spec: spec.runtime,
        "the old runtime's containers would run on beside their successors",
    ),
    "flannel.store": (
        lambda spec: spec.flannel.store,
        "nodes would lose the parts of networks.pods that their pods live in",
    ),
}
"""The fields that cannot change, each with a function for its value and the effect of a change."""


def refused_changes(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """A sentence for each change that a cluster in the state ``before`` cannot take.

    It names the field, the effect of the change and what to do instead. Empty where the change is
    allowed.
    """
    refusals = (
        *_fixed(before, after),
        *_subnets(before, after),
        *_addresses(before, after),
        *_kubernetes(before, after),
        *_etcd_version(before, after),
        *_generation(before, after),
        *_members(before, after),
        *_keys(before, after),
        *_authorities(before, after),
        *refused_ssh_keys(before.ssh_key_numbers, after),
        *_control_planes(before, after),
        *_disks(before, after),
        *_places(before, after),
    )
    down = made_anew(before, after)
    every = _settings_changed(before.hypervisor, after.hypervisor)
    quorum = () if every else quorum_lost(before, after, down)
    return (*(str(refusal) for refusal in refusals), *quorum)


def made_anew(before: Cluster, after: Cluster) -> frozenset[str]:
    """The machines that stay but are replaced and keep their disks.

    These are machines with another size, or with another setting in ``MADE_WITH``.
    """
    return resized(before, after) | frozenset(
        name
        for name in _staying(before, after)
        if _settings_changed(before.hypervisor_of(name), after.hypervisor_of(name))
    )


def resized(before: Cluster, after: Cluster) -> frozenset[str]:
    """The machines that stay and get another size for which they are away for a while.

    That is another amount of memory or processors, or a disk that does not grow while they run.
    """
    every = _staying(before, after)
    return frozenset(name for name in every if _size(before, name) != _size(after, name))


def _staying(before: Cluster, after: Cluster) -> frozenset[str]:
    """The machines in both specs that are made by this program in both."""
    return frozenset(
        name
        for name in before.machines.keys() & after.machines.keys()
        if before.is_made(name) and after.is_made(name)
    )


def grown_disks(before: Cluster | None, after: Cluster) -> dict[str, int]:
    """The machines that stay and get a larger disk, with its size in GiB.

    Where ``before`` is unknown, these are all machines that this program makes.
    """
    old = before.machines if before else after.machines
    return {
        name: machine.disk
        for name, machine in after.machines.items()
        if after.is_made(name) and name in old
        if before is None or machine.disk > old[name].disk
    }


def quorum_lost(before: Cluster, after: Cluster, down: Set[str]) -> tuple[str, ...]:
    """A sentence where too few etcd members with all data stay up while the machines are ``down``.

    A majority of the old members and a majority of the new members must be up. A single member is
    exempt, since it has no majority to lose: the API is unavailable while its machine is replaced,
    and available again with the same disk.
    """
    members, others = set(before.etcd_members), set(after.etcd_members)
    kept = members & others
    away = sorted(kept & down)
    if not away or (members == others == set(away) and len(members) == 1):
        return ()
    for named, up in ((members, members.difference(away)), (others, kept.difference(away))):
        if len(up) <= len(named) // 2:
            first, *more = away
            beside = f" at once with {listed(more, 'and')}" if more else ""
            refusal = Refusal(
                dotted(("machines", first)),
                f"would be made anew{beside}",
                f"etcd would lose its quorum: of {len(named)} members only {len(up)} would be left "
                "with all data",
                "write the change of one member's machine at a time, and of the membership before "
                "or after",
            )
            return (str(refusal),)
    return ()


def _fixed(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    for field, (value, breaks) in FIXED.items():
        if value(before) != value(after):
            wrong = f"is {value(before)} and cannot become {value(after)} in a living cluster"
            yield Refusal(field, wrong, breaks, ANOTHER_CLUSTER)


def _subnets(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """The first subnet stays, and so does the subnet of each machine that stays.

    The network of the first one has the cluster's name on its hypervisor.
    """
    old, new = before.networks, after.networks
    staying = before.machines.keys() & after.machines.keys()
    homes = [before.machines[name].address for name in staying]
    if old.machines[0] != new.machines[0] or any(
        old.subnet_of(address) != new.subnet_of(address) for address in homes
    ):
        was, becomes = listed(old.machines, "and"), listed(new.machines, "and")
        yield Refusal(
            "networks.machines",
            f"is {was} and cannot become {becomes} in a living cluster",
            "machines would keep the network that they were given at their first boot",
            "write it as it was, with other subnets behind it, or make another cluster with it and "
            "move over",
        )


def _addresses(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    for name in sorted(before.machines.keys() & after.machines.keys()):
        old, new = before.machines[name].address, after.machines[name].address
        if old != new:
            yield Refusal(
                dotted(("machines", name, "address")),
                f"is {old} and cannot become {new}",
                "the machine would keep the one it was given at its first boot",
                "write the new address under another name, and leave this machine out",
            )


def _kubernetes(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    old, new = before.versions.kubernetes, after.versions.kubernetes
    steps = minor_of(new) - minor_of(old)
    if steps < 0:
        yield Refusal(
            "kubernetes",
            f"{new} is an older minor version than the cluster's {old}",
            "API servers could not read what the newer ones stored",
            f"write {old} or later",
        )
    elif steps > 1:
        on_the_way = [
            versions.kubernetes
            for versions in catalogue()
            if minor_of(versions.kubernetes) == minor_of(old) + 1
        ]
        between = listed(on_the_way) if on_the_way else f"a version of 1.{minor_of(old) + 1}"
        yield Refusal(
            "kubernetes",
            f"{new} is {steps} minor versions after the cluster's {old}",
            "components of versions that do not know each other would meet",
            f"write {between} first, and {new} once that runs",
        )


def _etcd_version(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """Etcd goes up or back by one minor version at a time, and back only with the same members."""
    old, new = before.versions.etcd, after.versions.etcd
    field, brings = ("etcd.version", "is") if after.etcd.version else ("kubernetes", "brings etcd")
    was, becomes = parsed(old), parsed(new)
    if becomes[:2] > (was[0], was[1] + 1):
        yield Refusal(
            field,
            f"{brings} {new}, which is more than one minor version after the cluster's {old}",
            "members of the two would not talk to each other",
            "write a version with the etcd in between first",
        )
    elif was[:2] == (3, 6) and becomes[:2] == (3, 7) and was < ETCD_BEFORE_3_7:
        yield Refusal(
            field,
            f"{brings} {new}, and members are at {old}",
            "etcd does not promise that they can work together before 3.6.11",
            "write a version with etcd 3.6.11 or later first",
        )
    elif becomes[:2] < (was[0], was[1] - 1):
        yield Refusal(
            field,
            f"{brings} {new}, which is more than one minor version before the cluster's {old}",
            "members could not read their own data",
            "write the etcd in between first",
        )
    elif is_older(new, old) and set(before.etcd_members) != set(after.etcd_members):
        yield Refusal(
            field,
            f"{brings} {new}, which is older than the cluster's {old}, while etcd's members change",
            "members that join could not read what the others have",
            "write one of the two changes, and the next once that runs",
        )


def _generation(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """A generation never goes back, and it begins with the members that the cluster has."""
    old, new = before.etcd.generation, after.etcd.generation
    if new < old:
        yield Refusal(
            "etcd.generation",
            f"is {old} and cannot become {new}",
            "a member that was left out of a restore would be let in again, with what it held",
            f"write {old} or more",
        )
    elif new > old and set(before.etcd_members) != set(after.etcd_members):
        yield Refusal(
            "etcd.generation",
            f"is {old} and cannot become {new} while etcd's members change",
            "new members could begin a cluster of their own and not join those that run",
            "write it first, and the members once it is applied",
        )


TURNING = {
    "encryption": "could read no Secret any more",
    "service_accounts": "would refuse the tokens that all others sign",
}
"""A key that turns over, by its field, and the harm to an API server that takes no part."""


def _keys(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """Keys turn over among control planes that stay."""
    leaving = sorted(set(before.control_planes) - set(after.control_planes))
    for field, harm in TURNING.items():
        old, new = (getattr(spec.key_numbers, field) for spec in (before, after))
        if old != new and leaving:
            yield Refusal(
                f"keys.{field}",
                f"is {old} and cannot become {new} while {listed(leaving, 'and')} "
                f"{'leaves' if len(leaving) == 1 else 'leave'} the control planes",
                f"an API server that runs until the end of the update {harm}",
                f"write {old}, and another number once the control planes have changed",
            )


def _authorities(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """An authority signs only where all trust it, and leaves only where another one signs."""
    refusals = [*refused_numbers(before.authority_numbers, after.authority_numbers)]
    yield from refusals
    if refusals or after.authorities is not None:
        return
    for field, old in before.authority_numbers:
        if old != FIRST:
            yield Refusal(
                f"authorities.{field}",
                f"is {[*old]} and cannot be left out at once",
                "nobody would see to it that programs behind the API forget the other one",
                f"write {[*FIRST]}, and leave it out once an update has ended with it",
            )


def refused_numbers(before: AuthorityNumbers, after: AuthorityNumbers) -> Iterator[Refusal]:
    """Those changes of authorities' numbers that no single update can make.

    ``before`` should be the numbers of an update that has ended.
    """
    for field, old in before:
        new = getattr(after, field)
        if new[0] in old and old[0] in new:
            continue
        if new[0] not in old:
            breaks = f"machines would refuse what number {new[0]} signs until they are told of it"
            instead = [old[0], new[0]]
        else:
            breaks = f"machines would refuse what number {old[0]} signed, which all use"
            instead = [new[0], old[0]]
        yield Refusal(
            f"authorities.{field}",
            f"is {[*old]} and cannot become {[*new]} at once",
            breaks,
            f"write {instead} first, and go on once an update has ended with it",
        )


def refused_ssh_keys(before: Sequence[int], spec: Cluster) -> Iterator[Refusal]:
    """The change of the SSH keys' numbers, where no single update can make it.

    A key logs in only where all machines let it in, and is refused only where another one logs in.
    ``before`` should be the numbers of an update that has ended.
    """
    newest, after = max(before), spec.ssh_key_numbers
    joining = [number for number in after if number not in before]
    wrong = f"is {[*before]} and cannot become {[*after]} at once"
    if joining and min(joining) < newest:
        yield Refusal(
            "ssh_keys",
            f"is {[*before]} and cannot become {[*after]}",
            f"a key that was left out for good, such as number {min(joining)}, would be let in "
            "again",
            f"write {[*before]}, which the cluster has"
            if spec.ssh_keys is None
            else f"write {[before[0], newest + 1]}, with a new key",
        )
    elif after[0] not in before:
        yield Refusal(
            "ssh_keys",
            wrong,
            f"no machine would let number {after[0]} in, which is to log in",
            f"write {[before[0], after[0]]} first, and go on once an update has ended with it",
        )
    elif before[0] not in after:
        yield Refusal(
            "ssh_keys",
            wrong,
            f"machines would refuse number {before[0]}, which logs in until then",
            f"write {[after[0], before[0]]} first, and go on once an update has ended with it",
        )
    elif spec.ssh_keys is None and tuple(before) != FIRST:
        yield Refusal(
            "ssh_keys",
            f"is {[*before]} and cannot be left out at once",
            "no step would see to it that machines refuse the other key",
            f"write {[*FIRST]}, and leave it out once an update has ended with it",
        )


def _members(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """The membership may change only by the smallest step between odd numbers, to keep the data.

    Such a step is one member for another, two more members or two fewer. Members change one at a
    time, so at no moment do members without data form the majority.
    """
    old, new = set(before.etcd_members), set(after.etcd_members)
    left, joined = old - new, new - old
    if not (left or joined):
        return
    field = dotted(("machines", min(joined or left), "roles"))
    if not old & new:
        yield Refusal(
            field,
            f"would leave none of etcd's members {listed(sorted(old), 'and')}",
            "everything that the cluster knows would be lost",
            "write the new members beside an old one first, and leave that out once they run",
        )
    elif len(left) + len(joined) > 2:
        moves = [
            f"{word} {listed(sorted(names), 'and')}"
            for word, names in (("joining", joined), ("leaving", left))
            if names
        ]
        yield Refusal(
            field,
            f"changes too many of etcd's members at once ({listed(moves, 'and')})",
            "a majority with all data could be missing half way",
            "write one for another, two more or two less, and the rest once that runs",
        )


def _control_planes(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    old, new = set(before.control_planes), set(after.control_planes)
    if not old & new:
        yield Refusal(
            dotted(("machines", min(new), "roles")),
            f"would leave none of the control planes {listed(sorted(old), 'and')}",
            "nobody would serve the API while the new ones start",
            "write the new ones beside an old one first, and leave that out once they run",
        )


def _disks(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """A disk may grow, in place, but not shrink, since that would cut off the end of its data."""
    for name in sorted(before.machines.keys() & after.machines.keys()):
        old, new = before.machines[name].disk, after.machines[name].disk
        if new < old and before.is_made(name) and after.is_made(name):
            yield Refusal(
                dotted(("machines", name, "disk")),
                f"is {old} GiB and cannot become {new}",
                "the end of its file system would be cut off",
                f"write {old} or more, or write a machine of another name with the smaller disk "
                "and leave this one out",
            )


def _places(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """Machines must stay on the same kind of hypervisor, in the same libvirt and the same pool.

    Where etcd has several members, the settings in ``MADE_WITH`` must stay as well, since a change
    replaces the machines of all members at once.
    """
    old, new = before.hypervisor, after.hypervisor
    if old and new and old.kind != new.kind:
        yield Refusal(
            "hypervisor.kind",
            f"is {old.kind} and cannot become {new.kind}",
            "every machine would be another one, and what etcd holds lost",
            ANOTHER_CLUSTER,
        )
    yield from _own_places(before, after)
    if not (isinstance(old, Libvirt) and isinstance(new, Libvirt)):
        return
    if _libvirt(old) != _libvirt(new):
        yield Refusal(
            "hypervisor.uri",
            f"is {old.uri} and cannot become {new.uri}",
            "the machines would be looked for where they are not",
            ANOTHER_CLUSTER,
        )
    if old.pool != new.pool:
        yield Refusal(
            "hypervisor.pool",
            f"is {old.pool} and cannot become {new.pool}",
            "every machine's disk would be made anew, and what etcd holds lost",
            ANOTHER_CLUSTER,
        )
    if len(set(before.etcd_members) & set(after.etcd_members)) > 1:
        for field in _settings_changed(old, new):
            yield Refusal(
                f"hypervisor.{field}",
                f"is {getattr(old, field)} and cannot become {getattr(new, field)} while etcd has "
                "several members",
                "all their machines would be made anew at once and etcd would lose its quorum",
                "write it as it was",
            )


def _own_places(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """A machine that has, or gets, a hypervisor of its own stays where it is."""
    for name in sorted(before.machines.keys() & after.machines.keys()):
        if not (before.machines[name].hypervisor or after.machines[name].hypervisor):
            continue
        old, new = before.hypervisor_of(name), after.hypervisor_of(name)
        if old and new and (old.site, _pool(old)) != (new.site, _pool(new)):
            yield Refusal(
                dotted(("machines", name, "hypervisor")),
                f"is {_place(old)} and cannot become {_place(new)}",
                "it would be another machine of the same name",
                "write it as it was, or a machine of another name and leave this one out",
            )


def _pool(where: Hypervisor) -> str:
    return where.pool if isinstance(where, Libvirt) else ""


def _place(where: Hypervisor) -> str:
    return f"the pool {where.pool} of {where.uri}" if isinstance(where, Libvirt) else where.kind


MADE_WITH = ("domain_type", "disk_cache", "console_logs")
"""Settings of a libvirt hypervisor whose change replaces each machine, which keeps its disk
(hypervisors/libvirt/machines.py). A change of the kernel or image affects only new machines."""


def _settings_changed(old: Hypervisor | None, new: Hypervisor | None) -> tuple[str, ...]:
    if not (isinstance(old, Libvirt) and isinstance(new, Libvirt)):
        return ()
    return tuple(field for field in MADE_WITH if getattr(old, field) != getattr(new, field))


def _size(spec: Cluster, name: str) -> tuple[int, int, int]:
    machine, where = spec.machines[name], spec.hypervisor_of(name)
    disk = 0 if where is None or where.grows_running else machine.disk
    return machine.cpus, machine.memory, disk


def _libvirt(where: Libvirt) -> tuple[str, str, str, list[str]]:
    """Identifies the libvirt of a URI, whatever its transport (libvirt's "Connection URIs")."""
    parts = urlsplit(where.uri)
    driver = parts.scheme.partition("+")[0]
    return driver, parts.hostname or "", parts.path, parse_qs(parts.query).get("socket", [])
