"""A preview as one value, which all reports read: summary, Markdown, page and picture.

It contains no secret. Everything is in the order in which the reports show it: machines as in the
picture (etcd members and control planes first, then minions, each by address), files by path.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from preview.change import Verb


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file on a machine, before and after; None where no step writes the file."""

    path: str
    before: str | None
    after: str | None
    before_mode: str = ""
    """Mode and owner, such as ``0600 root:root``; empty where no step writes the file."""
    after_mode: str = ""
    restarts: tuple[str, ...] = ()
    """Services that this change restarts."""

    @property
    def verb(self) -> Verb:
        if self.before is None:
            return Verb.CREATE
        return Verb.DELETE if self.after is None else Verb.UPDATE


@dataclass(frozen=True, kw_only=True)
class LineChange:
    """A part of a step that is no file, such as a package or a link, or a cluster's artifact."""

    what: str
    """The kind of the part, such as ``package``, ``artifact`` or ``link``."""
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """A step that a machine runs for the first time or again, or that leaves the machine."""

    resource: str
    """The name of the step's resource, such as ``master-etcd``."""
    name: str
    verb: Verb
    files: tuple[FileChange, ...] = ()
    lines: tuple[LineChange, ...] = ()
    hidden: bool = False
    """Whether the step's data contain keys and are never shown. Changes of certificates are shown
    instead."""
    restarts: tuple[str, ...] = ()
    """Services that the step restarts or, on a new machine, starts."""
    rolls: bool = False
    """Whether the machine's pods move first, in its turn."""
    why: str = ""
    """A phrase with the reason, where files and lines do not show it, such as "these change: NAMES"
    about certificates."""


@dataclass(frozen=True, kw_only=True)
class CertificateChange:
    """A certificate, authority or key that is made, renewed or no longer kept."""

    name: str
    holder: str
    """A machine's name, ``people`` or ``cluster``."""
    verb: Verb
    why: str


@dataclass(frozen=True, kw_only=True)
class ResourceLine:
    """A resource that is neither a step nor certificates: a disk, a domain, a network, the spec."""

    name: str
    kind: str
    """The last part of the resource's type, such as ``Domain``."""
    verb: Verb
    why: str = ""
    """The difference, such as ``memory: 2048 -> 4096``; one line for each."""


@dataclass(frozen=True, kw_only=True)
class MachineReview:
    """A machine and what happens to it."""

    name: str
    address: str
    roles: tuple[str, ...]
    """Those of ``etcd``, ``control-plane`` and ``node`` that the machine has, in this order."""
    verb: Verb
    """UPDATE where the machine stays and something on it changes."""
    memory: int
    """MiB."""
    cpus: int
    disk: int
    """GiB."""
    resources: tuple[ResourceLine, ...] = ()
    steps: tuple[StepChange, ...] = ()
    """The steps that the machine runs, in order."""
    certificates: tuple[CertificateChange, ...] = ()


class Severity(StrEnum):
    """How severe a consequence is."""

    FINE = "fine"
    """Harmless, but worth mentioning, such as "etcd keeps its quorum"."""
    NOTICE = "notice"
    """Users may notice it, such as a restart of the only API server."""
    DANGER = "danger"
    """Data is lost, or a service is down until it is repaired or made anew."""


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """An effect of a change on the users of the cluster, in one sentence."""

    severity: Severity
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """Services of one machine that restart, in the order of their restarts."""

    machine: str
    services: tuple[str, ...]
    how: str
    """``one machine at a time``, ``after their pods have moved`` or ``beside the others``."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A violation of a policy rule, or a refused change."""

    rule: str
    resource: str
    """The name of the resource, or empty."""
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Review:
    """The preview of a whole change."""

    cluster: str
    """The name of the cluster, which by default is that of the stack."""
    kubernetes: tuple[str, str]
    """The Kubernetes version before and after; the first is empty for a new cluster."""
    endpoint: str
    """The URL of the API."""
    networks: tuple[tuple[str, str], ...]
    """Pairs of a network's name (machines, pods, services) and its CIDR."""
    before: str = ""
    """The name of the older side of the comparison: a Git revision, or "the state"."""
    after: str = ""
    machines: tuple[MachineReview, ...] = ()
    """All machines, including unchanged and deleted ones."""
    resources: tuple[ResourceLine, ...] = ()
    """The changed resources of the cluster as a whole."""
    steps: tuple[StepChange, ...] = ()
    """The changed steps of the cluster as a whole: add-ons."""
    certificates: tuple[CertificateChange, ...] = ()
    """The changed certificates of people and of the cluster as a whole."""
    artifacts: tuple[LineChange, ...] = ()
    """Programs and images that any machine gets or no longer has, such as ``etcd 3.7.0`` to
    ``etcd 3.7.1``; each is listed once."""
    disturbances: tuple[Disturbance, ...] = ()
    consequences: tuple[Consequence, ...] = ()
    """The most severe first."""
    findings: tuple[Finding, ...] = ()
    unchanged: int = 0
    """The number of resources that do not change."""
    notes: tuple[str, ...] = ()
    """Remarks about the preview itself, such as digests that are unknown to it."""
    counts: dict[Verb, int] = field(default_factory=dict)
    """The number of resources by verb; components are not counted."""

    @property
    def changed(self) -> tuple[MachineReview, ...]:
        return tuple(machine for machine in self.machines if machine.verb is not Verb.SAME)

    @property
    def empty(self) -> bool:
        """Whether no resource changes."""
        return not any(self.counts.get(verb) for verb in Verb if verb is not Verb.SAME)
