"""The items to compare on a machine and the texts of their steps, as a machine's guard keeps them.

The state of the guard keeps the plan that was applied, regardless of later changes of the stack's
file and of this program.
"""

import lzma
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from plan import render
from plan.held import Item, held
from plan.model import NodePlan
from plan.render import Material


class Unreadable(Exception):
    """The state has a plan that this program cannot read."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The items to compare on a machine, and the texts of the steps that bring them about."""

    items: tuple[Item, ...]
    texts: Mapping[str, str]
    """Step name to text, in the plan's order."""
    secret: frozenset[str]
    """Names of steps whose output must not be shown, since their texts contain keys."""


CONTENTS = TypeAdapter(Contents)


def contents(plan: NodePlan, material: Material) -> Contents:
    """The contents of a machine's plan."""
    items = held(plan)
    mends = {item.step for item in items}
    steps = [step for step in plan.steps if step.name in mends]
    return Contents(
        items=items,
        texts={step.name: render.text(step, material) for step in steps},
        secret=frozenset(step.name for step in steps if step.secret),
    )


def packed(contents: Contents) -> str:
    """The contents as one short text."""
    # All steps begin with the same functions. LZMA finds repetitions over megabytes, zlib over
    # 32 KiB only.
    return b64encode(lzma.compress(CONTENTS.dump_json(contents), preset=3)).decode()


def unpacked(text: str) -> Contents:
    """The contents in a packed text. Raises Unreadable for a text in another checkout's format."""
    try:
        return CONTENTS.validate_json(lzma.decompress(b64decode(text, validate=True)))
    except (ValueError, lzma.LZMAError) as error:
        raise Unreadable(
            "its plan was kept by another checkout of this program, which writes it in another way"
        ) from error
