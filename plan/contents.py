"""The items to compare on a machine and the steps that bring them about, as its guard keeps them.

The state of the guard keeps the plan that was applied, regardless of later changes of the stack's
file and of this program.
"""

import lzma
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from plan import render
from plan.held import absent, held, scripts
from plan.item import Item
from plan.model import Material, NodePlan


class Unreadable(Exception):
    """The state has a plan that this program cannot read."""


@dataclass(frozen=True, kw_only=True)
class StepCommand:
    """A step as a machine runs it."""

    name: str
    line: str
    """The command line, which reads the data from its standard input."""
    data: str
    seconds: int
    """The time limit of the step."""
    secret: bool = False
    """Whether the data contain keys, so that the output must not be shown."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The items to compare on a machine, and the steps that bring them about."""

    items: tuple[Item, ...]
    steps: tuple[StepCommand, ...]
    """In the plan's order."""


ITEMS, STEPS = TypeAdapter(tuple[Item, ...]), TypeAdapter(tuple[StepCommand, ...])
"""How the two parts of the contents are written as JSON and read back."""

T = TypeVar("T")


def contents(plan: NodePlan, material: Material) -> Contents:
    """The contents of a machine's plan."""
    items = (*scripts(), *held(plan), *absent(plan))
    mends = {item.step for item in items}
    return Contents(
        items=items,
        steps=tuple(
            StepCommand(
                name=step.name,
                line=render.command(step),
                data=render.text(step, material),
                seconds=render.limit(step),
                secret=step.secret,
            )
            for step in plan.steps
            if step.name in mends
        ),
    )


def packed(part: TypeAdapter[T], value: T) -> str:
    """A part of the contents as one short text."""
    return b64encode(lzma.compress(part.dump_json(value), preset=3)).decode()


def unpacked(part: TypeAdapter[T], text: str) -> T:
    """The value of a packed text. Raises Unreadable for a text in another checkout's format."""
    try:
        return part.validate_json(lzma.decompress(b64decode(text, validate=True)))
    except (ValueError, lzma.LZMAError) as error:
        raise Unreadable(
            "its plan was kept by another checkout of this program, which writes it in another way"
        ) from error
