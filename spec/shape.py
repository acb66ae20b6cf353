"""Walks the models of a spec along the path of a value."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from spec.part import Expected, Part
from spec.refusal import listed

_SIMPLE = {
    int: "a whole number",
    bool: "true or false",
    str: "text, in quotes",
    IPv4Address: "an IPv4 address such as 192.168.1.10",
    IPv4Network: "an IPv4 network such as 192.168.1.0/24",
}


@dataclass(frozen=True)
class Spot:
    """The type that a spec allows in one place, without its annotations and without None."""

    allowed: Any
    """The type."""
    notes: tuple[Any, ...] = ()
    """The annotations."""

    @property
    def expected(self) -> str:
        """A description of valid values."""
        descriptions = [note.text for note in self.notes if isinstance(note, Expected)]
        if descriptions:
            return descriptions[-1]
        if choices := self.choices:
            return listed(choices)
        if models := self.models:
            return f"a mapping with {listed(models[0].model_fields, 'and')}"
        if get_origin(self.allowed) in (tuple, frozenset):
            return "a list"
        return _SIMPLE.get(self.allowed, "a mapping") + self._limits

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values of a literal or enumeration; else empty."""
        if get_origin(self.allowed) is Literal:
            return tuple(str(choice) for choice in get_args(self.allowed))
        if isinstance(self.allowed, type) and issubclass(self.allowed, Enum):
            return tuple(str(choice.value) for choice in self.allowed)
        return ()

    @property
    def models(self) -> tuple[type[Part], ...]:
        """The model, or the models that ``kind`` distinguishes."""
        options = get_args(self.allowed) if _is_union(self.allowed) else (self.allowed,)
        return tuple(
            option for option in options if isinstance(option, type) and issubclass(option, Part)
        )

    @property
    def of_each(self) -> "Spot | None":
        """The place of a mapping's values or a list's items; None for other types."""
        arguments = get_args(self.allowed)
        if get_origin(self.allowed) is dict:
            return spot(arguments[1])
        return spot(arguments[0]) if get_origin(self.allowed) in (tuple, frozenset) else None

    def of_kind(self, kind: Any) -> "Spot | None":
        """The place for the model of this kind; None where there is no choice or no such kind."""
        named = dict(zip(self.kinds, self.models, strict=True)) if len(self.models) > 1 else {}
        return Spot(named[kind]) if isinstance(kind, str) and kind in named else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The ``kind`` of each of several models."""
        fields = (model.model_fields["kind"] for model in self.models)
        return tuple(get_args(field.annotation)[0] for field in fields)

    @property
    def _limits(self) -> str:
        ends = {name: getattr(note, name) for note in self.notes for name in _ends(note)}
        return f" from {ends['ge']} to {ends['le']}" if len(ends) == 2 else ""


def _ends(note: Any) -> list[str]:
    return [name for name in ("ge", "le") if getattr(note, name, None) is not None] + [
        name for part in getattr(note, "metadata", ()) for name in _ends(part)
    ]


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def spot(annotation: Any, notes: tuple[Any, ...] = ()) -> Spot:
    """The place that a type annotation describes."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return spot(inner, (*more, *notes))
    if _is_union(annotation):
        options = [option for option in get_args(annotation) if option is not type(None)]
        if len(options) == 1:
            return spot(options[0], notes)
        return Spot(Union[tuple(options)], notes)  # noqa: UP007
    return Spot(annotation, notes)


def field_spot(model: type[Part], name: str) -> Spot:
    """The place that a field of a model describes."""
    field = model.model_fields[name]
    return spot(field.annotation, tuple(field.metadata))


def follow(model: type[Part], path: tuple[Any, ...]) -> tuple[tuple[Any, ...], Spot | None]:
    """The path as written in a spec, and the place at its end (None where nothing is allowed).

    ``path`` is that of a pydantic error, which contains the kind of a model like a key.
    """
    here: Spot | None = Spot(model)
    written: list[Any] = []
    for step in path:
        narrowed = here.of_kind(step) if here else None
        if narrowed:
            here = narrowed
            continue
        if not (here and get_origin(here.allowed) is frozenset):  # a set's items have no index
            written.append(step)
        here = _into(here, step)
    return tuple(written), here


def _into(here: Spot | None, step: Any) -> Spot | None:
    if here is None:
        return None
    if len(here.models) == 1:
        (model,) = here.models
        return field_spot(model, step) if step in model.model_fields else None
    return here.of_each


def model_for(here: Spot, value: Any) -> type[Part] | None:
    """The model for a value; None where the value is no mapping or its kind is unknown."""
    if not isinstance(value, Mapping):
        return None
    if len(here.models) > 1:
        chosen = here.of_kind(value.get("kind"))
        return chosen.models[0] if chosen else None
    return here.models[0] if here.models else None
