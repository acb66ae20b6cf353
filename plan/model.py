"""What a machine must hold, as values: files, units, artifacts and steps.

Everything that needs to know a machine's contents (the golden files, the preview, the drift check,
the security checks, the bundle, the picture) reads these values; nothing renders for itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

# -- what secret files are made of ---------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """A certificate of this machine, in PEM."""

    name: str
    """Of a row of ``certs.table``."""


@dataclass(frozen=True)
class PrivateKey:
    """The private key of a certificate of this machine, in PEM (PKCS 8)."""

    name: str
    """Of a row of ``certs.table``."""


@dataclass(frozen=True)
class AuthorityCertificate:
    """An authority's certificate, in PEM; during a rotation more than one."""

    authority: str
    """A value of ``certs.table.Authority``."""


@dataclass(frozen=True)
class AuthorityKey:
    """An authority's private key, in PEM: only for the controller manager, which signs CSRs."""

    authority: str


@dataclass(frozen=True)
class ServiceAccountKey:
    """The key pair that signs (private) or checks (public) service account tokens, in PEM."""

    half: Literal["private", "public"]


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig with a client certificate inside, for people."""

    certificate: str
    """Of a row of ``certs.table``."""
    server: str
    """The API server's URL."""


@dataclass(frozen=True)
class EncryptionConfiguration:
    """The API server's EncryptionConfiguration (apiserver.config.k8s.io/v1) with its key."""


Source = (
    Certificate
    | PrivateKey
    | AuthorityCertificate
    | AuthorityKey
    | ServiceAccountKey
    | Kubeconfig
    | EncryptionConfiguration
)


# -- files, units, artifacts ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class File:
    """A file with nothing secret in it."""

    path: str
    content: str
    """Ends with a newline."""
    mode: int = 0o600
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """A file of the identity step, made from keys and certificates when the step is rendered."""

    path: str
    source: Source
    mode: int = 0o600
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory that must exist with this owner and mode."""

    path: str
    mode: int = 0o755
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file of an official release that holds a program."""

    url: str
    digest: str
    """``sha256:<hex>`` or ``sha512:<hex>`` of the archive."""
    member: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A program or an image archive in the machine's content-addressed store.

    Its bytes are known by their own sha256, or by that of the archive that holds them.
    """

    name: str
    version: str
    kind: Literal["binary", "image"]
    sha256: str | None
    urls: tuple[str, ...] = ()
    """Where the file itself can be had, the preferred one first."""
    archive: Archive | None = None
    reference: str | None = None
    """Of an image: the name under which the container runtime knows it."""

    @property
    def store_path(self) -> str:
        """Where the file lies on a machine."""
        if self.sha256:
            return f"{STORE}/sha256/{self.sha256}"
        assert self.archive is not None
        return f"{STORE}/archive/{self.archive.digest.partition(':')[2]}/{self.name}"

    @property
    def command(self) -> Link:
        """A program under its name, where units and people find it."""
        return Link(path=f"{BIN}/{self.name}", target=self.store_path)


STORE = "/var/lib/hardway/store"
BIN = "/usr/local/bin"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A systemd service that runs a program in the foreground."""

    name: str
    """With its suffix, such as ``etcd.service``."""
    description: str
    program: str
    """The program's absolute path."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flag name without dashes to its value: rendered one a line as ``--name=value``."""
    dashes: Literal["-", "--"] = "--"
    arguments: tuple[str, ...] = ()
    """Words after the flags."""
    type: Literal["notify", "simple", "exec", "oneshot"] = "notify"
    before_start: tuple[str, ...] = ()
    """``ExecStartPre`` lines."""
    after_start: tuple[str, ...] = ()
    """``ExecStartPost`` lines."""
    before_stop: tuple[str, ...] = ()
    """``ExecStop`` lines."""
    after_stop: tuple[str, ...] = ()
    """``ExecStopPost`` lines, also where the program has ended by itself."""
    after: tuple[str, ...] = ("network-online.target",)
    wants: tuple[str, ...] = ("network-online.target",)
    requires: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    asserts: tuple[str, ...] = ()
    """``Assert...`` lines of which one must be true, else systemd refuses each start."""
    once: str = ""
    """A file that, where it is there, gives further flags as the value of ``ONCE``."""
    service: Mapping[str, str] = field(default_factory=dict)
    """Further settings of ``[Service]``; they win over the defaults."""
    needs: tuple[str, ...] = ()
    """Files whose change restarts the service, beside the unit and the program themselves."""
    vxlan: str = ""
    """The VXLAN device that the service keeps, with a way to each other node."""
    reads: tuple[str, ...] = ()
    """Files that the service reads again by itself when they change (``plan.reload``)."""
    wanted_by: str = "multi-user.target"

    @property
    def path(self) -> str:
        return f"/etc/systemd/system/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A service that other machines run as well, of which one at a time is restarted."""

    unit: str
    own: str
    """The URL at which it says that it is well."""
    others: tuple[str, ...]
    """The URLs at which those of other machines do."""
    trust: tuple[str, ...]
    """Files with which these are asked: the authority and, if needed, a certificate and its key."""
    lock: tuple[str, ...]
    """The URLs of the etcd that has the lock."""
    lock_trust: tuple[str, str, str]
    """Files with which it is asked: the authority, a certificate and its key."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A member of etcd that must not start empty once it has answered (``scripts/member.sh``)."""

    unit: str
    name: str
    peer: str
    """Its peer URL."""
    ready: str
    """The URL at which it says that it answers with a quorum behind it."""
    data: str
    """Its data directory."""
    marker: str
    """The file that says that it has answered."""
    once: str
    """The file with the flags of the start with which it joins."""
    removed: str
    """The file that says that the others have removed it."""
    program: str
    """The path of etcdctl."""
    trust: tuple[str, str, str]
    """Files with which the others are asked: the authority, a certificate and its key."""
    others: tuple[str, ...]
    """The client URLs of the other members."""


@dataclass(frozen=True, kw_only=True)
class NotNewer:
    """A program that is at no time newer than the API servers."""

    program: Link
    version: str
    """As the API servers say it, such as ``v1.37.1``."""
    servers: tuple[str, ...]
    """Their URLs."""
    kubeconfig: str
    """With which they are asked."""


# -- steps and plans -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a machine's installation that is one remote command."""

    name: str
    packages: tuple[str, ...] = ()
    """Debian packages that must be there."""
    users: tuple[str, ...] = ()
    """System users, each with a group of its name, that own some of its files."""
    artifacts: tuple[Artifact, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    secret_files: tuple[SecretFile, ...] = ()
    links: tuple[Link, ...] = ()
    units: tuple[Unit, ...] = ()
    """Enabled and running when the step is done, in this order."""
    not_newer: NotNewer | None = None
    """What the step waits for before it changes anything."""
    membership: Membership | None = None
    """The member of etcd whose data are looked for before anything is made or started."""
    turns: tuple[Turn, ...] = ()
    """Which services wait for their turn before the step restarts them."""
    masked: tuple[str, ...] = ()
    """Units of the distribution that must not run."""
    script: str | None = None
    """The name of a file in ``plan/scripts`` that runs at the end: it waits for health."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the script reads as variables."""
    outcome: str = ""
    """What it has brought about, for people: the last line that it prints.

    It stays beside the step's row. Nothing for a step with keys, of which nothing is shown.
    """
    admin: bool = False
    """Whether its script asks the API as the cluster's admin (``scripts/admin.sh``)."""
    alone: bool = True
    """Whether no other step may be at work on the machine; not so for what only asks the API."""

    @property
    def secret(self) -> bool:
        """Whether its text has keys in it."""
        return bool(self.secret_files)


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """Everything that one machine must hold, in the order in which it gets it."""

    node: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step of this name. Raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    @property
    def files(self) -> Iterator[File]:
        return (file for step in self.steps for file in step.files)

    @property
    def secret_files(self) -> Iterator[SecretFile]:
        return (file for step in self.steps for file in step.secret_files)

    @property
    def directories(self) -> Iterator[Directory]:
        return (one for step in self.steps for one in step.directories)

    @property
    def units(self) -> Iterator[Unit]:
        return (unit for step in self.steps for unit in step.units)

    @property
    def artifacts(self) -> Iterator[Artifact]:
        return (artifact for step in self.steps for artifact in step.artifacts)
