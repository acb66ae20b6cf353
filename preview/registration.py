"""A resource as the program declares it, read from a recorder or from the real engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
"""The value under the signature key of a secret's envelope (Pulumi: ``resource.SecretSig``)."""

HIDDEN = "[secret]"
"""Is shown in place of every secret, as in Pulumi's own previews."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A resource with its inputs and options; an option that is not set is None or empty."""

    kind: str
    """The type token, such as ``command:remote:Command``."""
    name: str
    custom: bool = True
    """Whether a provider makes the resource; a component only groups other resources."""
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """In camel case, as on the wire. A secret is in its envelope (``is_secret``)."""
    parent: str = ""
    """The name of the parent resource."""
    parent_kind: str = ""
    """The type token of the parent. People choose names, so two parents may have the same name."""
    dependencies: tuple[str, ...] = ()
    """The names of the resources on which this resource depends, sorted."""
    provider: str = ""
    """The name of the explicit provider; empty for the default provider or where none is known."""
    version: str = ""
    """The requested version of the provider's plugin."""
    deleted_with: str | None = None
    """The name of the resource whose deletion also ends this resource."""
    replacement_trigger: Any = None
    """A value whose change replaces the resource, such as the ID of another resource."""
    protect: bool = False
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    additional_secret_outputs: tuple[str, ...] = ()
    delete_before_replace: bool = False
    timeouts: Mapping[str, str] = field(default_factory=dict)
    """Durations such as ``300s`` by operation (``create``, ``update``, ``delete``)."""
    serialized: str = field(default="", compare=False, repr=False)
    """The provider of a dynamic resource as the engine keeps it, where a recorder saw it."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Identifies the resource within its program, by the same parts as the engine's URN."""
        return self.parent_kind, self.kind, self.name


def is_secret(value: Any) -> bool:
    """Whether a value from the wire is the envelope of a secret."""
    return isinstance(value, Mapping) and value.get(SIGNATURE) == SECRET


def enveloped(value: Any) -> dict[str, Any]:
    """A secret in its envelope, as on the wire."""
    return {SIGNATURE: SECRET, "value": value}


def opened(value: Any) -> Any:
    """A value from the wire with every secret taken out of its envelope."""
    if is_secret(value):
        return opened(value["value"])
    if isinstance(value, Mapping):
        return {key: opened(item) for key, item in value.items()}
    return [opened(item) for item in value] if isinstance(value, list) else value


def hidden(value: Any) -> Any:
    """A value from the wire with ``[secret]`` in place of every secret."""
    if is_secret(value):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: hidden(item) for key, item in value.items()}
    return [hidden(item) for item in value] if isinstance(value, list) else value
