"""What a machine must hold, as values: files, units, artifacts and steps.

All consumers of a machine's contents (the golden files, the preview, the drift check, the security
checks, the bundle, the picture) read these values; none of them renders contents by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from plan import layout

# -- sources of secret files ---------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """A certificate of this machine, in PEM."""

    name: str
    """The name of a row of ``certs.table``."""


@dataclass(frozen=True)
class PrivateKey:
    """The private key of a certificate of this machine, in PEM (PKCS 8)."""

    name: str
    """The name of a row of ``certs.table``."""


@dataclass(frozen=True)
class AuthorityCertificate:
    """The certificates of an authority that are trusted, in PEM: two where it turns over."""

    authority: str
    """A value of ``certs.table.Authority``."""


@dataclass(frozen=True)
class SigningCertificate:
    """The certificate of the authority that signs, in PEM."""

    authority: str


@dataclass(frozen=True)
class AuthorityKey:
    """An authority's private key, in PEM. Only the controller manager needs it, to sign CSRs."""

    authority: str


@dataclass(frozen=True)
class ServiceAccountKey:
    """The key that signs service accounts' tokens (private), or all that check them, in PEM."""

    half: Literal["private", "public"]


@dataclass(frozen=True)
class AllServiceAccountPairs:
    """All key pairs for these tokens that there ever were, below a line with the turn."""


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig for people, with the client certificate and its key embedded."""

    certificate: str
    """The name of a row of ``certs.table``."""
    server: str
    """The API server's URL."""


@dataclass(frozen=True)
class EncryptionConfiguration:
    """The API server's EncryptionConfiguration (apiserver.config.k8s.io/v1): the current key."""


@dataclass(frozen=True)
class AllEncryptionKeys:
    """The same configuration with all keys that there ever were, below a line with the turn."""


@dataclass(frozen=True)
class Filled:
    """An object of the API, in JSON, with keys or certificates in base64 among its values."""

    template: str
    """The JSON, with a mark in the place of each of these values."""
    values: tuple[tuple[str, "Source"], ...]
    """Mark and value."""


@dataclass(frozen=True)
class RegistryCredentials:
    """The users and passwords with which a node pulls images, in the form of Docker's clients."""

    users: tuple[tuple[str, str], ...]
    """Pairs of a registry's name and the user; the password goes by the same name."""


@dataclass(frozen=True)
class BackupRecipient:
    """The public key for which backups of etcd are encrypted, as age(1) reads it."""


@dataclass(frozen=True)
class BackupLogin:
    """The SSH key with which backups are copied elsewhere, in OpenSSH's format."""


@dataclass(frozen=True)
class BucketKey:
    """The access key with which backups are uploaded to a bucket, as a configuration of rclone."""


@dataclass(frozen=True)
class LoginKeys:
    """The SSH keys that a machine lets in, as lines of a user's list, each with a mark at its end.

    They are public, and come with keys since no plan knows them.
    """

    mark: str


@dataclass(frozen=True)
class DerivedPassword:
    """A password of the program's own making, of a seed in the state."""

    name: str
    """What it is for; other names give other passwords."""
    number: int
    """Another number gives another password, and the former one the former."""


Source = (
    Certificate
    | PrivateKey
    | AuthorityCertificate
    | AuthorityKey
    | SigningCertificate
    | ServiceAccountKey
    | AllServiceAccountPairs
    | Kubeconfig
    | EncryptionConfiguration
    | AllEncryptionKeys
    | Filled
    | RegistryCredentials
    | BackupRecipient
    | BackupLogin
    | BucketKey
    | LoginKeys
    | DerivedPassword
)

Material = Callable[[Source], str]
"""Returns the content of a secret file, given the file's source."""


# -- files, units, artifacts ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class File:
    """A file without secrets."""

    path: str
    content: str
    """Ends with a newline."""
    mode: int = 0o600
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """A file with secrets, whose content comes from keys and certificates during rendering."""

    path: str
    source: Source
    mode: int = 0o600
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class Logins:
    """The keys of the cluster in a user's list of those that may log in.

    Lines that somebody else wrote into the list stay as they are.
    """

    user: str
    keys: LoginKeys


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
    """An archive of an official release that contains a program."""

    url: str
    digest: str
    """``sha256:<hex>`` or ``sha512:<hex>`` of the archive."""
    member: str
    """The program's path inside the archive."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A program or an image archive in the machine's content-addressed store.

    Either its own sha256 identifies its bytes, or the digest of the archive that contains it.
    """

    name: str
    version: str
    kind: Literal["binary", "image"]
    sha256: str | None
    urls: tuple[str, ...] = ()
    """URLs of the file itself, the preferred one first."""
    archive: Archive | None = None
    reference: str | None = None
    """Of an image: its name in the container runtime."""

    @property
    def store_path(self) -> str:
        """The path of the file on a machine."""
        if self.sha256:
            return f"{STORE}/sha256/{self.sha256}"
        assert self.archive is not None
        return f"{STORE}/archive/{self.archive.digest.partition(':')[2]}/{self.name}"

    @property
    def mode(self) -> int:
        """The mode of the file on a machine."""
        return 0o555 if self.kind == "binary" else 0o444

    @property
    def command(self) -> Link:
        """The link through which units and people run a program by its name."""
        return Link(path=f"{BIN}/{self.name}", target=self.store_path)


STORE = "/var/lib/hardway/store"
BIN = "/usr/local/bin"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A systemd service that runs a program in the foreground, or a timer that starts a service."""

    name: str
    """With its suffix, such as ``etcd.service``."""
    description: str
    program: str
    """The program's absolute path, or only its name where the distributions have it in different
    directories. Of a timer: the name of the service that it starts."""
    schedule: Mapping[str, str] = field(default_factory=dict)
    """Of a timer: the settings of ``[Timer]``, besides the service's name."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flag name without dashes to its value; each is rendered on its own line as
    ``--name=value``."""
    dashes: Literal["-", "--"] = "--"
    arguments: tuple[str, ...] = ()
    """Arguments after the flags."""
    type: Literal["notify", "simple", "exec", "oneshot"] = "notify"
    before_start: tuple[str, ...] = ()
    """``ExecStartPre`` lines."""
    after_start: tuple[str, ...] = ()
    """``ExecStartPost`` lines."""
    before_stop: tuple[str, ...] = ()
    """``ExecStop`` lines."""
    after_stop: tuple[str, ...] = ()
    """``ExecStopPost`` lines; systemd also runs them after the program has ended by itself."""
    after: tuple[str, ...] = ("network-online.target",)
    wants: tuple[str, ...] = ("network-online.target",)
    requires: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    asserts: tuple[str, ...] = ()
    """``Assert...`` lines with ``|``: where none of them is true, systemd refuses a requested
    start. Its automatic restarts check no asserts."""
    once: str = ""
    """The path of an optional environment file whose variable ``ONCE`` has further flags."""
    service: Mapping[str, str] = field(default_factory=dict)
    """Further settings of ``[Service]``; they override the defaults."""
    needs: tuple[str, ...] = ()
    """Files whose change restarts the service, in addition to its unit file and its program."""
    vxlan: str = ""
    """The name of the VXLAN device that the service maintains, with a route to every other node."""
    reads: tuple[str, ...] = ()
    """Files that the service reads again when they change, without a restart (``plan.reload``)."""
    wanted_by: str = "multi-user.target"
    """The target that starts the service at boot; empty for a service that a timer starts."""

    @property
    def path(self) -> str:
        return f"{layout.UNITS}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A service that several machines run, and that only one machine at a time restarts."""

    unit: str
    own: str
    """The URL of the health endpoint on this machine."""
    others: tuple[str, ...]
    """The URLs of the health endpoints on the other machines."""
    trust: tuple[str, ...]
    """Files for requests to these endpoints: the authority and, where the endpoints demand them, a
    client certificate and its key."""
    lock: tuple[str, ...]
    """The URLs of the etcd members that keep the lock."""
    lock_trust: tuple[str, str, str]
    """Files for requests to etcd: the authority, a client certificate and its key."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A member of etcd that joins the others, and must not start without its data afterwards.

    ``scripts/member.sh`` sees to this.
    """

    unit: str
    name: str
    peer: str
    """The member's peer URL."""
    ready: str
    """The URL of the member's readiness endpoint, which succeeds only with a quorum."""
    data: str
    """The member's data directory."""
    marker: str
    """The file that records that the member has answered."""
    once: str
    """The environment file with the flags for the member's start without data."""
    removed: str
    """The file that records that the other members have removed this member."""
    program: str
    """The path of etcdctl."""
    trust: tuple[str, str, str]
    """Files for requests to the other members: the authority, a client certificate and its key."""
    own: str
    """The client URL of the member for its own machine."""
    members: Mapping[str, str]
    """The names of all members to their peer URLs; etcd has no other members in the end."""
    founders: tuple[str, ...]
    """The members that may begin the cluster, with nothing in it. All others join members that
    run."""
    others: tuple[str, ...]
    """The client URLs of the other members."""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The files with keys that turn over on all control planes together (``scripts/walk.sh``).

    They are secret files of the step, as long as no key has turned over.
    """

    encryption: str
    """The path of the file with the key that encrypts Secrets in etcd."""
    signing: str
    """The path of the private key that signs service accounts' tokens."""
    checking: str
    """The path of the public keys with which these tokens are checked."""
    replaced: int
    """Seconds after which no token is in use any more that another key signed before."""
    unit: str
    """The API server's unit."""
    name: str
    """The control plane."""
    api: str
    """The URL of its own API server."""
    api_trust: tuple[str, str, str]
    """Files for requests to it: the authority, a client certificate that may get and update
    Secrets, its key."""
    program: str
    """The path of etcdctl."""
    etcd: tuple[str, ...]
    """The URLs of etcd's members."""
    etcd_trust: tuple[str, str, str]
    """Files for requests to etcd: the authority, a client certificate and its key."""
    planes: tuple[str, ...]
    """All control planes."""


@dataclass(frozen=True, kw_only=True)
class NotNewer:
    """A program that is replaced only once all API servers have a version.

    A kubelet must never be newer than they are; a container runtime follows them, so that no node
    is empty for longer than it must be.
    """

    program: Link
    version: str
    """The version that all API servers must report first, such as ``v1.37.1``."""
    servers: tuple[str, ...]
    """The URLs of all API servers."""
    kubeconfig: str
    """The path of the kubeconfig for requests to the API servers."""


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """Programs of a node before whose replacement its pods move to other nodes, in its turn."""

    node: str
    kubeconfig: str
    """The path of the kubelet's kubeconfig."""
    lookout: str
    """The path of a kubeconfig with which all nodes can be read."""
    programs: tuple[Link, ...]


# -- steps and plans -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a machine's installation that runs as one remote command."""

    name: str
    packages: tuple[str, ...] = ()
    """Debian packages that must be installed."""
    users: tuple[str, ...] = ()
    """System users that own some of the step's files; each has a group of the same name."""
    artifacts: tuple[Artifact, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    secret_files: tuple[SecretFile, ...] = ()
    logins: Logins | None = None
    links: tuple[Link, ...] = ()
    units: tuple[Unit, ...] = ()
    """Services that the step enables and starts, in this order."""
    not_newer: NotNewer | None = None
    """The version that all API servers must report before the step changes anything."""
    rolling: Rolling | None = None
    """What moves the node's pods before the step changes anything, in the node's turn."""
    membership: Membership | None = None
    """The member of etcd whose data the step checks before it writes files or starts a service."""
    walk: Walk | None = None
    """Which of the step's secret files have keys that turn over on all control planes."""
    turns: tuple[Turn, ...] = ()
    """Services that wait for their turn before the step restarts them."""
    keeps: tuple[str, ...] = ()
    """What another step or a script brings and the step's services need: it stays on the machine as
    long as this step does. Kind and path, such as ``link /etc/resolv.conf``."""
    masked: tuple[str, ...] = ()
    """Units of the distribution that must not run."""
    begin: str | None = None
    """The name, without ``.sh``, of a file in ``plan/scripts`` that runs before the step brings
    anything to the machine."""
    script: str | None = None
    """The name, without ``.sh``, of a file in ``plan/scripts`` that runs at the end of the step,
    for example to wait until the step's services are healthy."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Shell variables that the scripts read."""
    outcome: str = ""
    """What the step has achieved, for people: the last line that the step prints.

    The line remains beside the step's row. Empty for a step with keys, whose output is not shown.
    """
    admin: bool = False
    """Whether the step's script calls the API as the cluster's admin (``scripts/admin.sh``)."""
    alone: bool = True
    """Whether no other step may run on the machine meanwhile; False for a step that only calls the
    API."""

    @property
    def secret(self) -> bool:
        """Whether the step's data contain keys."""
        return bool(self.secret_files)


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """Everything that one machine must hold, in the order in which its steps run."""

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
        return (directory for step in self.steps for directory in step.directories)

    @property
    def units(self) -> Iterator[Unit]:
        return (unit for step in self.steps for unit in step.units)

    @property
    def artifacts(self) -> Iterator[Artifact]:
        return (artifact for step in self.steps for artifact in step.artifacts)
