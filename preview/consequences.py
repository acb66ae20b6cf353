"""What a change disturbs: which services restart where and when, and who feels it."""

from collections.abc import Iterator, Mapping, Sequence

from preview.change import Verb
from preview.review import Consequence, Disturbance, MachineReview, Severity
from spec.cluster import Cluster

PHASES = ("ready", "artifacts", "identity", "runtime", "etcd", "control-plane", "node", "add-ons")
"""Steps in the order in which machines come to them."""

ONE_AT_A_TIME, BESIDE = "one machine at a time", "beside the others"

ETCD, API = "etcd.service", "kube-apiserver.service"

POD_RUNTIMES = {
    "docker.service": "its containers stop until it is back",
    "containerd.service": "running containers stay as they are",
}


def disturbances(
    machines: Sequence[MachineReview], shared: Mapping[str, frozenset[str]]
) -> Iterator[Disturbance]:
    """Restarts on machines that stay, phase by phase.

    ``shared`` has the services of each machine that wait for their turn.
    """
    for phase in PHASES:
        for machine in machines:
            for step in machine.steps:
                if step.name != phase or step.verb is not Verb.UPDATE or not step.restarts:
                    continue
                turns = [one for one in step.restarts if one in shared.get(machine.name, ())]
                rest = [one for one in step.restarts if one not in turns]
                for services, how in ((turns, ONE_AT_A_TIME), (rest, BESIDE)):
                    if services:
                        yield Disturbance(machine=machine.name, services=tuple(services), how=how)


def consequences(
    before: Cluster | None,
    machines: Sequence[MachineReview],
    disturbed: Sequence[Disturbance],
) -> Iterator[Consequence]:
    """What whoever uses the cluster should know, the worst first."""
    if before is None:
        return
    found = [
        *_members(before, machines),
        *_planes(before, machines),
        *_machines(before, machines),
        *_etcd(before, disturbed),
        *_api(before, disturbed),
        *_runtimes(disturbed),
    ]
    order = (Severity.DANGER, Severity.NOTICE, Severity.FINE)
    yield from sorted(found, key=lambda one: order.index(one.severity))


def _lost(machines: Sequence[MachineReview], among: Sequence[str]) -> list[str]:
    return [
        one.name
        for one in machines
        if one.name in among and one.verb in (Verb.REPLACE, Verb.DELETE)
    ]


def _members(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    members = before.etcd_members
    if not (lost := _lost(machines, members)):
        return
    left, quorum = len(members) - len(lost), len(members) // 2 + 1
    names = ", ".join(lost)
    if left == 0:
        sentence = f"etcd loses all that it holds: every member goes ({names})"
    elif left < quorum:
        sentence = (
            f"etcd loses its quorum: {left} of {len(members)} members stay and {quorum} are needed "
            f"(lost: {names})"
        )
    else:
        sentence = (
            f"etcd keeps its quorum with {left} of {len(members)} members, and does not know that "
            f"{names} begins with an empty disk"
        )
    yield Consequence(severity=Severity.DANGER, sentence=sentence)


def _planes(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    planes = before.control_planes
    lost = _lost(machines, planes)
    if lost and len(lost) == len(planes):
        yield Consequence(
            severity=Severity.DANGER,
            sentence="nobody answers at the API until a new control plane is up",
        )
    elif lost:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the API stays up on {', '.join(one for one in planes if one not in lost)}",
        )


def _machines(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    for verb, severity, said in (
        (Verb.REPLACE, Severity.DANGER, "made anew: what is on its disk is lost"),
        (Verb.DELETE, Severity.NOTICE, "drained and removed, with what is on its disk"),
    ):
        for one in machines:
            if one.verb is verb and one.name in before.machines:
                yield Consequence(severity=severity, sentence=f"{one.name} is {said}")


def _etcd(before: Cluster, disturbed: Sequence[Disturbance]) -> Iterator[Consequence]:
    if not (names := _restarting(disturbed, ETCD)):
        return
    if len(before.etcd_members) == 1:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence="etcd has one member, which restarts: nothing is written for some seconds",
        )
        return
    yield Consequence(
        severity=Severity.FINE,
        sentence=f"etcd keeps its quorum: {', '.join(names)} restart one at a time, each once all "
        "others are well",
    )


def _api(before: Cluster, disturbed: Sequence[Disturbance]) -> Iterator[Consequence]:
    if not (names := _restarting(disturbed, API)):
        return
    if len(before.control_planes) == 1:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the API is away while the only API server restarts (on {names[0]}); pods "
            "run on",
        )
        return
    yield Consequence(
        severity=Severity.FINE,
        sentence=f"the API stays up: the API servers of {', '.join(names)} restart one at a time",
    )


def _runtimes(disturbed: Sequence[Disturbance]) -> Iterator[Consequence]:
    for unit, said in POD_RUNTIMES.items():
        if names := _restarting(disturbed, unit):
            yield Consequence(
                severity=Severity.NOTICE,
                sentence=f"{unit.removesuffix('.service')} restarts on {', '.join(names)}: {said}",
            )


def _restarting(disturbed: Sequence[Disturbance], unit: str) -> list[str]:
    return list(dict.fromkeys(one.machine for one in disturbed if unit in one.services))
