"""Reads a stack's file, ``Pulumi.<stack>.yaml``, with the configuration for the Pulumi program."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spec import bucket_key, passwords
from spec.document import load_yaml
from spec.refusal import SpecError, called, dotted

PROJECT = "hardway"
"""The project's name in Pulumi, which is the namespace of each key without one."""

CLUSTER = f"{PROJECT}:cluster"

_ODD = re.compile("\ufeff|\r(?!\n)")
"""A byte order mark inside the text, or a carriage return that is not part of a line's end."""

FROM_A_COPY = "write one, starting from a copy of Pulumi.dev.yaml"


def configuration(file: Path) -> dict[str, Any]:
    """Each key of a stack's configuration with its value, as Pulumi gives it to the program.

    Raises SpecError with one line for each mistake. A mistake is a text that Pulumi refuses, or
    that Pulumi gives the program as another value than the text suggests.
    """
    name = file.name
    whole = load_yaml(text_of(file), name)
    if whole is None:
        return {}
    if not isinstance(whole, Mapping):
        raise SpecError(f"{name} is no mapping, so it is no stack's file; {FROM_A_COPY}")
    config = whole.get("config")
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise SpecError(f"{name}: config is no mapping, so no key has a value; {FROM_A_COPY}")
    values: dict[str, Any] = {}
    for written, value in config.items():
        key = _key(written, name)
        if key in values:
            raise SpecError(
                f"{name}: config has {key} under two names, so one of the two would be lost; write "
                "it once"
            )
        if value is not None:
            values[key] = value if isinstance(value, str) else _through_json(value)
    for beside in (passwords, bucket_key):
        for refusal in beside.refused_plain(values.get(beside.FULL_KEY)):
            raise SpecError(f"{name}: {refusal}")
    for path in _secrets(values.get(CLUSTER), (CLUSTER,)):
        raise SpecError(
            f"{name}: {dotted(path)} is a secret, so nobody sees what it changes; write it as it "
            "is, without --secret"
        )
    return values


def text_of(file: Path) -> str:
    """The text of a stack's file. Raises SpecError where it is not UTF-8 or has odd characters."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{file.name} is no UTF-8 text in line {line}, so it cannot be read; save it as UTF-8"
        ) from None
    if odd := _ODD.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise SpecError(
            f"{file.name} has the character U+{ord(odd[0]):04X} in line {line}, so programs do not "
            "agree where a line of it begins; take it out"
        )
    return text


def _key(written: str, file: str) -> str:
    """A key with its namespace (Pulumi's ``config.ParseKey``)."""
    match written.split(":"):
        case [name]:
            return f"{PROJECT}:{name}"
        case [namespace, name] | [namespace, "config", name]:
            return f"{namespace}:{name}"
    raise SpecError(
        f"{file}: config.{called(written)} is no key to Pulumi, so it reads no file with it; write "
        "NAMESPACE:NAME"
    )


def _through_json(value: Any) -> Any:
    """A value after conversion to JSON and back, with sorted keys, as Pulumi does it."""
    return json.loads(json.dumps(value, sort_keys=True))


def _secrets(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of values that ``pulumi config set --secret`` has written."""
    if isinstance(value, Mapping):
        if value.keys() == {"secure"} and isinstance(value["secure"], str):
            yield path
        for key, item in value.items():
            yield from _secrets(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _secrets(item, (*path, str(number)))
