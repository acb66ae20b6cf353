"""What the program of each golden cluster declares, as a change that makes it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from preview.change import ResourceChange, Verb
from preview.registration import Registration
from tests.declared import golden

MEMBERS = "available"
"""The one with several etcd members, apart from its control planes."""


def made(name: str) -> tuple[ResourceChange, ...]:
    """The change that makes the cluster."""
    return tuple(
        ResourceChange(verb=Verb.CREATE, before=None, after=resource) for resource in golden(name)
    )


def kept(name: str) -> tuple[ResourceChange, ...]:
    """The change that leaves it as it is."""
    return tuple(
        ResourceChange(verb=Verb.SAME, before=resource, after=resource) for resource in golden(name)
    )


Spoil = Callable[[Registration], Registration]


def spoiled(
    changes: Iterable[ResourceChange], resource: str, spoil: Spoil
) -> tuple[ResourceChange, ...]:
    """The change with one resource declared in another way."""
    return tuple(
        replace(change, after=spoil(change.declared))
        if change.name == resource and change.declared.custom
        else change
        for change in changes
    )


def gone(
    changes: Sequence[ResourceChange], kind: str, verb: Verb, *names: str
) -> tuple[ResourceChange, ...]:
    """The change in which resources of a kind are replaced or deleted as well."""
    assert set(names) <= {change.name for change in changes if change.kind.endswith(kind)}
    changed = []
    for change in changes:
        if change.kind.endswith(kind) and change.name in names:
            after = None if verb is Verb.DELETE else change.after
            change = replace(change, verb=verb, after=after)
        changed.append(change)
    return tuple(changed)


def with_inputs(**inputs: Any) -> Spoil:
    """Other inputs; None leaves one out."""

    def spoil(resource: Registration) -> Registration:
        all_of_them = {**resource.inputs, **inputs}
        return replace(resource, inputs={k: v for k, v in all_of_them.items() if v is not None})

    return spoil


def with_options(**options: Any) -> Spoil:
    """Other options."""
    return lambda resource: replace(resource, **options)
