"""Single items that a machine or the API must hold, with the states that were observed."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kind of an item, as messages for people name it."""

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
    ROLE = "role"
    LOGINS = "SSH keys that log in as"
    OBJECT = "object"


AS_KEPT = "as kept in the state"
"""Replaces the digest of a secret file's content, since that digest is kept secret."""

AS_VERIFIED = "as verified"
"""Replaces the digest of a program where only the digest of its archive is known."""

MISSING, OTHER_CONTENT = "missing", "other content"
"""The states of what is not there, and of content that is not shown."""

RUNS = "runs"
LEADS = "with a way to other nodes"
"""The state of a VXLAN device that connects its node to other nodes."""
RESTARTS = "is started again and again"
UNREAD = "with a unit file that systemd has not read"
"""Parts of the state of a service (with ``RUNS``); commas separate the parts."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item that a machine or the API must hold."""

    kind: Kind
    name: str
    """A path; the name of a unit, package, module, device or node; the key of a setting; the name
    of an artifact with its version; or an object of the API with its kind, namespace and name, and
    the path of one of its fields."""
    wanted: str
    """The state that the item must have, worded as an observation words it."""
    step: str
    """The step of the machine's plan that brings about this state."""
    path: str = ""
    """Of an artifact: its path. Of a role: the list of what its step brought. Of an object: its
    path in the API."""
    mark: str = ""
    """Of an artifact: the name of the note which records that its bytes were verified.
    Of a VXLAN device: the service that creates the device and its routes when the service starts.
    Of a Node object: the path of the kubeconfig with which the machine requests the object.
    Of SSH keys: what the cluster's lines in the user's list of keys end with."""
    needs: tuple[str, ...] = ()
    """Of a service: its unit file and the other files whose change restarts it."""

    @property
    def key(self) -> str:
        """Identifies the item among all items of its machine."""
        return f"{self.kind} {self.name}"


def described(content: str, mode: int, owner: str) -> str:
    """A file's content, mode and owner as one state, worded as it is compared."""
    return f"{content} {mode:04o} {owner}"


def digest(content: str) -> str:
    """The sha256 of a file with this content."""
    return hashlib.sha256(content.encode()).hexdigest()
