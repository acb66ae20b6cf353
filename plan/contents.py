"""What is compared on a machine and what brings it about, as the state keeps it with its guard.

It is the plan that was applied, whatever the stack's file and this program have become since.
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
    """A plan in the state that this program cannot read."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is compared on a machine, and the texts of the steps that bring it about."""

    items: tuple[Item, ...]
    texts: Mapping[str, str]
    """In the plan's order."""
    secret: frozenset[str]
    """Steps of which nothing is said, since their texts have keys in them."""


CONTENTS = TypeAdapter(Contents)


def contents(plan: NodePlan, material: Material) -> Contents:
    """Those of a machine's plan."""
    items = held(plan)
    mends = {item.step for item in items}
    steps = [step for step in plan.steps if step.name in mends]
    return Contents(
        items=items,
        texts={step.name: render.text(step, material) for step in steps},
        secret=frozenset(step.name for step in steps if step.secret),
    )


def packed(contents: Contents) -> str:
    """As one text, as short as it gets."""
    # Steps begin with the same words: LZMA finds them again over megabytes, zlib over 32 KiB only.
    return b64encode(lzma.compress(CONTENTS.dump_json(contents), preset=3)).decode()


def unpacked(text: str) -> Contents:
    """The contents that were packed. Raises Unreadable for what another checkout packed its way."""
    try:
        return CONTENTS.validate_json(lzma.decompress(b64decode(text, validate=True)))
    except (ValueError, lzma.LZMAError) as error:
        raise Unreadable(
            "its plan was kept by another checkout of this program, which writes it in another way"
        ) from error
