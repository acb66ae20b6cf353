"""The restarts of services that a change causes, and its consequences for users of the cluster."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from certs.renewal import key_name, pair_name, signing_stages, stages, turned_over
from certs.signing import TRUSTED
from certs.table import Authority, authority_numbers
from hypervisors.adapters import data_types, restarting_types
from plan import flannel, layout
from plan.addons import defined
from plan.addons.catalogue import enabled
from preview.change import GONE, Verb
from preview.review import Consequence, Disturbance, MachineReview, ResourceLine, Severity
from preview.words import SEVERITY
from spec.cluster import Cluster
from spec.refusal import listed
from spec.versions import is_older

PHASES = ("ready", "identity", "runtime", "etcd", "control-plane", "node", "add-ons")
"""The names of steps in the order in which machines run them."""

ONE_AT_A_TIME, BESIDE = "one machine at a time", "beside the others"
ROLLING = "after their pods have moved"

UNITS = f"{layout.UNITS}/"

ETCD, API = "etcd.service", "kube-apiserver.service"

POD_RUNTIMES = {
    "docker.service": (Severity.NOTICE, "its containers stop until it is back"),
    "containerd.service": (Severity.NOTICE, "running containers stay as they are, without a drain"),
    "kubelet.service": (Severity.FINE, "pods run on, without a drain"),
}
"""What becomes of pods where such a service restarts as the same version."""


def disturbances(
    machines: Sequence[MachineReview], shared: Mapping[str, frozenset[str]]
) -> Iterator[Disturbance]:
    """Restarts of services by changed steps, phase by phase.

    ``shared`` maps a machine to those of its services that restart on one machine at a time.
    """
    for phase in PHASES:
        for machine in machines:
            for step in machine.steps:
                if step.name != phase or step.verb is not Verb.UPDATE or not step.restarts:
                    continue
                turns = [
                    service for service in step.restarts if service in shared.get(machine.name, ())
                ]
                rest = [service for service in step.restarts if service not in turns]
                alone = ROLLING if step.rolls else BESIDE
                for services, how in ((turns, ONE_AT_A_TIME), (rest, alone)):
                    if services:
                        yield Disturbance(machine=machine.name, services=tuple(services), how=how)


def consequences(
    before: Cluster | None,
    after: Cluster | None,
    machines: Sequence[MachineReview],
    disturbed: Sequence[Disturbance],
) -> Iterator[Consequence]:
    """What users of the cluster should know about a change, the most severe first."""
    if before is None:
        return
    unordered = [
        *_members(before, after or before, machines),
        *(_membership(before, after) if after else ()),
        *_planes(before, machines),
        *_machines(before, machines),
        *_leaving(machines),
        *_disks(before, machines),
        *_etcd(after or before, disturbed),
        *(_way_back(before, after) if after else ()),
        *(_encryption(before, after) if after else ()),
        *(_signing(before, after) if after else ()),
        *(_authorities(before, after) if after else ()),
        *(_ssh_keys(before, after) if after else ()),
        *_api(before, disturbed),
        *_rolling(after or before, machines),
        *_runtimes(disturbed),
        *_pod_network(machines),
        *(_add_ons(before, after) if after else ()),
        *(_kinds(before, after) if after else ()),
    ]
    for severity in SEVERITY:
        yield from (consequence for consequence in unordered if consequence.severity is severity)


def _membership(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A sentence about the members of etcd that come and go, in the order in which they do."""
    old, new = before.etcd_members, after.etcd_members
    joining = [name for name in new if name not in old]
    leaving = [name for name in old if name not in new]
    if not (joining or leaving):
        return
    parts = []
    if joining:
        come = "joins" if len(joining) == 1 else "join one at a time"
        parts.append(f"{listed(joining, 'and')} {come}, with all data before a vote")
    if leaving:
        go = "leaves" if len(leaving) == 1 else "leave one at a time"
        parts.append(
            f"{listed(leaving, 'and')} {go}, while all others are well, before a machine or data go"
        )
    yield Consequence(
        severity=Severity.NOTICE,
        sentence=f"etcd's members {listed(old, 'and')} become {listed(new, 'and')}: "
        f"{'; then '.join(parts)}",
    )


def _members(
    before: Cluster, after: Cluster, machines: Sequence[MachineReview]
) -> Iterator[Consequence]:
    """What etcd loses or lacks where machines of members that stay members are made anew."""
    members = before.etcd_members
    whole = set(members) <= {machine.name for machine in machines if machine.verb in GONE}
    going = [
        machine
        for machine in machines
        if machine.name in members and machine.verb in GONE
        if whole or machine.name in after.etcd_members
    ]
    lost = [machine.name for machine in going if _emptied(machine)]
    away = [machine.name for machine in going if not _emptied(machine)]
    if lost:
        yield Consequence(severity=Severity.DANGER, sentence=_bereft(members, lost))
    if (up := len(members) - len(going)) > len(members) // 2:
        sentence = f"etcd keeps its quorum with {up} of {len(members)} members until all are back"
    else:
        sentence = f"etcd takes no writes until it is back, with its disk, on {', '.join(away)}"
    if away:
        yield Consequence(severity=Severity.NOTICE, sentence=sentence)


def _bereft(members: Sequence[str], lost: Sequence[str]) -> str:
    """A sentence about what etcd loses with the disks of some members."""
    names, left, quorum = ", ".join(lost), len(members) - len(lost), len(members) // 2 + 1
    if not left:
        return f"etcd loses all that it holds: every member goes ({names})"
    if left < quorum:
        return (
            f"etcd loses its quorum: {left} of {len(members)} members stay and {quorum} are needed "
            f"(lost: {names})"
        )
    return (
        f"etcd keeps its quorum with {left} of {len(members)} members; what {names} had is lost, "
        "and the others make it anew"
    )


def _planes(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    planes = before.control_planes
    lost = [machine.name for machine in machines if machine.name in planes and machine.verb in GONE]
    if lost and len(lost) == len(planes):
        yield Consequence(
            severity=Severity.DANGER,
            sentence="nobody answers at the API until a new control plane is up",
        )
    elif lost:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence="the API stays up on "
            f"{', '.join(name for name in planes if name not in lost)}",
        )


def _machines(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    for machine in machines:
        if machine.name in before.machines and _restarted(machine):
            yield Consequence(
                severity=Severity.NOTICE,
                sentence=f"{machine.name} shuts down and starts again, and is away until it is up",
            )
        if machine.name not in before.machines or machine.verb not in GONE:
            continue
        if machine.verb is Verb.DELETE and not before.is_made(machine.name):
            severity, outcome = Severity.NOTICE, "drained and handed back as it was before"
        elif machine.verb is Verb.DELETE:
            severity, outcome = Severity.NOTICE, "drained and removed, with what is on its disk"
        elif _emptied(machine):
            severity, outcome = Severity.DANGER, "made anew: what is on its disk is lost"
        else:
            severity, outcome = Severity.NOTICE, "made anew with its disk, and away until it is up"
        yield Consequence(severity=severity, sentence=f"{machine.name} is {outcome}")


def _leaving(machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    """A notice for each step that leaves a machine which stays, as with a role."""
    for machine in machines:
        for step in machine.steps:
            if step.verb is not Verb.DELETE:
                continue
            units = [
                file.path.removeprefix(UNITS) for file in step.files if file.path.startswith(UNITS)
            ]
            yield Consequence(
                severity=Severity.NOTICE,
                sentence=f"{step.name} leaves {machine.name} once all else is done: "
                f"{', '.join(units)} end there, and their files and keys are removed",
            )


def _disks(before: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    for machine in machines:
        old = (
            before.machines[machine.name].disk if machine.name in before.machines else machine.disk
        )
        if machine.disk > old and machine.verb is not Verb.DELETE and not _emptied(machine):
            yield Consequence(
                severity=Severity.FINE,
                sentence=f"{machine.name}: disk {old} -> {machine.disk} GiB, grown in place with "
                "what is on it",
            )


def _emptied(machine: MachineReview) -> bool:
    """Whether what the cluster keeps on the machine is lost; a replaced one can keep its disk."""
    return machine.verb is Verb.DELETE or any(
        resource.verb in GONE and _is_of(resource, data_types()) for resource in machine.resources
    )


def _restarted(machine: MachineReview) -> bool:
    return any(
        resource.verb is Verb.UPDATE and _is_of(resource, restarting_types())
        for resource in machine.resources
    )


def _is_of(resource: ResourceLine, types: Iterable[str]) -> bool:
    return resource.kind in {kind.rpartition(":")[2] for kind in types}


def _etcd(spec: Cluster, disturbed: Sequence[Disturbance]) -> Iterator[Consequence]:
    if not (names := _restarting(disturbed, ETCD)):
        return
    if len(spec.etcd_members) == 1:
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


def _way_back(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice about the stages in which etcd goes back by a minor version."""
    old, new = before.versions.etcd, after.versions.etcd
    if is_older(new, old):
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"etcd goes back from {old} to {new}: while all members answer, they get to "
            f"keep their data in the format of {new}, and then restart with it one at a time; "
            f"backups of {old} cannot be restored with {new}",
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


def _encryption(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice about the stages in which the encryption key turns over."""
    old, new = (key_name(spec.key_numbers.encryption) for spec in (before, after))
    if old != new:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the encryption key turns over: {stages(old, new)}; for that "
            f"{_servers(before, after, 'three times')}",
        )


def _signing(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice about the stages in which the service accounts' key pair turns over."""
    old, new = (pair_name(spec.key_numbers.service_accounts) for spec in (before, after))
    if old != new:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the service accounts' key pair turns over: {signing_stages(old, new)}; for "
            f"that {_servers(before, after, 'twice')}; tokens of {old} are accepted until the "
            f"first update more than {TRUSTED // timedelta(hours=1)} hours later, for which API "
            "servers restart once more",
        )


def _authorities(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice about each authority that turns over, and what people should do."""
    old, new = authority_numbers(before), authority_numbers(after)
    for authority, numbers in new.items():
        if not (what := turned_over(old[authority], numbers)):
            continue
        rest = _for_people(old[authority], numbers) if authority is Authority.KUBERNETES else ()
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the authority {authority}: {'; '.join((what, *rest))}",
        )


def _ssh_keys(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice about the SSH key that turns over."""
    old, new = before.ssh_key_numbers, after.ssh_key_numbers
    parts = [
        *(f"all machines let number {number} in as well" for number in new if number not in old),
        *(f"all machines refuse number {number}" for number in old if number not in new),
    ]
    if old[0] != new[0]:
        parts.append(
            f"logins use number {new[0]} in place of {old[0]}, for which every step runs once more "
            "and restarts nothing"
        )
    if parts:
        yield Consequence(severity=Severity.NOTICE, sentence=f"the SSH key: {', and '.join(parts)}")


def _for_people(before: Sequence[int], after: Sequence[int]) -> Iterator[str]:
    """What another list of Kubernetes' authorities is for pods and for people."""
    joined, left = {*after} - {*before}, {*before} - {*after}
    if joined or left:
        yield "add-ons' pods start anew"
    for number in joined:
        yield f"your own pods that speak to the API should start anew before number {number} signs"
    for number in left:
        yield f"kubeconfigs with a certificate of number {number} are refused"
    if after[0] != before[0]:
        yield "people take a new kubeconfig (./hardway kubeconfig --merge)"


def _servers(before: Cluster, after: Cluster, often: str) -> str:
    """Which API servers restart, and how often each of them does."""
    planes = [name for name in after.control_planes if name in before.control_planes]
    if len(planes) == 1:
        return f"the API server of {planes[0]} restarts {often}"
    return f"the API servers of {listed(planes, 'and')} restart {often}, one machine at a time"


def _rolling(spec: Cluster, machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    """A notice about the nodes whose pods move before their programs become other ones."""
    names = [machine.name for machine in machines if any(step.rolls for step in machine.steps)]
    if not names:
        return
    if len(spec.nodes) == 1:
        sentence = f"{names[0]} is the only node: its pods stay while its programs are replaced"
    else:
        sentence = (
            f"{listed(names, 'and')} give their pods to other nodes, "
            f"{spec.rollout.at_once(len(spec.nodes))} at a time, and take pods again once they "
            "are Ready: pods move as PodDisruptionBudgets allow, and volumes of their own begin "
            "empty"
        )
    yield Consequence(severity=Severity.NOTICE, sentence=sentence)


def _runtimes(disturbed: Sequence[Disturbance]) -> Iterator[Consequence]:
    staying = [disturbance for disturbance in disturbed if disturbance.how != ROLLING]
    for unit, (severity, effect) in POD_RUNTIMES.items():
        if names := _restarting(staying, unit):
            yield Consequence(
                severity=severity,
                sentence=f"{unit.removesuffix('.service')} restarts on {', '.join(names)}: "
                f"{effect}",
            )


def _pod_network(machines: Sequence[MachineReview]) -> Iterator[Consequence]:
    """A notice where flannel's backend changes.

    Two nodes can exchange packets of pods only while flanneld has the same backend on both.
    """
    names = [
        machine.name
        for machine in machines
        for step in machine.steps
        for file in step.files
        if file.path == flannel.CONFIG
        and file.before
        and file.after
        and _backend(file.before) != _backend(file.after)
    ]
    if names:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence="pods of different nodes do not reach each other until flanneld has restarted "
            f"on all of {', '.join(names)}; pods keep their packet size until they are made anew",
        )


def _backend(network: str) -> object:
    """The backend in flannel's configuration: how packets travel from node to node."""
    return json.loads(network)["Backend"]


def _restarting(disturbed: Sequence[Disturbance], unit: str) -> list[str]:
    return list(
        dict.fromkeys(
            disturbance.machine for disturbance in disturbed if unit in disturbance.services
        )
    )


def _add_ons(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice for each add-on that is switched off, with what becomes of its data."""
    staying = enabled(after)
    for add_on in enabled(before):
        if add_on not in staying:
            data = f"; {add_on.data}" if add_on.data else ""
            yield Consequence(
                severity=Severity.NOTICE,
                sentence=f"the add-on {add_on.name} is switched off: its objects are removed{data}",
            )


def _kinds(before: Cluster, after: Cluster) -> Iterator[Consequence]:
    """A notice where the API forgets kinds of objects, since it deletes all objects of them."""
    gone = sorted(defined(before) - defined(after))
    if gone:
        yield Consequence(
            severity=Severity.NOTICE,
            sentence=f"the API forgets kinds of objects and deletes all objects of them, people's "
            f"as well: {listed(gone, 'and')}",
        )
