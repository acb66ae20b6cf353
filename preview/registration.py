"""One resource as the program declares it, whoever was asked: a recorder or the real engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
"""The value under the signature key of a secret's envelope (Pulumi: ``resource.SecretSig``)."""

HIDDEN = "[secret]"
"""Stands for every secret in what is shown, as in Pulumi's own previews."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A resource with its inputs and options; an option is None where nobody says it."""

    kind: str
    """The type token, such as ``command:remote:Command``."""
    name: str
    custom: bool = True
    """Whether a provider makes it; a component only groups others."""
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Camel case, as on the wire. A secret is in its envelope (``is_secret``)."""
    parent: str = ""
    """Name of the resource that it is a child of."""
    parent_kind: str = ""
    """Type token of that resource: names alone are chosen by people, and may be the same."""
    dependencies: tuple[str, ...] = ()
    """Names of the resources that it comes after, sorted."""
    provider: str = ""
    """Name of the explicit provider; empty where it is the default one or nobody says it."""
    version: str = ""
    """Of the plugin that is asked for."""
    deleted_with: str | None = None
    """Name of the resource with which it dies."""
    replacement_trigger: Any = None
    """A value with whose change it is made anew, such as the ID of another resource."""
    protect: bool = False
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    additional_secret_outputs: tuple[str, ...] = ()
    delete_before_replace: bool = False
    timeouts: Mapping[str, str] = field(default_factory=dict)
    """``create``, ``update``, ``delete`` to a duration such as ``300s``."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from all others of its program, as in the engine's own name (URN) of it."""
        return self.parent_kind, self.kind, self.name


def is_secret(value: Any) -> bool:
    """Whether a wire value is a secret's envelope."""
    return isinstance(value, Mapping) and value.get(SIGNATURE) == SECRET


def hidden(value: Any) -> Any:
    """A wire value with ``[secret]`` in the place of every secret."""
    if is_secret(value):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: hidden(one) for key, one in value.items()}
    return [hidden(one) for one in value] if isinstance(value, list) else value
