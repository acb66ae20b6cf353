"""Adds entries to a mapping in a stack's file; comments and all other lines stay as they are."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.cache import write_atomically
from lab.problem import Problem
from spec.configuration import CLUSTER, PROJECT, configuration, text_of
from spec.refusal import SpecError, dotted

CLUSTER_KEYS = (CLUSTER, CLUSTER.partition(":")[2], f"{PROJECT}:config:cluster")
"""The forms in which a stack's file may have the key of the cluster."""

STEP = 2
"""The spaces by which a new mapping is indented, where the file shows no habit of its own."""


def add_entries(file: Path, path: Sequence[str], entries: Mapping[str, str]) -> None:
    """Add entries to the mapping at a path below ``hardway:cluster``, which is made where missing.

    The parent of the mapping must be there. Raises a Problem, and leaves the file as it is, where
    the result would not be the old value with the new entries, as with aliases.
    """
    text = text_of(file)
    wanted = _with_entries(configuration(file), path, entries)
    try:
        changed = edited(text, path, entries)
        if _read(changed, file) == wanted:
            mode = file.stat().st_mode & 0o777
            write_atomically(file.resolve(), changed.encode(), mode=mode)
            return
    except (_CannotEdit, SpecError):
        pass
    lines = "; ".join(f"{key}: {value}" for key, value in entries.items())
    raise Problem(
        f"{file.name} has {dotted(path)} in a form that this program does not edit",
        f"write there yourself: {lines}",
    )


class _CannotEdit(Exception):
    """The mapping is not where it is looked for."""


def _with_entries(
    values: dict[str, Any], path: Sequence[str], entries: Mapping[str, str]
) -> dict[str, Any]:
    """The values of a stack's file with new entries at a path."""
    *parents, last = path
    parent = values[CLUSTER]
    for name in parents:
        parent = parent[name]
    parent[last] = {**(parent.get(last) or {}), **entries}
    return values


def _read(text: str, file: Path) -> dict[str, Any]:
    """The values of a text in the place of a stack's file. Raises SpecError."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / file.name
        scratch.write_text(text)
        return configuration(scratch)


def edited(text: str, path: Sequence[str], entries: Mapping[str, str]) -> str:
    """The text of a stack's file with new entries in the mapping at a path."""
    *parents, last = path
    node = _value(_value(yaml.compose(text, Loader=yaml.SafeLoader), "config"), *CLUSTER_KEYS)
    for name in parents:
        node = _value(node, name)
    if not isinstance(node, yaml.MappingNode):
        raise _CannotEdit
    there = next((pair for pair in node.value if pair[0].value == last), None)
    if there is None:
        return _with_mapping(text, node, last, entries)
    key, value = there
    if isinstance(value, yaml.MappingNode) and value.value:
        return _with_more(text, value, entries)
    # An empty mapping or no value at all: the key is written anew, with its entries.
    end = value.end_mark.index if value.end_mark.index > key.end_mark.index else key.end_mark.index
    colon = text.index(":", key.end_mark.index) + 1
    end = max(end, colon)
    if node.flow_style:
        return f"{text[:colon]} {_flow(entries)}{text[end:]}"
    rest = text[end:].partition("\n")[0]
    below = _block(entries, key.start_mark.column + _habit(node))
    after = end + len(rest)
    return f"{text[:colon]}{rest.rstrip() and '  ' + rest.strip()}\n{below.rstrip()}{text[after:]}"


def _value(node: yaml.Node | None, *names: str) -> yaml.Node:
    """The value of one of these keys in a mapping."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in names:
            return value  # type: ignore[no-any-return]
    raise _CannotEdit


def _with_more(text: str, mapping: yaml.MappingNode, entries: Mapping[str, str]) -> str:
    """The text with entries behind those of a mapping that has some."""
    last = mapping.value[-1]
    if mapping.flow_style:
        end = last[1].end_mark.index
        return f"{text[:end]}, {_flow(entries)[1:-1]}{text[end:]}"
    return _inserted(text, mapping, _block(entries, last[0].start_mark.column))


def _with_mapping(
    text: str, parent: yaml.MappingNode, name: str, entries: Mapping[str, str]
) -> str:
    """The text with a new mapping behind the entries of its parent, which has some."""
    last = parent.value[-1]
    if parent.flow_style:
        end = last[1].end_mark.index
        return f"{text[:end]}, {name}: {_flow(entries)}{text[end:]}"
    column = last[0].start_mark.column
    below = _block(entries, column + _habit(parent))
    return _inserted(text, parent, f"{' ' * column}{name}:\n{below}")


def _inserted(text: str, mapping: yaml.MappingNode, lines: str) -> str:
    """The text with lines below the last line of a mapping."""
    leaf: yaml.Node = mapping
    while isinstance(leaf, yaml.CollectionNode) and leaf.value and not leaf.flow_style:
        entry = leaf.value[-1]
        leaf = entry[1] if isinstance(entry, tuple) else entry
    end = leaf.end_mark.index
    # A text over several lines ends at the beginning of the line below it.
    if text[:end].endswith("\n"):
        return text[:end] + lines + text[end:]
    below = text.find("\n", end) + 1
    return text[:below] + lines + text[below:] if below else f"{text}\n{lines}"


def _habit(mapping: yaml.MappingNode) -> int:
    """By how many spaces the file indents a mapping below another one."""
    for key, value in mapping.value:
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            below: int = value.value[0][0].start_mark.column
            return max(below - int(key.start_mark.column), 1)
    return STEP


def _block(entries: Mapping[str, str], column: int) -> str:
    return "".join(f"{' ' * column}{key}: {_scalar(text)}\n" for key, text in entries.items())


def _flow(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(text)}" for key, text in entries.items()) + "}"


def _scalar(text: str) -> str:
    """A text as YAML, in quotes where it is not plainly a text."""
    return text if re.fullmatch(r"[a-z][a-zA-Z0-9+/=@. -]*", text) else json.dumps(text)
