"""What a machine must hold, as single items that can be compared with the machine itself.

This module only computes values: ``probe.observation`` observes a machine, and
``components.guard`` and ``ops.drift`` compare the observation with the items.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from plan import layout, library
from plan.item import AS_KEPT, RUNS, UNREAD, Item, Kind, digest
from plan.model import Material, NodePlan, Source, Step
from plan.things import KINDS, logins
from spec.cluster import Cluster

REGISTERED = "registered"
"""The state of a Node object, also where the API does not answer: only the API's answer that the
object does not exist, or that it still rolls, counts as a difference."""
ROLLS = "kept from pods by a change to another version that has not ended"
"""The state of a Node object with the annotation of ``plan.roll``."""

GONE, THERE = "gone", "there"
"""The states of a role that a machine does not have and must not have: whether the list of what its
step brought is gone."""

ROLES = ("etcd", "control-plane", "runtime", "node", "backup")
"""The steps that can leave a machine, or that one machine has and another has not."""


@dataclass(frozen=True)
class ForeignFiles:
    """Files that another program writes on a machine: their changes are no drift."""

    paths: str
    """A shell pattern whose ``*`` also matches slashes."""
    owner: str
    """The program that writes the files."""
    reason: str


FOREIGN_FILES = (
    ForeignFiles(
        "/var/lib/kubelet/*", "kubelet", "its rotated certificate, pods, volumes and caches"
    ),
    ForeignFiles("/var/lib/etcd/*", "etcd", "the cluster's data, which every write changes"),
    ForeignFiles(
        "/var/lib/containerd/*", "containerd", "images and snapshots, which it collects itself"
    ),
    ForeignFiles("/var/lib/docker/*", "dockerd", "images and containers, which it collects itself"),
    ForeignFiles("/var/lib/cni/*", "host-local", "which pod has which address"),
    ForeignFiles(
        "/run/*", "whoever runs", "leases, sockets and process numbers: gone with a reboot"
    ),
    ForeignFiles(
        "/etc/cni/net.d/*", "flanneld", "made from the subnet that flannel leases for the node"
    ),
    ForeignFiles(
        "/etc/kubernetes/resolv.conf", "runtime step", "it depends on what resolves names here"
    ),
    ForeignFiles("/etc/cloud/*", "cloud-init", "the first boot's own settings"),
    ForeignFiles("/var/log/kubernetes/*", "kube-apiserver", "the audit log grows and rotates"),
    ForeignFiles(
        "/var/lib/hardway/running/*", "the steps", "notes of what services were started with"
    ),
    ForeignFiles(
        "/var/lib/hardway/steps/*", "the steps", "copies to look at: a repair brings its own"
    ),
    ForeignFiles(
        "/var/lib/hardway/images/*", "the steps", "notes of what Docker made of the archives"
    ),
)
"""Files that are not compared. Images in a container runtime are not compared either: the cluster's
conditions depend on them."""


OWN_FILES = frozenset({layout.REGISTRY_CREDENTIALS})
"""Files of ours that lie among those."""


def is_foreign(path: str) -> bool:
    """Whether another program writes a path, so that its changes are no drift."""
    foreign = any(fnmatchcase(path, files.paths) for files in FOREIGN_FILES)
    return foreign and path not in OWN_FILES


def compared(spec: Cluster, plan: NodePlan) -> NodePlan:
    """A machine's plan in the form in which it can be compared.

    The only node of a cluster has no routes to other nodes, so its VXLAN device is left out.
    """
    if len(spec.nodes) > 1:
        return plan
    steps = tuple(
        replace(step, units=tuple(replace(unit, vxlan="") for unit in step.units))
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def held(plan: NodePlan) -> tuple[Item, ...]:
    """All items of a machine's plan that can be observed, each item once, in the plan's order.

    An item that two steps bring about belongs to the first of them.
    """
    items: dict[str, Item] = {}
    for step in plan.steps:
        for item in _of_step(step):
            if not is_foreign(item.name):
                items.setdefault(item.key, item)
    return tuple(items.values())


def scripts() -> tuple[Item, ...]:
    """The items that every machine must hold besides its plan: the scripts of the steps."""
    return tuple(_of_step(Step(name=library.NAME, files=library.files())))


def absent(plan: NodePlan) -> tuple[Item, ...]:
    """The roles that a machine must not have, since its plan has no such step."""
    steps = {step.name for step in plan.steps}
    return tuple(
        Item(kind=Kind.ROLE, name=name, wanted=GONE, step=name, path=f"{layout.BROUGHT}/{name}")
        for name in ROLES
        if name not in steps
    )


def secret_digests(plan: NodePlan, material: Material) -> dict[str, str]:
    """Path to the sha256 of each secret file's content. The digests are secret, too.

    The lines with SSH keys that log in have theirs by the key of their item.
    """
    return {key: digest(material(source)) for key, source in _secret_sources(plan)}


def secret_keys(plan: NodePlan) -> tuple[str, ...]:
    """The keys of ``secret_digests``."""
    return tuple(key for key, _ in _secret_sources(plan))


def _secret_sources(plan: NodePlan) -> Iterator[tuple[str, Source]]:
    for file in plan.secret_files:
        yield file.path, file.source
    for step in plan.steps:
        if step.logins:
            yield logins.item_of(step.logins, step.name).key, step.logins.keys


# -- a step's items ------------------------------------------------------------------------------


def _of_step(step: Step) -> Iterator[Item]:
    for kind in KINDS:
        yield from kind.items(step)
    if node := step.settings.get("node"):
        mark = step.settings["kubeconfig"]
        yield Item(kind=Kind.NODE, name=node, wanted=REGISTERED, step=step.name, mark=mark)
    for name in step.settings.get("modules", "").split():
        yield Item(kind=Kind.MODULE, name=name, wanted="loaded", step=step.name)
    for key, value in _settings(step):
        yield Item(kind=Kind.SETTING, name=key, wanted=value, step=step.name)


def _settings(step: Step) -> Iterator[tuple[str, str]]:
    """The kernel settings in the file that the step's script loads."""
    path = step.settings.get("sysctls")
    for file in step.files:
        if file.path == path:
            for line in file.content.splitlines():
                key, _, value = line.partition("=")
                yield key.strip(), value.strip()


# -- what differs --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An item whose observed state is not the wanted state."""

    item: Item
    observed: str

    @property
    def sentence(self) -> str:
        """The observed and the wanted state, without a full stop."""
        return f"{self.item.key} is {self.observed} and should be {self.item.wanted}"


def differences(items: Iterable[Item], observed: Mapping[str, str]) -> tuple[Difference, ...]:
    """The items whose observed state differs from the wanted state.

    ``observed`` maps the key of each item to its state.
    """
    return tuple(
        Difference(item=item, observed=observed[item.key])
        for item in items
        if observed[item.key] != item.wanted
    )


# -- the repair ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mending:
    """The repair of a machine: first actions that no step takes by itself, then some steps."""

    steps: tuple[str, ...]
    """Exactly the steps that bring about the items that differ, in the plan's order."""
    restarts: tuple[str, ...]
    """Services that run with another program, file, setting or device than they must; their steps
    restart them."""
    aside: tuple[str, ...]
    """Services that the step with the keys must not restart, since another step of the repair
    starts them: before that step, other files that they read may still be wrong."""
    marks: tuple[str, ...]
    """Marks of artifacts that differ from what was verified. The repair deletes the marks, so that
    the step verifies the artifacts again."""
    reload: bool
    """Whether systemd must read its unit files again at the end."""


def mending(
    differing: Iterable[Difference], items: Iterable[Item], steps: Iterable[str]
) -> Mending:
    """The repair of these differences on a machine with these items and steps."""
    differing = tuple(differing)
    needed = {difference.item.step for difference in differing}
    with_keys = {
        difference.item.step
        for difference in differing
        if difference.item.wanted.startswith(AS_KEPT)
    }
    services = [difference for difference in differing if difference.item.kind is Kind.SERVICE]
    remade = [
        difference.item.mark for difference in differing if difference.item.kind is Kind.VXLAN
    ]
    return Mending(
        steps=tuple(name for name in steps if name in needed),
        restarts=tuple(
            dict.fromkeys(
                [
                    *(
                        difference.item.name
                        for difference in services
                        if _runs_with_another(difference)
                    ),
                    *remade,
                ]
            )
        ),
        aside=tuple(
            item.name
            for item in items
            if with_keys and item.kind is Kind.SERVICE and item.step in needed
        ),
        marks=tuple(
            difference.item.mark
            for difference in differing
            if difference.item.kind is Kind.ARTIFACT
        ),
        reload=any(UNREAD in difference.observed for difference in services)
        or any(difference.item.name.startswith(f"{layout.UNITS}/") for difference in differing),
    )


def _runs_with_another(service: Difference) -> bool:
    """Whether a service runs with something other than it must, which its step would not notice.

    False for a service that is only stopped or disabled, which its step notices by itself.
    """
    _, runs, *more = service.observed.split(", ")
    another_program = runs.startswith(f"{RUNS} ") and not service.item.wanted.endswith(f", {runs}")
    return another_program or any(way != UNREAD for way in more)
