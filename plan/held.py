"""What a machine must hold, thing by thing, as it can be compared with the machine itself.

Values only: ``probe.observation`` asks a machine, ``components.guard`` and ``ops.drift`` compare.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from plan import unit
from plan.model import Artifact, NodePlan, Step, Unit
from plan.render import Material, started_with
from spec.cluster import Cluster


class Kind(StrEnum):
    """What a thing is, in the words in which a person is told of it."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    ARTIFACT = "artifact"
    SERVICE = "service"
    MASKED = "masked unit"
    PACKAGE = "package"
    MODULE = "kernel module"
    SETTING = "kernel setting"
    VXLAN = "VXLAN device"
    NODE = "Node object"


AS_KEPT = "as kept in the state"
"""Stands for the content of a secret file, whose digest is no readable value."""

AS_VERIFIED = "as verified"
"""Stands for the content of a program whose archive is known and not the program itself."""

REGISTERED = "registered"
"""Of a Node object. An API that does not answer says nothing against it."""

RUNS = "runs"
LEADS = "with a way to other nodes"
"""How a VXLAN device is with which its node is not alone."""
RESTARTS = "is started again and again"
UNREAD = "with a unit file that systemd has not read"
"""Ways of a service, which are told with commas between."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that a machine must hold."""

    kind: Kind
    name: str
    """A path, unit, package, module, node, a setting's key, or an artifact with its version."""
    wanted: str
    """How it must be, in the words in which an observation says it."""
    step: str
    """The step of the machine's plan that brings it about."""
    path: str = ""
    """Of an artifact: where it lies."""
    mark: str = ""
    """Of an artifact: the name of the note which says that its bytes were verified.
    Of a VXLAN device: the service that makes it, and its ways, when it starts.
    Of a Node object: the kubeconfig with which its machine asks for it."""
    needs: tuple[str, ...] = ()
    """Of a service: files with which it must have been started."""

    @property
    def key(self) -> str:
        """Names it among all things of its machine."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Other:
    """Files that somebody else writes on a machine: what becomes of them is no drift."""

    paths: str
    """A pattern as of a shell; its ``*`` passes slashes."""
    owner: str
    reason: str


OTHERS = (
    Other("/var/lib/kubelet/*", "kubelet", "its rotated certificate, pods, volumes and caches"),
    Other("/var/lib/etcd/*", "etcd", "the cluster's data, which every write changes"),
    Other("/var/lib/containerd/*", "containerd", "images and snapshots, which it collects itself"),
    Other("/var/lib/docker/*", "dockerd", "images and containers, which it collects itself"),
    Other("/var/lib/cni/*", "host-local", "which pod has which address"),
    Other("/run/*", "whoever runs", "leases, sockets and process numbers: gone with a reboot"),
    Other("/etc/cni/net.d/*", "flanneld", "made from the subnet that flannel leases for the node"),
    Other("/etc/kubernetes/resolv.conf", "runtime step", "it depends on what resolves names here"),
    Other("/etc/cloud/*", "cloud-init", "the first boot's own settings"),
    Other("/var/log/kubernetes/*", "kube-apiserver", "the audit log grows and rotates"),
    Other("/var/lib/hardway/running/*", "the steps", "notes of what services were started with"),
    Other("/var/lib/hardway/steps/*", "the steps", "copies to look at: a repair brings its own"),
    Other("/var/lib/hardway/images/*", "the steps", "notes of what Docker made of the archives"),
)
"""Not compared: neither are the images in a runtime, which the cluster's conditions ask for."""


def somebody_elses(path: str) -> bool:
    """Whether what becomes of a path is no drift."""
    return any(fnmatchcase(path, other.paths) for other in OTHERS)


def compared(spec: Cluster, plan: NodePlan) -> NodePlan:
    """A machine's plan as it can be compared: a node that is alone has no way to others."""
    if len(spec.nodes) > 1:
        return plan
    steps = tuple(
        replace(step, units=tuple(replace(unit, vxlan="") for unit in step.units))
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def held(plan: NodePlan) -> tuple[Item, ...]:
    """Everything of a machine's plan that can be observed, each thing once, in the plan's order.

    What two steps bring about is the first one's.
    """
    found: dict[str, Item] = {}
    for step in plan.steps:
        for item in _of_step(step):
            if not somebody_elses(item.name):
                found.setdefault(item.key, item)
    return tuple(found.values())


def secret_digests(plan: NodePlan, material: Material) -> dict[str, str]:
    """Path to the sha256 of each secret file's content, which is itself kept secret."""
    return {one.path: digest(material(one.source)) for one in plan.secret_files}


def digest(content: str) -> str:
    """The sha256 of a file with this content."""
    return hashlib.sha256(content.encode()).hexdigest()


# -- a step's things -----------------------------------------------------------------------------


def _of_step(step: Step) -> Iterator[Item]:
    def item(kind: Kind, name: str, wanted: str, **more: object) -> Item:
        return Item(kind=kind, name=name, wanted=wanted, step=step.name, **more)  # type: ignore[arg-type]

    for name in step.packages:
        yield item(Kind.PACKAGE, name, "installed")
    for artifact in step.artifacts:
        yield item(
            Kind.ARTIFACT,
            f"{artifact.name} {artifact.version}",
            described(_bytes(artifact), 0o555 if artifact.kind == "binary" else 0o444, "root:root"),
            path=artifact.store_path,
            mark=_mark(artifact),
        )
    for folder in step.directories:
        yield item(Kind.DIRECTORY, folder.path, f"{folder.mode:04o} {folder.owner}")
    for file in step.files:
        content = f"sha256:{digest(file.content)}"
        yield item(Kind.FILE, file.path, described(content, file.mode, file.owner))
    for secret in step.secret_files:
        yield item(Kind.FILE, secret.path, described(AS_KEPT, secret.mode, secret.owner))
    for link in step.links:
        yield item(Kind.LINK, link.path, f"-> {link.target}")
    for name in step.masked:
        yield item(Kind.MASKED, name, "masked, stopped")
    programs = {link.path: link.target for link in step.links}
    for service in step.units:
        content = f"sha256:{digest(unit.text(service))}"
        yield item(Kind.FILE, service.path, described(content, 0o600, "root:root"))
        yield item(
            Kind.SERVICE,
            service.name,
            f"enabled, {RUNS} {_program(service, programs)}",
            needs=(service.path, *started_with(service)[1:]),
        )
        if service.vxlan:
            yield item(Kind.VXLAN, service.vxlan, LEADS, mark=service.name)
    if node := step.settings.get("node"):
        yield item(Kind.NODE, node, REGISTERED, mark=step.settings["kubeconfig"])
    for name in step.settings.get("modules", "").split():
        yield item(Kind.MODULE, name, "loaded")
    for key, value in _settings(step):
        yield item(Kind.SETTING, key, value)


def described(content: str, mode: int, owner: str) -> str:
    """A file's content, mode and owner in the words that are compared."""
    return f"{content} {mode:04o} {owner}"


def _bytes(artifact: Artifact) -> str:
    return f"sha256:{artifact.sha256}" if artifact.sha256 else AS_VERIFIED


def _mark(artifact: Artifact) -> str:
    """The name of the note in the store's ``verified`` (``scripts/prelude.sh``)."""
    if artifact.sha256:
        return artifact.sha256
    assert artifact.archive is not None
    return f"{artifact.archive.digest.partition(':')[2]}.{artifact.name}"


def _program(service: Unit, programs: Mapping[str, str]) -> str:
    """The file that really runs; of a program of the distribution its name, which may move."""
    return programs.get(service.program) or service.program.rpartition("/")[2]


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
    """A thing that is not as it must be."""

    item: Item
    observed: str

    @property
    def sentence(self) -> str:
        """What is so and what should be, without a full stop."""
        return f"{self.item.key} is {self.observed} and should be {self.item.wanted}"


def differences(items: Iterable[Item], observed: Mapping[str, str]) -> tuple[Difference, ...]:
    """What an observation, by key, says to be otherwise."""
    return tuple(
        Difference(item=item, observed=observed[item.key])
        for item in items
        if observed[item.key] != item.wanted
    )


# -- how it is mended ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mending:
    """What makes a machine as it must be: first what steps do not look at, then some steps."""

    steps: tuple[str, ...]
    """Exactly those that bring about what differs, in the plan's order."""
    restarts: tuple[str, ...]
    """Services that run with something else than they must: a step starts them again."""
    aside: tuple[str, ...]
    """Services that the step with the keys leaves alone, since a later one of them starts these:
    until then they might be started with something else that is not right yet."""
    marks: tuple[str, ...]
    """Of artifacts that are not what they were verified to be: the step reads them again."""
    reload: bool
    """Whether systemd must read its units again in the end."""


def mending(found: Iterable[Difference], items: Iterable[Item], steps: Iterable[str]) -> Mending:
    """How differences are mended on a machine with these things and steps."""
    found = tuple(found)
    needed = {one.item.step for one in found}
    with_keys = {one.item.step for one in found if one.item.wanted.startswith(AS_KEPT)}
    services = [one for one in found if one.item.kind is Kind.SERVICE]
    remade = [one.item.mark for one in found if one.item.kind is Kind.VXLAN]
    return Mending(
        steps=tuple(name for name in steps if name in needed),
        restarts=tuple(
            dict.fromkeys(
                [*(one.item.name for one in services if _runs_with_another(one)), *remade]
            )
        ),
        aside=tuple(
            item.name
            for item in items
            if with_keys and item.kind is Kind.SERVICE and item.step in needed
        ),
        marks=tuple(one.item.mark for one in found if one.item.kind is Kind.ARTIFACT),
        reload=any(UNREAD in one.observed for one in services)
        or any(one.item.name.startswith(UNITS) for one in found),
    )


UNITS = "/etc/systemd/system/"


def _runs_with_another(service: Difference) -> bool:
    """Not so for one that is only stopped or disabled, which its step sees by itself."""
    _, runs, *more = service.observed.split(", ")
    other = runs.startswith(f"{RUNS} ") and not service.item.wanted.endswith(f", {runs}")
    return other or any(way != UNREAD for way in more)
