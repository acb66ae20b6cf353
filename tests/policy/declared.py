"""What the program of each golden cluster declares, as a change that makes it."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.stack import declare
from preview.change import ResourceChange, Verb
from preview.recorder import record
from preview.registration import Registration
from spec.cluster import ArtifactSource
from spec.hypervisor import Libvirt
from spec.offer import OFFER_VARIABLE, Offer
from tests.plan.golden import GOLDEN, MIRROR, NAMES, digests

MADE = tuple(name for name in NAMES if name != "existing")
"""The golden clusters whose machines a libvirt makes."""

MEMBERS = "available"
"""The one with several etcd members, apart from its control planes."""


@cache
def registered(name: str) -> tuple[Registration, ...]:
    """Everything that the program of a golden cluster registers."""
    value = yaml.safe_load((GOLDEN / name / "spec.yaml").read_text())
    offer = Offer(
        hypervisor=Libvirt(uri="qemu:///system", image="base", kernel="/k", initrd="/i"),
        artifacts=ArtifactSource(mirror=MIRROR, digests=digests(value.get("kubernetes"))),
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "offer.json"
        file.write_text(offer.model_dump_json())
        patch.setenv(OFFER_VARIABLE, os.fspath(file))
        found = record(declare, stack=name, config={"hardway:cluster": json.dumps(value)})
    return tuple(_registration(one) for one in found.seen)


def _registration(said: Mapping[str, Any]) -> Registration:
    lists = {key: tuple(value) for key, value in said.items() if isinstance(value, list)}
    return Registration(**{**said, **lists})


def made(name: str) -> tuple[ResourceChange, ...]:
    """The change that makes the cluster."""
    return tuple(
        ResourceChange(verb=Verb.CREATE, before=None, after=one) for one in registered(name)
    )


def kept(name: str) -> tuple[ResourceChange, ...]:
    """The change that leaves it as it is."""
    return tuple(ResourceChange(verb=Verb.SAME, before=one, after=one) for one in registered(name))


Spoil = Callable[[Registration], Registration]


def spoiled(
    changes: Iterable[ResourceChange], resource: str, spoil: Spoil
) -> tuple[ResourceChange, ...]:
    """The change with one resource declared in another way."""
    return tuple(
        replace(change, after=spoil(change.declared))
        if change.name == resource and change.declared.custom
        else change
        for change in changes
    )


def gone(
    changes: Sequence[ResourceChange], kind: str, verb: Verb, *names: str
) -> tuple[ResourceChange, ...]:
    """The change in which resources of a kind are replaced or deleted as well."""
    assert set(names) <= {change.name for change in changes if change.kind.endswith(kind)}
    found = []
    for change in changes:
        if change.kind.endswith(kind) and change.name in names:
            after = None if verb is Verb.DELETE else change.after
            change = replace(change, verb=verb, after=after)
        found.append(change)
    return tuple(found)


def with_inputs(**inputs: Any) -> Spoil:
    """Other inputs; None leaves one out."""

    def spoil(one: Registration) -> Registration:
        all_of_them = {**one.inputs, **inputs}
        return replace(one, inputs={k: v for k, v in all_of_them.items() if v is not None})

    return spoil


def with_options(**options: Any) -> Spoil:
    """Other options."""
    return lambda one: replace(one, **options)
