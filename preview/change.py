"""What becomes of each resource."""

from dataclasses import dataclass
from enum import StrEnum

from preview.registration import Registration


class Verb(StrEnum):
    """What is done with a resource, a machine, a step or a file."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    """Made anew, and the old one deleted. A machine's disk is a resource of its own."""
    DELETE = "delete"
    SAME = "same"


GONE = (Verb.REPLACE, Verb.DELETE)
"""What there was is no more, whether or not another one comes in its place."""


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """A resource before and after: a new one has no ``before``, a deleted one no ``after``."""

    verb: Verb
    before: Registration | None
    after: Registration | None
    keys: tuple[str, ...] = ()
    """The top-level inputs that differ, sorted; where it is replaced, first those that force it."""

    @property
    def declared(self) -> Registration:
        """As it will be, or as it last was."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def kind(self) -> str:
        return self.declared.kind
