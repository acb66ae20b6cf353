"""Makes a ``Review`` from the changes of all resources."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from certs.renewal import ENCRYPTION, SERVICE_ACCOUNT
from certs.table import Authority, authority_numbers
from hypervisors.adapters import is_machine
from hypervisors.existing.resources import MACHINE as EXISTING
from plan import layout
from preview.change import GONE, ResourceChange, Verb
from preview.comparing import differing
from preview.consequences import consequences, disturbances
from preview.kinds import (
    AUTHORITIES,
    CERTIFICATES,
    CLUSTER,
    GUARD,
    LOGIN,
    OBJECTS,
    READY,
    clusters,
    has_scripts,
    is_step,
)
from preview.registration import hidden, is_secret
from preview.review import (
    CertificateChange,
    Finding,
    LineChange,
    MachineReview,
    ResourceLine,
    Review,
    StepChange,
)
from preview.steps import Carried, carried, changed_lines, stepped
from preview.still import drawn, picture_order
from spec.artifacts import artifact_row
from spec.cluster import Cluster
from spec.resource_names import KEYS, owner, part

ISSUED = {"keep": Verb.SAME, "issue": Verb.CREATE, "drop": Verb.DELETE}
"""The verb for the action with which a line of a register begins. A line with another action is an
update, or a creation where the name is new."""


class NoSpecification(Exception):
    """The resources are not those of a cluster."""


def reviewed(
    changes: Sequence[ResourceChange],
    *,
    before: str = "",
    after: str = "",
    findings: Iterable[Finding] = (),
    notes: Iterable[str] = (),
) -> Review:
    """The review of these changes. Raises NoSpecification where they declare no cluster."""
    old, new = clusters(changes)
    spec = new or old
    if spec is None:
        raise NoSpecification("the program declares no cluster")
    parts = _Parts(
        _without_logins(changes, old, new),
        [*(old.machines if old else ()), *(new.machines if new else ())],
        _unchanged(old, new) if old and new else frozenset(),
        lets_in_others=_lets_in_others(old, new),
    )
    machines = tuple(_machines(old, new, parts))
    shared = {name: parts.shared(name) for name in parts.machines}
    disturbed = tuple(disturbances(machines, shared))
    return Review(
        cluster=spec.name,
        kubernetes=(old.kubernetes if old else "", new.kubernetes if new else ""),
        endpoint=spec.api_url,
        networks=(
            ("machines", ", ".join(map(str, spec.networks.machines))),
            ("pods", str(spec.networks.pods)),
            ("services", str(spec.networks.services)),
        ),
        before=before,
        after=after,
        machines=machines,
        resources=tuple(_resources(parts.of(None))),
        steps=tuple(
            stepped(_of_cluster(change, parts), {}, frozenset())
            for change in parts.of(None)
            if is_step(change) and change.verb is not Verb.SAME
        ),
        certificates=tuple(_certificates(parts.of(None))),
        artifacts=tuple(_artifacts(old, new, parts)),
        disturbances=disturbed,
        consequences=tuple(consequences(old, new, machines, disturbed)),
        findings=tuple(findings),
        unchanged=sum(change.verb is Verb.SAME and change.declared.custom for change in changes),
        notes=tuple(notes),
        counts=dict(Counter(change.verb for change in changes if change.declared.custom)),
    )


def _without_logins(
    changes: Sequence[ResourceChange], old: Cluster | None, new: Cluster | None
) -> Sequence[ResourceChange]:
    """The changes, without those of which another SSH key that logs in is all there is.

    Every step and guard has one, and a single consequence says so. Their steps run again, and
    bring nothing that is not there.
    """
    if old is None or new is None or old.ssh_key_numbers[0] == new.ssh_key_numbers[0]:
        return changes
    return [replace(it, verb=Verb.SAME) if _is_login_only(it) else it for it in changes]


def _is_login_only(change: ResourceChange) -> bool:
    if change.verb is not Verb.UPDATE or change.kind not in LOGIN:
        return False
    return {*change.keys} <= LOGIN[change.kind]


def _lets_in_others(old: Cluster | None, new: Cluster | None) -> bool:
    return bool(old and new and {*old.ssh_key_numbers} != {*new.ssh_key_numbers})


# -- machines --------------------------------------------------------------------------------------


class _Parts:
    """The changes of resources, without components, grouped by the machine that they belong to.

    The key of changes that belong to the whole cluster is None.
    """

    def __init__(
        self,
        changes: Sequence[ResourceChange],
        machines: Iterable[str],
        unchanged: frozenset[str],
        *,
        lets_in_others: bool,
    ) -> None:
        """``unchanged`` are paths of certificates that stay as they are on every machine.

        ``lets_in_others`` says whether the machines let in other SSH keys.
        """
        self.lets_in_others = lets_in_others
        self.machines = tuple(dict.fromkeys(machines))
        self.unchanged = unchanged
        self._parts: dict[str | None, list[ResourceChange]] = {}
        for change in changes:
            if change.declared.custom:
                self._parts.setdefault(self._owner(change), []).append(change)

    def _owner(self, change: ResourceChange) -> str | None:
        """The machine whose component is the parent; None where the cluster is the parent.

        So a step that a machine runs for the cluster belongs to the cluster. The parent's kind
        decides too, since a machine may have the same name as its cluster.
        """
        parent = change.declared.parent
        owned = change.declared.parent_kind != CLUSTER and parent in self.machines
        return parent if owned else None

    def of(self, machine: str | None) -> list[ResourceChange]:
        return self._parts.get(machine, [])

    def steps(self, machine: str) -> list[Carried]:
        return [carried(change, machine) for change in self.of(machine) if is_step(change)]

    def shared(self, machine: str) -> frozenset[str]:
        return frozenset(unit for step in self.steps(machine) for unit in step.after.shared)


def _machines(old: Cluster | None, new: Cluster | None, parts: _Parts) -> Iterator[MachineReview]:
    """The machines of both specs in the order of the picture; a removed machine keeps its place."""
    reviews: dict[str, MachineReview] = {}
    for spec in (new, old):
        if spec is not None:
            left = [name for name in spec.machines if name not in reviews]
            reviews |= {name: _machine(spec, name, parts) for name in left}
    yield from sorted(reviews.values(), key=picture_order)


def _machine(spec: Cluster, name: str, parts: _Parts) -> MachineReview:
    certificates = tuple(_certificates(parts.of(name)))
    carried_out = parts.steps(name)
    # A changed unit file restarts its service, as long as the service ran before.
    needs = {
        unit: (f"{layout.UNITS}/{unit}", *paths) if unit in step.before.needs else paths
        for step in carried_out
        for unit, paths in step.after.needs.items()
    }
    everywhere = _certificates(parts.of(None))
    rewritten = frozenset(
        path
        for certificate in (*certificates, *everywhere)
        for path in _paths(certificate, parts.unchanged)
        if certificate.verb is not Verb.SAME
    )
    verb = _verb(parts.of(name))
    steps = tuple(
        stepped(step, needs, rewritten if step.hidden else frozenset())
        for step in carried_out
        if step.verb not in (Verb.SAME, Verb.DELETE) or (step.leaves and verb not in GONE)
    )
    return replace(
        drawn(spec, name),
        verb=verb,
        resources=tuple(_resources(parts.of(name))),
        steps=tuple(
            _explained(
                step, certificates, needs, parts.unchanged, lets_in_others=parts.lets_in_others
            )
            for step in steps
        ),
        certificates=certificates,
    )


def _verb(changes: Sequence[ResourceChange]) -> Verb:
    """The verb of a machine.

    It is that of the machine's domain where the domain is created, replaced or deleted, else an
    update where any of the machine's resources changes.
    """
    (domain,) = {change.verb for change in changes if is_machine(change.kind)} or {Verb.SAME}
    if domain in (Verb.CREATE, Verb.REPLACE, Verb.DELETE):
        return domain
    return Verb.SAME if all(change.verb is Verb.SAME for change in changes) else Verb.UPDATE


def _paths(certificate: CertificateChange, unchanged: frozenset[str]) -> tuple[str, ...]:
    """The paths of a certificate and its key on a machine, without those in ``unchanged``."""
    own = layout.certificate(certificate.name), layout.private_key(certificate.name)
    paths = OF_THE_CLUSTER.get(certificate.name, own)
    return tuple(path for path in paths if path not in unchanged)


def _unchanged(old: Cluster, new: Cluster) -> frozenset[str]:
    """The paths with certificates of authorities that are trusted, where only another one signs."""
    before, after = authority_numbers(old), authority_numbers(new)
    return frozenset(
        path
        for authority, numbers in after.items()
        if numbers != before[authority] and {*numbers} == {*before[authority]}
        for path in OF_THE_CLUSTER[authority]
        if path not in (layout.AUTHORITY_KEY, layout.SIGNING_AUTHORITY)
    )


OF_THE_CLUSTER: Mapping[str, tuple[str, ...]] = {
    Authority.KUBERNETES: (layout.AUTHORITY, layout.AUTHORITY_KEY, layout.SIGNING_AUTHORITY),
    Authority.ETCD: (layout.ETCD_AUTHORITY, layout.MEMBER_AUTHORITY),
    Authority.FRONT_PROXY: (layout.FRONT_PROXY_AUTHORITY,),
    SERVICE_ACCOUNT: (layout.SERVICE_ACCOUNT_PUBLIC, layout.SERVICE_ACCOUNT_PRIVATE),
    ENCRYPTION: (layout.ENCRYPTION,),
}
"""The paths of the cluster's authorities and common keys, by their names in the register."""


def _explained(
    step: StepChange,
    certificates: Sequence[CertificateChange],
    needs: Mapping[str, tuple[str, ...]],
    unchanged: frozenset[str],
    *,
    lets_in_others: bool = False,
) -> StepChange:
    if not step.hidden or step.verb is not Verb.UPDATE or step.why:
        return step
    changed = [certificate for certificate in certificates if certificate.verb is not Verb.SAME]
    restarting = {path for paths in needs.values() for path in paths}
    names = [row.name for row in changed if restarting & {*_paths(row, unchanged)}]
    quiet = [row.name for row in changed if not restarting & {*_paths(row, unchanged)}]
    whys = [
        *([f"these change: {', '.join(names)}"] if names else []),
        *([f"these change and are read without a restart: {', '.join(quiet)}"] if quiet else []),
        *(["the SSH keys that it lets in change"] if lets_in_others else []),
    ]
    return replace(step, why="; ".join(whys) or "its data change, and no key")


def _of_cluster(change: ResourceChange, parts: _Parts) -> Carried:
    candidates = (m for m in parts.machines if change.name.startswith(part(m, "add-ons")))
    return carried(change, max(candidates, key=len, default=""))


# -- resources and certificates --------------------------------------------------------------------


def _resources(changes: Iterable[ResourceChange]) -> Iterator[ResourceLine]:
    for change in changes:
        if change.verb is Verb.SAME or change.kind in (AUTHORITIES, CERTIFICATES):
            continue
        if is_step(change):
            continue
        kind = change.kind.rpartition(":")[2]
        yield ResourceLine(
            name=change.name, kind=kind, verb=change.verb, why="\n".join(_why(change))
        )


def _why(change: ResourceChange) -> Iterator[str]:
    if change.kind == READY and change.verb is not Verb.CREATE:
        yield "all conditions are asked again"
        return
    if change.kind == EXISTING:
        yield from _membership(change)
        if change.verb is Verb.UPDATE and {*change.keys} <= LOGIN[EXISTING]:
            yield "the SSH keys that it and its jump host let in change"
            return
    if change.before is None or change.after is None:
        return
    if has_scripts(change.declared) and {"source", "stdin"} & {*change.keys}:
        yield "the scripts of the steps change"
        return
    if change.kind == GUARD and "plan" in change.keys:
        yield "the machine is compared with its new plan"
        return
    if change.kind in (GUARD, OBJECTS) and "differs" in change.keys:
        for item, states in change.before.inputs["differs"].items():
            yield f"{item} is {states['is']} and should be {states['shouldBe']}"
        return
    if change.verb is Verb.UPDATE and not change.keys:
        # The engine names no differing input of a dynamic resource, and hidden secrets look alike.
        secret = ", ".join(sorted(key for key, it in change.after.inputs.items() if is_secret(it)))
        yield f"secret inputs change (of these: {secret or 'none that is known'})"
        return
    for key in change.keys:
        before, after = (hidden(side.inputs.get(key)) for side in (change.before, change.after))
        yield from _difference(key, before, after)


def _membership(change: ResourceChange) -> Iterator[str]:
    """What becomes of a machine that nobody makes."""
    if change.verb is Verb.CREATE:
        yield "it exists already: your own SSH keys open it, and it takes the cluster's key"
    elif change.verb is Verb.DELETE:
        yield "it is handed back as it was before: all that the steps brought is taken away"


def _difference(key: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        yield from changed_lines(before, after)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for inner in differing(before, after):
            yield from _difference(f"{key}.{inner}", before.get(inner), after.get(inner))
    elif before == after:
        yield f"{key}: changes, and is secret" if before == "[secret]" else f"{key}: is made anew"
    else:
        yield f"{key}: {_plain(before)} -> {_plain(after)}"


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("\n...")


def _certificates(changes: Iterable[ResourceChange]) -> Iterator[CertificateChange]:
    for change in changes:
        if change.kind not in (AUTHORITIES, CERTIFICATES) or change.verb is Verb.SAME:
            continue
        holder = owner(change.name, KEYS) if change.kind == CERTIFICATES else "cluster"
        before, after = (
            (side.inputs.get("register") or {}) if side else {}
            for side in (change.before, change.after)
        )
        for name in differing(before, after):
            if name not in after:
                gone = (
                    "the machine goes" if change.verb is Verb.DELETE else "nobody needs it any more"
                )
                yield CertificateChange(name=name, holder=holder, verb=Verb.DELETE, why=gone)
                continue
            action, _, why = str(after[name]).partition(": ")
            fallback = Verb.UPDATE if name in before else Verb.CREATE
            verb = ISSUED.get(action, fallback)
            yield CertificateChange(name=name, holder=holder, verb=verb, why=why or action)


# -- artifacts -------------------------------------------------------------------------------------


def _artifacts(old: Cluster | None, new: Cluster | None, parts: _Parts) -> Iterator[LineChange]:
    """The programs and images that are added, are removed or have another digest than before."""
    steps = [step for machine in parts.machines for step in parts.steps(machine)]
    before = {name: digest for step in steps for name, digest in step.before.artifacts.items()}
    after = {name: digest for step in steps for name, digest in step.after.artifacts.items()}
    for name in differing(before, after):
        yield LineChange(
            what="artifact",
            before=_versioned(name, before.get(name), old or new),
            after=_versioned(name, after.get(name), new or old),
        )


def _versioned(name: str, digest: str | None, spec: Cluster | None) -> str | None:
    """A line such as ``etcd 3.7.1 (sha256 0cc58d2b1903)``."""
    if digest is None or spec is None:
        return None
    algorithm, _, digits = digest.partition(":")
    try:
        version = f" {artifact_row(name).version(spec.versions)}"
    except KeyError:  # only the catalogue of another revision has this artifact
        version = ""
    return f"{name}{version} ({algorithm} {digits[:12]})"
