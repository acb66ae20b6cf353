"""A mistake in a spec, told in one sentence."""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

WIDEST = 60
"""Characters of a value that are shown."""

_PASSWORD = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*@")
"""User and password in a URL."""


class SpecError(ValueError):
    """Everything that is wrong with a spec, one sentence a line."""


class Refusal(NamedTuple):
    """A field that is refused."""

    field: str
    """Dotted, as it is written in the spec, such as ``machines.master.memory``."""
    wrong: str
    """What is wrong with it, after the field's name."""
    breaks: str
    """What would come of it."""
    instead: str
    """What to write or to do."""

    def __str__(self) -> str:
        return f"{self.field} {self.wrong}, so {self.breaks}; {self.instead}"


def shown(value: Any) -> str:
    """A value on one line, cut off where it is long; nothing of a private key or a password."""
    if "PRIVATE KEY" in str(value):
        return "a private key"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError):  # keys that are no text, or a value inside itself
        text = str(value)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = _PASSWORD.sub("…@", text)
    if len(text) <= WIDEST:
        return text
    return f'{text[: WIDEST - 2]}…"' if text.startswith('"') else f"{text[: WIDEST - 1]}…"


def dotted(path: Iterable[object]) -> str:
    """A field's name; a key that is no plain word is quoted."""
    return ".".join(called(key) for key in path)


def key_text(key: object) -> str:
    """A mapping's key as YAML would have it written."""
    return str(key).lower() if key is None or isinstance(key, bool) else str(key)


def called(key: object) -> str:
    """A name in a sentence, quoted where it is no plain word."""
    text = key_text(key)
    plain = all(character.isalnum() or character in "-_/." for character in text)
    whole = bool(text) and text.strip(".") == text and ".." not in text and text.isprintable()
    return text if plain and whole and len(text) <= WIDEST else shown(text)


def listed(words: Iterable[object], last: str = "or") -> str:
    """``a, b or c``."""
    *others, end = [str(word) for word in words]
    return f"{', '.join(others)} {last} {end}" if others else end
