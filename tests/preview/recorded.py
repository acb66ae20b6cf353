"""Declared clusters, before and after a change, as a preview without a host has them."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.stack import declare
from preview.change import ResourceChange
from preview.comparing import changes
from preview.recorder import Recorder, record
from preview.recording import registration
from preview.registration import Registration
from spec.cluster import ArtifactSource
from spec.hypervisor import Libvirt
from spec.offer import OFFER_VARIABLE, Offer
from tests.plan.golden import GOLDEN, MIRROR, NAMES, digests

MADE = [name for name in NAMES if name != "existing"]
"""The golden clusters whose machines a libvirt makes."""

DEFAULT: dict[str, Any] = yaml.safe_load((GOLDEN / "default" / "spec.yaml").read_text())


def described(name: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((GOLDEN / name / "spec.yaml").read_text())
    return value


def offer(kubernetes: str | None) -> Offer:
    return Offer(
        hypervisor=Libvirt(uri="qemu:///system", image="base"),
        artifacts=ArtifactSource(mirror=MIRROR, digests=digests(kubernetes)),
    )


def run(place: Path, value: Mapping[str, Any], before: Recorder | None = None) -> Recorder:
    """Declare a cluster, after another one if there is one."""
    file = place / "offer.json"
    file.write_text(offer(value.get("kubernetes")).model_dump_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OFFER_VARIABLE, str(file))
        return record(
            declare,
            config={"hardway:cluster": json.dumps(value)},
            held=before.seen if before else (),
        )


@cache
def _first(place: Path, value: str) -> Recorder:
    """Of a cluster that several changes begin with."""
    return run(place, json.loads(value))


def registrations(recorder: Recorder) -> tuple[Registration, ...]:
    return tuple(registration(one) for one in recorder.seen)


def changed(
    place: Path, before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[tuple[ResourceChange, ...], dict[str, list[str]]]:
    """What becomes of each resource, and what its provider refuses."""
    first = _first(place, json.dumps(before))
    second = run(place, after, first)
    return changes(registrations(first), registrations(second)), second.refused
