"""What is compared and the steps that bring it about, as guards keep them.

The state of a guard keeps the plan that was applied, regardless of later changes of the stack's
file and of this program.
"""

import lzma
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from plan import render
from plan.declared import DeclaredObject
from plan.held import absent, held, scripts
from plan.item import Item
from plan.model import Material, NodePlan, Step


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
OBJECTS = TypeAdapter(tuple[DeclaredObject, ...])
"""The same for the objects of the API, which no machine has."""

T = TypeVar("T")


def contents(plan: NodePlan, material: Material) -> Contents:
    """The contents of a machine's plan."""
    items = (*scripts(), *held(plan), *absent(plan))
    mends = {item.step for item in items}
    return Contents(
        items=items,
        steps=tuple(step_command(step, material) for step in plan.steps if step.name in mends),
    )


def step_command(step: Step, material: Material) -> StepCommand:
    """A step as its machine runs it."""
    return StepCommand(
        name=step.name,
        line=render.command(step),
        data=render.text(step, material),
        seconds=render.limit(step),
        secret=step.secret,
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
