"""What becomes of each resource of a cluster, as a preview without a host has it."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from preview.change import ResourceChange
from preview.comparing import changes
from preview.recorder import Recorder
from tests.declared import declared, described, registrations

DEFAULT = described("default")


@cache
def _first(value: str) -> Recorder:
    """Of a cluster that several changes begin with."""
    return declared(json.loads(value))


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[tuple[ResourceChange, ...], dict[str, list[str]]]:
    """What becomes of each resource, and what its provider refuses."""
    first = _first(json.dumps(before))
    second = declared(after, before=first)
    return changes(registrations(first), registrations(second)), second.refused
