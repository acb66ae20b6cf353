"""Predicts what the engine does with each resource, from the registrations before and after."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from certs.digest import digest
from hypervisors.adapters import replaced_for
from preview.change import ResourceChange, Verb
from preview.kinds import BESIDE
from preview.registration import Registration, is_secret, opened

Identity = tuple[str, str, str]


def changes(
    before: Sequence[Registration], after: Sequence[Registration]
) -> tuple[ResourceChange, ...]:
    """The change of each resource of either side, in the order of declaration, deleted ones last.

    A replaced resource also replaces the resources that have its ID as their replacement trigger or
    in an input that cannot be updated. A replaced provider replaces the resources that it makes.
    """
    old = {registration.identity: registration for registration in before}
    replaced = _replaced(old, after)
    compared = [
        _change(old.get(registration.identity), registration, replaced) for registration in after
    ]
    kept = {registration.identity for registration in after}
    compared += [
        ResourceChange(verb=Verb.DELETE, before=registration, after=None)
        for registration in before
        if registration.identity not in kept
    ]
    return tuple(compared)


def differing(before: Any, after: Any) -> tuple[str, ...]:
    """The keys at which two mappings differ, sorted."""
    keys = before.keys() | after.keys()
    return tuple(sorted(key for key in keys if before.get(key) != after.get(key)))


def changed_inputs(before: Registration, after: Registration) -> tuple[str, ...]:
    """The inputs of a resource that differ, sorted, without those that ``BESIDE`` names."""
    beside = BESIDE.get(after.kind, frozenset())
    return tuple(
        key
        for key in differing(before.inputs, after.inputs)
        if key not in beside and not _digested(before.inputs.get(key), after.inputs.get(key))
    )


def _digested(before: Any, after: Any) -> bool:
    """Whether a value has become its digest, as in programs that keep no more than that.

    The provider's outputs are the same, so the engine sees no difference.
    """
    if is_secret(before) != is_secret(after):
        return False
    kept: object = opened(after)
    return digest(opened(before)) == kept


def _change(
    before: Registration | None, after: Registration, replaced: Mapping[Identity, tuple[str, ...]]
) -> ResourceChange:
    if before is None:
        return ResourceChange(verb=Verb.CREATE, before=None, after=after)
    keys = changed_inputs(before, after)
    if (forcing := replaced.get(after.identity)) is not None:
        keys = (*forcing, *(key for key in keys if key not in forcing))
        return ResourceChange(verb=Verb.REPLACE, before=before, after=after, keys=keys)
    verb = Verb.UPDATE if keys else Verb.SAME
    return ResourceChange(verb=verb, before=before, after=after, keys=keys)


def _replaced(
    old: Mapping[Identity, Registration], after: Iterable[Registration]
) -> dict[Identity, tuple[str, ...]]:
    """The identities of the replaced resources, with the inputs that force the replacement.

    A resource is declared after those that it depends on, so one pass is enough.
    """
    replaced: dict[Identity, tuple[str, ...]] = {}
    identifiers: set[str] = set()
    providers: set[str] = set()
    for registration in after:
        if (before := old.get(registration.identity)) is None:
            continue
        fixed = replaced_for(registration.kind) | {
            path.partition("[")[0] for path in registration.replace_on_changes
        }
        forcing = [key for key in differing(before.inputs, registration.inputs) if key in fixed]
        forcing += [
            key for key in sorted(fixed) if _made_of(registration.inputs.get(key), identifiers)
        ]
        again = (
            _made_of(registration.replacement_trigger, identifiers)
            or registration.provider in providers
        )
        if forcing or again:
            replaced[registration.identity] = tuple(dict.fromkeys(forcing))
            if registration.kind.startswith("pulumi:providers:"):
                providers.add(registration.name)
            elif registration.custom:
                identifiers.add(f"{registration.kind}/{registration.name}")
    return replaced


def _made_of(value: Any, identifiers: set[str]) -> bool:
    """Whether a value contains one of these IDs, which the recorder has given to resources."""
    if isinstance(value, str):
        return value in identifiers
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, list) and any(_made_of(item, identifiers) for item in value)
