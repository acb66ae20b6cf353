"""Reads YAML documents as Pulumi reads a stack's file, and writes YAML that Go reads alike.

Scalars follow the core schema of YAML 1.2 as Go's yaml.v3 has it (``resolve.go``). Numbers are as
Pulumi gives them to a program, through JSON. This module refuses values that Pulumi would change:
Pulumi gives a date as another text, and a key that is no text as a text.
"""

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import yaml

from spec.refusal import SpecError, dotted

# libyaml is many times faster with a large catalogue and with the long lines of a certificate.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_STANDARD = "tag:yaml.org,2002:"

PLAIN, TEXT, OTHER = "plain", f"{_STANDARD}str", "other"
"""The stand-in tags of a plain scalar, a quoted scalar, and a mapping or list, where the document
names no tag."""

MERGE = "<<"

MOST_REPEATED = 100_000
"""The most values that aliases may repeat, since a few lines of nested aliases can repeat any
number of values."""

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
"""The plain scalars that stand for null, true or false."""

_WHOLE = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_SIGN_INSIDE = re.compile(r"0([ob])([-+][0-7]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})([Tt ][0-9].*)?")


def load_yaml(text: str, name: str) -> Any:
    """The value of a YAML document; messages call the document ``name``.

    Raises SpecError with one line for each unreadable place and for each duplicate key, of which
    other readers silently drop the first.
    """
    reading = _Reading(name)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        value = None if node is None else reading.value(node, ())
        reading.wrong += _other_versions(text, name)
    except yaml.YAMLError as error:
        raise SpecError(f"{name} {_fault(error)}") from error
    except RecursionError as error:
        raise SpecError(
            f"{name} is nested too deeply, so it cannot be read; write it with fewer levels"
        ) from error
    finally:
        loader.dispose()
    if reading.wrong:
        raise SpecError("\n".join(reading.wrong))
    return value


def dump_yaml(value: Any, *, sort_keys: bool) -> str:
    """A value as YAML that programs in Go read as the same value, whether as YAML 1.1 or 1.2."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=sort_keys)
    return text


class _Dumper(_DUMPER):  # type: ignore[misc,valid-type]
    """Also quotes texts that only Go reads as another type, such as 1e3; else as PyYAML."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = None if isinstance(_plain(data), str) else "'"
        node: yaml.ScalarNode = self.represent_scalar(TEXT, data, style)
        return node


_Dumper.add_representer(str, _Dumper.represent_str)


class _Loader(_LOADER):  # type: ignore[misc,valid-type]
    """Leaves the type of a plain scalar undecided."""

    def resolve(self, kind: type[yaml.Node], _value: Any, implicit: Any) -> str:
        if kind is not yaml.ScalarNode:
            return OTHER
        return PLAIN if implicit[0] else TEXT


class _Reading:
    """Converts nodes to values, and collects a sentence about each refused node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wrong: list[str] = []
        self._open: set[int] = set()
        self._done: dict[int, tuple[Any, int]] = {}
        """The mappings and lists read so far, each with the number of values in it."""
        self._flow = 0
        """The number of open mappings and lists in brackets."""
        self._values = 0
        self._repeated = 0

    def value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        """The value of a node; the value of a refused node is arbitrary."""
        self._values += 1
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        assert isinstance(node, yaml.CollectionNode)
        if id(node) in self._open:
            raise SpecError(
                f"{self._place(node, path)} contains itself, so it has no end; write what it "
                "should contain in the place of the alias"
            )
        if id(node) in self._done:
            return self._again(node, path)
        if node.tag != OTHER:
            self._refuse_tag(node, path)
        self._open.add(id(node))
        self._flow += bool(node.flow_style)
        before = self._values
        if isinstance(node, yaml.MappingNode):
            value: Any = self._mapping(node, path)
        else:
            items = enumerate(node.value)
            value = [self.value(item, (*path, str(number))) for number, item in items]
        self._open.remove(id(node))
        self._flow -= bool(node.flow_style)
        self._done[id(node)] = value, self._values - before
        return value

    def _again(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        """The value of an alias."""
        value, size = self._done[id(node)]
        self._values += size
        self._repeated += size
        if self._repeated > MOST_REPEATED:
            raise SpecError(
                f"{self._place(node, path)} is repeated by aliases more often than a description "
                "needs, so it would fill the memory; write fewer aliases"
            )
        return value

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        lines: dict[str, int] = {}
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            word = self._key(key, path)
            line = key.start_mark.line + 1
            if word in lines:
                self._refuse(
                    f"{self.name}: {dotted((*path, word))} stands in line {lines[word]} and again "
                    f"in line {line}",
                    "one of the two would be lost",
                    "write it once",
                )
            lines.setdefault(word, line)
            if word == MERGE:
                merged = self._merged(item, path)
            else:
                own[word] = self.value(item, (*path, word))
        return merged | own

    def _key(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise SpecError(
                f"{self._place(node, path)} has a mapping or a list as a key, so it cannot be "
                "read; write a text as the key"
            )
        key = str(node.value)
        if node.tag == PLAIN and (_is_date(key) or not isinstance(_plain(key), str)):
            self._refuse(
                f"{self._place(node, (*path, key))} is no text to YAML",
                "it is another name than it looks like",
                f"write the name in quotes: '{key}'",
            )
        self._refuse_scalar(node, (*path, key))
        return key

    def _merged(self, node: yaml.Node, path: tuple[str, ...]) -> dict[str, Any]:
        """The entries that the key ``<<`` merges into a mapping; of equal keys the first wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(merged_node, yaml.MappingNode) for merged_node in nodes):
            raise SpecError(
                f"{self._place(node, (*path, MERGE))} merges what is no mapping, so it cannot be "
                "read; write the alias of a mapping, or several in a list"
            )
        entries: dict[str, Any] = {}
        for merged_node in nodes:
            self._values += 1
            entries = self.value(merged_node, path) | entries
        return entries

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> Any:
        if node.tag == PLAIN and _is_date(node.value):
            return self._refuse(
                f"{self._place(node, path)} is a date to YAML",
                "it becomes another text than it looks like",
                f"write it in quotes: '{node.value}'",
            )
        if node.tag == PLAIN and _NO_NUMBER.fullmatch(node.value):
            return self._refuse(
                f"{self._place(node, path)} is {node.value}, no number that Pulumi can hand on",
                "it cannot be read",
                f"write a number, or a text in quotes: '{node.value}'",
            )
        self._refuse_scalar(node, path)
        return _plain(node.value) if node.tag == PLAIN else node.value

    def _refuse_scalar(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> None:
        """Refuse a scalar, as key or value, that Pulumi cannot read or would change."""
        if node.tag not in (PLAIN, TEXT):
            self._refuse_tag(node, path)
        if self._flow and node.tag == PLAIN and "?" in node.value:
            self._refuse(
                f"{self._place(node, path)} has a question mark between brackets",
                "Pulumi takes it for a sign of YAML's own",
                "write it in quotes",
            )
        if "\n" in node.value and node.value[0].isspace():
            self._refuse(
                f"{self._place(node, path)} is several lines of text that begin with white space",
                "Pulumi loses some of it",
                "leave that out",
            )

    def _refuse_tag(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        self._refuse(
            f"{self._place(node, path)} has the tag {node.tag.replace(_STANDARD, '!!')}",
            "it becomes something else than it looks like",
            "write it without the tag, and a text in quotes",
        )

    def _refuse(self, what: str, breaks: str, instead: str) -> None:
        self.wrong.append(f"{what}, so {breaks}; {instead}")

    def _place(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        where = f"{self.name}: {dotted(path)}" if path else self.name
        return f"{where} in line {node.start_mark.line + 1}"


def _plain(text: str) -> Any:
    """The value of a plain scalar (Go's yaml.v3, resolve.go)."""
    if text in WORDS:
        return WORDS[text]
    if not re.match(r"[-+.0-9]", text):
        return text
    digits = text if text.startswith(".") else text.replace("_", "")
    number: float | None = _whole(digits)
    if number is None and _FLOAT.fullmatch(digits):
        number = float(digits)
    return text if number is None or number in (float("inf"), -float("inf")) else _number(number)


def _whole(digits: str) -> int | None:
    """A whole number of 64 bits in the notation of Go, where a 0 in front means octal."""
    try:
        if _OCTAL.fullmatch(digits):
            number = int(digits, 8)
        elif _WHOLE.fullmatch(digits):
            number = int(digits, 0)
        elif odd := _SIGN_INSIDE.fullmatch(digits):
            number = int(odd[2], {"o": 8, "b": 2}[odd[1]])
        else:
            return None
    except ValueError:  # a digit of another base, or more digits than Python reads
        return None
    return number if -(2**63) <= number < 2**64 else None


def _number(number: float) -> float:
    """A number after conversion to JSON in Go and from JSON in Python."""
    if isinstance(number, int) and number < 2**63:
        return number
    rounded = float(number)
    # Go writes a float below 1e21 without an exponent and with zeros as its last digits, and Python
    # reads that as a whole number.
    whole = rounded.is_integer() and abs(rounded) < 1e21
    return int(Decimal(repr(rounded))) if whole else rounded


def _is_date(text: str) -> bool:
    if not (match := _DATE.fullmatch(text)):
        return False
    try:
        date(*map(int, match.groups()[:3]))
    except ValueError:
        return False
    return True


def _other_versions(text: str, name: str) -> Iterator[str]:
    """A sentence where the document declares a version of YAML that Go's yaml.v3 refuses."""
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            if event.version not in (None, (1, 1)):
                yield f"{name} names its version of YAML, so Pulumi cannot read it; take that out"
            return


def _fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    return f"is no YAML{where} ({_one_line(problem)}), so it cannot be read; correct it there"


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
