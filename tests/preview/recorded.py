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


def made(spec: Mapping[str, Any]) -> tuple[ResourceChange, ...]:
    """What becomes of each resource of a new cluster."""
    return changes((), registrations(_first(json.dumps(spec))))


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[tuple[ResourceChange, ...], dict[str, list[str]]]:
    """What becomes of each resource, and what its provider refuses."""
    return _changed(json.dumps(before), json.dumps(after))


# A declared program takes a third of a second: many tests look at the same one.


@cache
def _first(value: str) -> Recorder:
    return declared(json.loads(value))


@cache
def _changed(before: str, after: str) -> tuple[tuple[ResourceChange, ...], dict[str, list[str]]]:
    first = _first(before)
    second = declared(json.loads(after), before=first)
    return changes(registrations(first), registrations(second)), second.refused
