"""The change of a single resource."""

from dataclasses import dataclass
from enum import StrEnum

from preview.registration import Registration


class Verb(StrEnum):
    """What happens to a resource, a machine, a step or a file."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    """A new resource is made and the old one deleted. A machine's disk is a separate resource."""
    DELETE = "delete"
    SAME = "same"


GONE = (Verb.REPLACE, Verb.DELETE)
"""The verbs after which the old resource no longer exists, with or without a successor."""


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """A resource before and after a change.

    A new resource has no ``before`` and a deleted resource has no ``after``.
    """

    verb: Verb
    before: Registration | None
    after: Registration | None
    keys: tuple[str, ...] = ()
    """The top-level inputs that differ, sorted; those that force a replacement come first."""

    @property
    def declared(self) -> Registration:
        """The resource as it will be or, where it is deleted, as it was."""
        side = self.after or self.before
        assert side is not None
        return side

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def kind(self) -> str:
        return self.declared.kind
