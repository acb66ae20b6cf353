"""Generates the tables of keys in ``docs/configuration.md`` from the models."""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from spec.artifacts import artifact_rows
from spec.change import FIXED
from spec.description import Description
from spec.network import RESERVED_PORTS
from spec.part import LeftOut, Part, Text
from spec.refusal import listed
from spec.shape import Spot, field_spot, spot
from spec.versions import catalogue

BEGIN = "<!-- From here on `make docs` writes, from the models in spec/. -->"
END = "<!-- To here. -->"

TEXT = spot(Text).expected


class SettingRow(NamedTuple):
    """A row of the table for a key. Every text is Markdown."""

    key: str
    """The path of the key, with ``<name>`` for a machine's name and ``[]`` for a list's item."""
    write: str
    left_out: str
    meaning: str


class Section(NamedTuple):
    """A mapping of the configuration, or one of the kinds that it can have."""

    title: str
    about: str
    rows: tuple[SettingRow, ...]


def with_tables(document: str) -> str:
    """The document with new tables between its two marks. Raises ValueError without the marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no place for the tables: {BEGIN} … {END}")
    return "\n\n".join([before + begin, *map(_table, sections()), end + after])


def sections() -> tuple[Section, ...]:
    """A section for each model, at the path where the model is nested least.

    The sections of a top-level key's models are adjacent.
    """
    ordered: list[tuple[int, Section]] = []
    seen: set[type[Part]] = set()
    spots = [("", Spot(Description), 0)]
    for path, here, order in spots:  # the list grows: deepest places come last
        for model in here.models:
            if model in seen:
                continue
            seen.add(model)
            prefix = f"{path}." if path else ""
            rows = tuple(_row(f"{prefix}{name}", model, name) for name in model.model_fields)
            ordered.append((order, Section(_title(path, here, model), _about(model), rows)))
            for number, name in enumerate(model.model_fields, 1):
                inner, suffix = _inside(field_spot(model, name))
                spots.append((f"{prefix}{name}{suffix}", inner, order or number))
    return tuple(section for _, section in sorted(ordered, key=lambda pair: pair[0]))


def _inside(here: Spot) -> tuple[Spot, str]:
    """The place of a mapping's values or a list's items, and the suffix of their path."""
    items = here.of_each
    if items is None:
        return here, ""
    return items, ".<name>" if get_origin(here.allowed) is dict else "[]"


def _title(path: str, here: Spot, model: type[Part]) -> str:
    if len(here.models) > 1:
        kind = here.kinds[here.models.index(model)]
        return f"`{path}` of the kind `{kind}`"
    return f"`{path}`" if path else "The cluster"


def _about(model: type[Part]) -> str:
    return _markdown(model.__doc__ or "")


def _row(key: str, model: type[Part], name: str) -> SettingRow:
    field = model.model_fields[name]
    here = field_spot(model, name)
    return SettingRow(
        key=f"`{key}`",
        write=_only_data_says(key) or _write(here),
        left_out=_left_out(field, here),
        meaning=" ".join([_markdown(field.description or ""), *_rules(key)]),
    )


def _only_data_says(key: str) -> str:
    """The allowed values of keys whose values a data file of this folder defines, not a model."""
    if key == "kubernetes":
        return f"{listed(f'`{versions.kubernetes}`' for versions in catalogue())}, in quotes"
    if key == "etcd.version":
        rows = {versions.etcd: None for versions in catalogue()}
        return f"{listed(f'`{version}`' for version in rows)}, in quotes"
    if key == "artifacts.digests":
        names = listed(f"`{row.name}`" for row in artifact_rows())
        return f"a mapping; `<name>` is {names}, `<version>` as in `spec/versions.yaml`"
    return ""


def _rules(key: str) -> Iterator[str]:
    """Sentences about a key that come from other tables of the code."""
    if key in ("flannel.port", "hypervisor.port"):
        yield f"The components' ports are {listed(RESERVED_PORTS, 'and')}."
    if key in FIXED:
        yield "A living cluster keeps it."


def _write(here: Spot) -> str:
    items = here.of_each
    if len(here.models) > 1:
        return f"a mapping of the kind {listed(f'`{kind}`' for kind in here.kinds)}"
    if here.models:
        return "a mapping"
    if here.choices and here.of_each is None:
        return listed(f"`{choice}`" for choice in here.choices)
    if here.expected == "a list" and items:
        return f"a list, each item {_write(items)}"
    if get_origin(here.allowed) is dict and items:
        return f"a mapping of {_write(spot(get_args(here.allowed)[0]))} to {_write(items)}"
    # Only a refusal demands quotes, since the refused value was no text without them.
    expected = "text" if here.allowed is str and here.expected == TEXT else here.expected
    return _cell(expected + "".join(_limits(here)))


def _limits(here: Spot) -> Iterator[str]:
    for note in here.notes:
        for limit in (note, *getattr(note, "metadata", ())):
            if most := getattr(limit, "max_length", None):
                yield f", at most {most} characters"
            if pattern := getattr(limit, "pattern", None):
                yield f", as `{pattern}`"


def _left_out(field: FieldInfo, here: Spot) -> str:
    for note in here.notes:
        if isinstance(note, LeftOut):
            return note.text
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Part):
        return "its keys' defaults"
    if value in (None, (), {}, ""):
        return "none"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    plain = value if isinstance(value, bool | int) else str(value)
    return yaml.safe_dump(plain, explicit_end=False).partition("\n")[0]


def _markdown(text: str) -> str:
    """A docstring as a single line for a table's cell."""
    return _cell(" ".join(text.split()).replace("``", "`"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(section: Section) -> str:
    rows = [("key", "what to write", "left out", "meaning"), ("---",) * 4, *section.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n\n".join([f"## {section.title}", section.about, "\n".join(lines)])
