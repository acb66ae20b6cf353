"""The parts of a rule, and the facts about a change that a rule may need."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from preview.change import ResourceChange
from preview.registration import HIDDEN, is_secret

Changes = Sequence[ResourceChange]

Violations = Iterable[tuple[str, str]]
"""Pairs of a resource's name, empty for the cluster as a whole, and a sentence."""

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Is in place of a value that only the update will know (Pulumi: ``UnknownStringValue``)."""

_UNKNOWNS = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""The stand-ins for unknown texts, booleans, numbers, lists and mappings."""


class Fact(StrEnum):
    """A fact about a change that some sources of changes cannot give.

    A rule is checked only where all facts that it needs are known, since a missing fact must not
    look like a missing option.
    """

    SECRECY = "which values are secret"
    DELETED_WITH = "with which resource another dies"
    LIMITS = "how long an operation may take"
    HIDDEN_OUTPUTS = "which outputs are made secret"
    VERSIONS = "the version of each plugin"
    BEFORE = "what was there before"


def known_facts(changes: Changes) -> frozenset[Fact]:
    """The facts that any of these changes has; the source of the changes cannot give the others."""
    there = [change.after for change in changes if change.after is not None]
    facts = {
        Fact.SECRECY: any(
            is_secret(value) for resource in there for value in resource.inputs.values()
        ),
        Fact.DELETED_WITH: any(resource.deleted_with for resource in there),
        Fact.LIMITS: any(resource.timeouts for resource in there),
        Fact.HIDDEN_OUTPUTS: any(resource.additional_secret_outputs for resource in there),
        Fact.VERSIONS: any(resource.version for resource in there),
        Fact.BEFORE: True,
    }
    return frozenset(fact for fact, is_there in facts.items() if is_there)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition that every change must fulfil."""

    name: str
    why: str
    """One sentence: the reason for the rule."""
    judge: Callable[[Changes], Violations]
    needs: frozenset[Fact] = frozenset()


def inside(value: Any) -> Any:
    """A value from the wire without its secret envelope; ``UNKNOWN`` where the value is hidden."""
    within = value.get("value", UNKNOWN) if is_secret(value) else value
    return UNKNOWN if within == HIDDEN else within


def is_unknown(value: Any) -> bool:
    """Whether this value is hidden or known only to the update."""
    return isinstance(value, str) and value in _UNKNOWNS
