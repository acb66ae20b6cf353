"""What a sentence that refuses a spec must be like, looked at from outside."""

import re
from functools import cache
from typing import Any

from spec.cluster import Cluster, SpecError, parse

QUOTED = r'"(?:\\.|[^"\\])*"'
SENTENCE = re.compile(
    rf"(?P<field>(?:{QUOTED}|\S)+) (?P<wrong>.+), so (?P<breaks>.+); (?P<instead>.+)"
)
NEXT_STEP = re.compile(r"^(write|leave|upgrade|run)\b")
FOREIGN = re.compile(
    r"Traceback|Exception|Error\b|pydantic|validat|Input should|<class|NoneType|object at 0x|"
    r"frozenset|IPv4Network\(|IPv4Address\(|Role\.|type=|errors\.pydantic"
)


def refused(value: Any, name: str = "dev") -> list[str]:
    """The sentences that refuse a spec; none where it is taken."""
    try:
        parse(value, name=name)
    except SpecError as error:
        return str(error).splitlines()
    return []


def check(sentence: str) -> None:
    """One sentence: an existing field, what is wrong, what comes of it, what to do."""
    match = SENTENCE.fullmatch(sentence)
    assert match, sentence
    assert not FOREIGN.search(sentence), sentence
    assert NEXT_STEP.match(match["instead"]), sentence
    assert not match["instead"].endswith((".", ",", ";", " ")), sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 500, sentence
    path = re.findall(rf"{QUOTED}|[^.]+", match["field"])
    if match["wrong"] == "is an unknown key":
        path.pop()
    assert path == ["hardway:cluster"] or exists(_schema(), path), sentence


@cache
def _schema() -> dict[str, Any]:
    return Cluster.model_json_schema()


def exists(here: dict[str, Any], path: list[str]) -> bool:
    """Whether a JSON schema has a place for a value at this path.

    A name in a mapping may have dots in it, so that several parts of the path can be one name.
    """
    if not path:
        return True
    if "$ref" in here:
        return exists(_schema()["$defs"][here["$ref"].rpartition("/")[2]], path)
    options = [*here.get("anyOf", ()), *here.get("oneOf", ()), *here.get("allOf", ())]
    if any(exists(option, path) for option in options):
        return True
    if path[0] in here.get("properties", {}):
        return exists(here["properties"][path[0]], path[1:])
    if isinstance(values := here.get("additionalProperties"), dict):
        return any(exists(values, path[number:]) for number in range(1, len(path) + 1))
    if isinstance(items := here.get("items"), dict) and path[0].isdigit():
        return exists(items, path[1:])
    return False
