"""How many nodes are changed at the same time."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from spec.part import Expected, Part

SHARE = re.compile(r"([1-9][0-9]?|100)%")


def _number_or_share(value: Any) -> int | str:
    if type(value) is int and value >= 1:
        return value
    if isinstance(value, str) and SHARE.fullmatch(value):
        return value
    raise ValueError("neither a number of nodes nor a share of them")


AtOnce = Annotated[
    int | str,
    BeforeValidator(_number_or_share),
    Expected('a whole number, 1 or more, or a share in quotes from "1%" to "100%"'),
]


class Rollout(Part):
    """How nodes become those of another version."""

    nodes: AtOnce = 1
    """How many nodes at the same time get another version of the kubelet or the container runtime,
    or which share of all, such as ``"25%"``, rounded down and at least 1. Each gives its pods to
    others before, as PodDisruptionBudgets allow, and takes pods again once it is Ready."""

    def at_once(self, nodes: int) -> int:
        """The number for a cluster with so many nodes."""
        if isinstance(self.nodes, int):
            return self.nodes
        return max(1, nodes * int(self.nodes.removesuffix("%")) // 100)
