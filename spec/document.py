"""YAML documents in which no key stands twice."""

from collections.abc import Iterator
from typing import Any

import yaml

from spec.refusal import SpecError, dotted, shown

# libyaml's parser reads a large catalogue forty times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str, name: str) -> Any:
    """The value of a YAML document, which ``name`` calls in messages.

    Raises SpecError with one line for each key that stands twice, of which YAML would silently drop
    the first, or one line where the text is no YAML.
    """
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        twice = [f"{name}: {sentence}" for sentence in _twice(node, (), set())] if node else []
        value = loader.construct_document(node) if node and not twice else None
    except yaml.YAMLError as error:
        raise SpecError(f"{name} {_fault(error)}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # such as the date 2026-13-01
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"has {error}"
        raise SpecError(
            f"{name} {_one_line(what)}, so it cannot be read; write such a value in quotes"
        ) from error
    finally:
        loader.dispose()
    if twice:
        raise SpecError("\n".join(twice))
    return value


def _fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    return f"is no YAML{where} ({_one_line(problem)}), so it cannot be read; correct it there"


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def _twice(node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> Iterator[str]:
    """A sentence for each key that stands twice in a mapping at or below a node."""
    if id(node) in seen:  # an anchor that is used again
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _twice(item, (*path, str(number)), seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            word = key.value if isinstance(key, yaml.ScalarNode) else shown(key.tag)
            line = key.start_mark.line + 1
            first = lines.setdefault((key.tag, word), line)
            if first is not line and isinstance(key, yaml.ScalarNode) and word != "<<":
                yield (
                    f"{dotted((*path, word))} stands in line {first} and again in line {line}, so "
                    "one of the two would be lost; write it once"
                )
            yield from _twice(value, (*path, word), seen)
