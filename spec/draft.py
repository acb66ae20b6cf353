"""Reads the valid parts of a spec although other parts do not parse."""

from collections.abc import Mapping, Set
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, get_origin

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from spec.part import Part
from spec.refusal import key_text
from spec.shape import Spot, field_spot, model_for

_NOTHING = object()


def draft(model: type[Part], value: Mapping[Any, Any]) -> Any:
    """A model with the fields that parse; access to another field raises Unparsed."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in value:
            parsed = _field(model, name, value[name])
            if parsed is not _NOTHING:
                fields[name] = parsed
        elif not field.is_required():
            fields[name] = field.get_default(call_default_factory=True)
    return _with_fields(model, fields, given=fields.keys() & value.keys())


def _with_fields(model: type[Part], fields: dict[str, Any], given: Set[str] = frozenset()) -> Part:
    made = model.model_construct(set(given), **fields)
    for name in model.model_fields.keys() - fields.keys():
        made.__dict__.pop(name, None)  # its default would be false
    return made


def _field(model: type[Part], name: str, value: Any) -> Any:
    try:
        return _adapter(model, name).validate_python(value)
    except ValidationError:
        return _partly(field_spot(model, name), value)


def _partly(here: Spot, value: Any) -> Any:
    for note in here.notes:
        if isinstance(note, BeforeValidator):
            rewrite: Any = note.func
            try:
                value = rewrite(value)
            except ValueError:
                return _NOTHING
    if model := model_for(here, value):
        return draft(model, value)
    spot_of_items = here.of_each
    if (
        get_origin(here.allowed) is not dict
        or spot_of_items is None
        or not isinstance(value, Mapping)
    ):
        return _NOTHING
    if spot_of_items.models:
        (model,) = spot_of_items.models
        unread = _with_fields(model, {})
        return {
            key_text(key): draft(model, item) if isinstance(item, Mapping) else unread
            for key, item in value.items()
        }
    entries: dict[Any, Any] = {}
    for key, item in value.items():
        with suppress(ValidationError):
            entries |= _adapter_of(here.allowed).validate_python({key: item})
    return entries


@cache
def _adapter_of(allowed: Any) -> TypeAdapter[Any]:
    return TypeAdapter(allowed)


@cache
def _adapter(model: type[Part], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[(annotation, *field.metadata)]
    return TypeAdapter(annotation)
