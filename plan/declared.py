"""Objects of the API as they are declared, and what of an object that is there differs from that.

Server-side apply notes in ``metadata.managedFields`` who set which field of an object (Kubernetes'
documentation, "Server-Side Apply"; the format is FieldsV1 of k8s.io/apimachinery). Whoever gives a
field another value takes it from its owner, so a field that is still the program's is as the
program applied it. Fields that only others set are not compared.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plan.held import Difference
from plan.item import AS_KEPT, MISSING, OTHER_CONTENT, Item, Kind
from plan.objects import Manifest

STEP = "add-ons-apply"
"""The step that applies the objects."""

MANAGER = "hardway"
"""The field manager of ``scripts/admin.sh``."""

DECLARED = "as declared"
"""The wanted state of what is not shown."""

SHORT = 80
"""Characters: longer texts are not shown."""

CONTENT = frozenset({"annotations", "args", "command", "data", "env"})
"""Fields whose texts are not shown, since a person may write a password there."""

_ABSENT = object()
"""Stands for a value that is not there, which ``None`` would not: it is a value in JSON."""


@dataclass(frozen=True, kw_only=True)
class DeclaredObject:
    """An object as the step applies it."""

    path: str
    """Its path in the API."""
    manifest: Manifest
    """The object, with ``AS_KEPT`` in the place of each key and certificate."""

    @property
    def name(self) -> str:
        """Kind, namespace and name, for people."""
        metadata = self.manifest["metadata"]
        inside = f"{metadata['namespace']}/" if "namespace" in metadata else ""
        return f"{self.manifest['kind']} {inside}{metadata['name']}"


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What a manager set of a part of an object."""

    manager: str
    time: str
    """When the manager last set anything of the object; empty for a change of its scale."""
    is_ours: bool
    fields: Mapping[str, Any]
    """What it set inside this part: steps to what it set there. A step is ``f:`` and the name of a
    field, ``k:`` and the keys of an element of a list, or ``v:`` and a value of a set. Empty for a
    part that has only one owner as a whole."""


_Path = tuple[str, ...]
_Differing = tuple[_Path, Any, Any, Sequence[_Claim]]
"""Where a value differs, the wanted and the observed value, and whose the observed one is."""


def differences(declared: DeclaredObject, live: Manifest | None) -> tuple[Difference, ...]:
    """What differs from the declared object; ``live`` is None where the API has no such object."""
    if live is None:
        return (Difference(item=_item(declared, (), DECLARED), observed=MISSING),)
    return tuple(
        Difference(
            item=_item(declared, path, _wanted(wanted, path)),
            observed=_observed(wanted, observed, path, claims),
        )
        for path, wanted, observed, claims in _differing(
            _without_identity(declared.manifest), live, tuple(_claims(live)), ()
        )
    )


def _item(declared: DeclaredObject, path: _Path, wanted: str) -> Item:
    name = " ".join(filter(None, (declared.name, "".join(path).lstrip("."))))
    return Item(kind=Kind.OBJECT, name=name, wanted=wanted, step=STEP, path=declared.path)


def _without_identity(manifest: Manifest) -> Manifest:
    """The fields that managers set, without those by which the API knows the object."""
    metadata = {
        name: value
        for name, value in manifest["metadata"].items()
        if name not in ("name", "namespace")
    }
    rest = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}
    return {**rest, "metadata": metadata}


def _claims(live: Manifest) -> Iterator[_Claim]:
    for entry in live["metadata"].get("managedFields", ()):
        yield _Claim(
            manager=entry.get("manager", ""),
            time=entry.get("time", ""),
            is_ours=entry.get("manager") == MANAGER and entry.get("operation") == "Apply",
            fields=entry.get("fieldsV1", {}),
        )


# -- comparing -----------------------------------------------------------------------------------


def _differing(
    wanted: Any, live: Any, claims: Sequence[_Claim], path: _Path
) -> Iterator[_Differing]:
    """The innermost values that are not as wanted and have owners of their own."""
    steps = {step for claim in claims for step in claim.fields}
    kinds = {step[:2] for step in steps}
    has_parts = "f:" in kinds or not claims
    if isinstance(wanted, Mapping) and isinstance(live, Mapping) and has_parts:
        for name, value in wanted.items():
            inside = _within(claims, f"f:{name}")
            yield from _differing(value, live.get(name, _ABSENT), inside, (*path, _field(name)))
    elif isinstance(wanted, list) and isinstance(live, list) and "k:" in kinds:
        keys = {step: json.loads(step[2:]) for step in sorted(steps) if step.startswith("k:")}
        for element in wanted:
            key = _key_of(element, keys)
            inside = tuple(
                claim for step in keys if _has(keys[step], key) for claim in _within(claims, step)
            )
            observed = next((row for row in live if _has(row, key)), _ABSENT)
            label = f"[{','.join(map(str, key.values()))}]"
            yield from _differing(element, observed, inside, (*path, label))
    elif isinstance(wanted, list) and isinstance(live, list) and "v:" in kinds:
        yield from (
            ((*path, f"[{value}]"), value, _ABSENT, ()) for value in wanted if value not in live
        )
    elif not _is_as_wanted(wanted, live, is_ours=any(claim.is_ours for claim in claims)):
        yield path, wanted, live, [claim for claim in claims if not claim.is_ours]


def _within(claims: Sequence[_Claim], step: str) -> tuple[_Claim, ...]:
    return tuple(
        replace(claim, fields=claim.fields[step]) for claim in claims if step in claim.fields
    )


def _key_of(element: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What identifies an element of such a list, without what the manifest leaves to the API."""
    names = next(iter(keys.values()))
    return {name: element[name] for name in names if name in element}


def _has(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    return all(row.get(name) == value for name, value in key.items())


def _is_as_wanted(wanted: Any, live: Any, *, is_ours: bool) -> bool:
    """Whether a value is as wanted.

    Of our own values we know that nobody changed them since they were applied. They are compared
    all the same, since a restored backup of etcd brings older ones back together with their owners,
    and without what the API adds to them. Nobody compares keys and certificates, whose owner alone
    counts.
    """
    if wanted == AS_KEPT:
        return is_ours and live is not _ABSENT
    return _contains(live, wanted) if is_ours else bool(live == wanted)


def _contains(live: Any, wanted: Any) -> bool:
    """Whether a value is as wanted but for defaults that the API adds, and zeros that it omits."""
    if live is _ABSENT:
        return not wanted
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            _contains(live.get(name, _ABSENT), value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(map(_contains, live, wanted))
        )
    return wanted == AS_KEPT or bool(live == wanted)


# -- for people ----------------------------------------------------------------------------------


def _field(name: str) -> str:
    """A field in the text of a path; labels and files have dots in their names."""
    return f"[{name}]" if "." in name or "/" in name else f".{name}"


def _wanted(value: Any, path: _Path) -> str:
    return AS_KEPT if value == AS_KEPT else _shown(value, path) or DECLARED


def _observed(wanted: Any, value: Any, path: _Path, claims: Sequence[_Claim]) -> str:
    if value is _ABSENT:
        return MISSING
    shown = (wanted != AS_KEPT and _shown(value, path)) or OTHER_CONTENT
    if not claims:
        return shown
    names = " and ".join(sorted({claim.manager for claim in claims}))
    time = max(claim.time for claim in claims)
    return f"{shown} (set by {names}{time and f' at {time}'})"


def _shown(value: Any, path: _Path) -> str | None:
    """A value as people may read it; None for a value that is not shown."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str) or not 0 < len(value) <= SHORT or "\n" in value:
        return None
    return None if any(step.lstrip(".") in CONTENT for step in path) else value
