"""What a living cluster cannot take from one spec to the next.

Kubernetes goes up minor version by minor version and never down; kubelets may be up to three
minors older than the API servers and never newer (Kubernetes' version skew policy). etcd likewise;
3.6 reaches 3.7 from 3.6.11 on (etcd's CHANGELOG-3.7).
"""

from collections.abc import Callable, Iterator

from spec.cluster import Cluster
from spec.refusal import Refusal, dotted, listed
from spec.versions import catalogue

Version = tuple[int, ...]

OLDEST_KUBELET = 3
"""Minor versions that a kubelet may be older than the API servers."""

ETCD_BEFORE_3_7: Version = (3, 6, 11)

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
    "networks.machines": (
        lambda spec: spec.networks.machines,
        "machines would keep the network that they were given at their first boot",
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
"""Field to its value, and what would come of changing it."""


def refused_changes(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """A sentence for each change that a cluster which runs as ``before`` cannot take.

    Names the field, what would come of it and the way to do it instead; empty where all is well.
    """
    found = (
        *_fixed(before, after),
        *_addresses(before, after),
        *_kubernetes(before, after),
        *_etcd_version(before.versions.etcd, after.versions.etcd),
        *_members(before, after),
        *_control_planes(before, after),
    )
    return tuple(str(refusal) for refusal in found)


def refused_skew(api_server: str, kubelet: str) -> str | None:
    """A sentence where a kubelet's version does not go with the API servers' version."""
    behind = _minor(api_server) - _minor(kubelet)
    if 0 <= behind <= OLDEST_KUBELET:
        return None
    how = "newer than" if behind < 0 else f"{behind} minor versions older than"
    instead = (
        f"write at least {kubelet}"
        if behind < 0
        else f"upgrade the node to 1.{_minor(api_server) - OLDEST_KUBELET} or later first"
    )
    return str(
        Refusal(
            "kubernetes",
            f"{api_server} meets a kubelet {kubelet}, which is {how} the API servers",
            "the node's pods would not be looked after reliably",
            instead,
        )
    )


def _fixed(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    for field, (value, breaks) in FIXED.items():
        if value(before) != value(after):
            wrong = f"is {value(before)} and cannot become {value(after)} in a living cluster"
            yield Refusal(field, wrong, breaks, ANOTHER_CLUSTER)


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
    steps = _minor(new) - _minor(old)
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
            if _minor(versions.kubernetes) == _minor(old) + 1
        ]
        between = listed(on_the_way) if on_the_way else f"a version of 1.{_minor(old) + 1}"
        yield Refusal(
            "kubernetes",
            f"{new} is {steps} minor versions after the cluster's {old}",
            "components of versions that do not know each other would meet",
            f"write {between} first, and {new} once that runs",
        )


def _etcd_version(old: str, new: str) -> Iterator[Refusal]:
    before, after = _parts(old), _parts(new)
    if after[:2] < before[:2]:
        yield Refusal(
            "kubernetes",
            f"brings etcd {new}, which is older than the cluster's {old}",
            "members could not read their own data",
            "write a version with the same etcd or a later one",
        )
    elif after[:2] > (before[0], before[1] + 1):
        yield Refusal(
            "kubernetes",
            f"brings etcd {new}, which is more than one minor version after the cluster's {old}",
            "members of the two would not talk to each other",
            "write a version with the etcd in between first",
        )
    elif before[:2] == (3, 6) and after[:2] == (3, 7) and before < ETCD_BEFORE_3_7:
        yield Refusal(
            "kubernetes",
            f"brings etcd {new} to members at {old}",
            "etcd does not promise that they can work together before 3.6.11",
            "write a version with etcd 3.6.11 or later first",
        )


def _members(before: Cluster, after: Cluster) -> Iterator[Refusal]:
    """Membership changes by the smallest step between odd numbers, and keeps the data.

    One for another, two more or two less: the step that reconciles the membership takes them one
    at a time, and at no moment is the majority in members that have no data yet.
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
        told = [
            f"{word} {listed(sorted(names), 'and')}"
            for word, names in (("joining", joined), ("leaving", left))
            if names
        ]
        yield Refusal(
            field,
            f"changes too many of etcd's members at once ({listed(told, 'and')})",
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


def _parts(version: str) -> Version:
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def _minor(kubernetes: str) -> int:
    return _parts(kubernetes)[1]
