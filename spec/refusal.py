"""A mistake in a spec, described in one sentence."""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

WIDEST = 60
"""The most characters of a value that are shown."""

_PASSWORD = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*@")
"""User and password in a URL."""


class SpecError(ValueError):
    """The mistakes in a spec, one sentence on each line."""


class Refusal(NamedTuple):
    """The refusal of a field's value."""

    field: str
    """The dotted path of the field in the spec, such as ``machines.master.memory``."""
    wrong: str
    """The mistake, worded to follow the field's name."""
    breaks: str
    """The effect that the mistake would have."""
    instead: str
    """The correction: what to write or do instead."""

    def __str__(self) -> str:
        return f"{self.field} {self.wrong}, so {self.breaks}; {self.instead}"


def shown(value: Any) -> str:
    """A value on one line, shortened if it is long, without private keys and passwords in URLs."""
    if "PRIVATE KEY" in str(value):
        return "a private key"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError):  # keys that are no text, or a value that contains itself
        text = str(value)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = _PASSWORD.sub("…@", text)
    if len(text) <= WIDEST:
        return text
    return f'{text[: WIDEST - 2]}…"' if text.startswith('"') else f"{text[: WIDEST - 1]}…"


def dotted(path: Iterable[object]) -> str:
    """The dotted path of a field; a key that is not a plain word is quoted."""
    return ".".join(called(key) for key in path)


def key_text(key: object) -> str:
    """The key of a mapping as YAML writes it."""
    return str(key).lower() if key is None or isinstance(key, bool) else str(key)


def called(key: object) -> str:
    """A name for use in a sentence, quoted if it is not a plain word."""
    text = key_text(key)
    plain = all(character.isalnum() or character in "-_/." for character in text)
    whole = bool(text) and text.strip(".") == text and ".." not in text and text.isprintable()
    return text if plain and whole and len(text) <= WIDEST else shown(text)


def listed(items: Iterable[object], last: str = "or") -> str:
    """The words as a list, such as ``a, b or c``."""
    *others, end = [str(item) for item in items]
    return f"{', '.join(others)} {last} {end}" if others else end
