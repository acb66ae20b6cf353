"""A preview as one value, read by every report: the summary, the Markdown, the page, the picture.

There is no secret in it. Everything is in the order in which it is shown: machines as the cluster
is drawn (etcd members and control planes first, then minions, each by address), files by path.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from preview.change import Verb


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file on a machine, before and after; None where it is not there (or no longer written)."""

    path: str
    before: str | None
    after: str | None
    before_mode: str = ""
    """Mode and owner, such as ``0600 root:root``; empty where the file is not there."""
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
    """Something else that a step says: a package, a link, a directory, a line of its script."""

    what: str
    """Such as ``package``, ``artifact``, ``link``, ``script``."""
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """A step that is carried out on a machine (again)."""

    resource: str
    """Name of its resource, such as ``master-etcd``."""
    name: str
    verb: Verb
    files: tuple[FileChange, ...] = ()
    lines: tuple[LineChange, ...] = ()
    hidden: bool = False
    """Its text has keys in it and is never shown: certificates say what changes."""
    restarts: tuple[str, ...] = ()
    """Services that the step restarts or, on a new machine, starts."""
    why: str = ""
    """In a sentence's part, where files and lines do not say it: "its certificates change"."""


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
    """A resource that is no step and no certificate: a disk, a domain, a network, the spec."""

    name: str
    kind: str
    """Its type's last part, such as ``Domain``."""
    verb: Verb
    why: str = ""
    """What differs, such as ``memory: 2048 -> 4096``; lines where there are several."""


@dataclass(frozen=True, kw_only=True)
class MachineReview:
    """A machine and what happens to it."""

    name: str
    address: str
    roles: tuple[str, ...]
    """Of ``etcd``, ``control-plane``, ``node``, in this order."""
    verb: Verb
    """UPDATE where the machine stays and something on it changes."""
    memory: int
    """MiB."""
    cpus: int
    disk: int
    """GiB."""
    resources: tuple[ResourceLine, ...] = ()
    steps: tuple[StepChange, ...] = ()
    """Those that are carried out, in order."""
    certificates: tuple[CertificateChange, ...] = ()


class Severity(StrEnum):
    """How bad it is."""

    FINE = "fine"
    """Said because people ask: "etcd keeps its quorum"."""
    NOTICE = "notice"
    """Somebody may feel it: a restart of the only API server."""
    DANGER = "danger"
    """Something is lost or down until somebody acts."""


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What a change means for whoever uses the cluster, in one sentence."""

    severity: Severity
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """Services of one machine that are restarted, in the order in which it comes to that."""

    machine: str
    services: tuple[str, ...]
    how: str
    """``one machine at a time``, ``beside the others`` or ``with the machine``."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule of the policy that is broken, or a change that is refused."""

    rule: str
    resource: str
    """Name of the resource, or empty."""
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Review:
    """A whole change."""

    cluster: str
    """The stack's name."""
    kubernetes: tuple[str, str]
    """Version before and after; the first is empty for a new cluster."""
    endpoint: str
    """The API's URL."""
    networks: tuple[tuple[str, str], ...]
    """Name (machines, pods, services) to CIDR."""
    before: str = ""
    """What it is compared with: a Git revision, or "the state"."""
    after: str = ""
    machines: tuple[MachineReview, ...] = ()
    """All of them, also the unchanged and the deleted."""
    resources: tuple[ResourceLine, ...] = ()
    """Changed ones of the cluster as a whole."""
    steps: tuple[StepChange, ...] = ()
    """Those of the cluster as a whole: add-ons."""
    certificates: tuple[CertificateChange, ...] = ()
    """Of people and of the cluster as a whole."""
    artifacts: tuple[LineChange, ...] = ()
    """Programs and images that some machine gets or no longer has, such as ``etcd 3.7.0`` to
    ``etcd 3.7.1``; each once."""
    disturbances: tuple[Disturbance, ...] = ()
    consequences: tuple[Consequence, ...] = ()
    """The worst first."""
    findings: tuple[Finding, ...] = ()
    unchanged: int = 0
    """How many resources stay as they are."""
    notes: tuple[str, ...] = ()
    """What the reader must know of the preview itself, such as digests that it could not know."""
    counts: dict[Verb, int] = field(default_factory=dict)
    """Resources by what is done with them; components are not counted."""

    @property
    def changed(self) -> tuple[MachineReview, ...]:
        return tuple(one for one in self.machines if one.verb is not Verb.SAME)

    @property
    def empty(self) -> bool:
        """Whether nothing would be done."""
        return not any(self.counts.get(verb) for verb in Verb if verb is not Verb.SAME)
