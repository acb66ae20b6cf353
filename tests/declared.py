"""The program of a cluster, declared to a recorder in the engine's place."""

import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.stack import declare
from preview.recorder import Recorder, record
from preview.recording import registration
from preview.registration import Registration
from spec.bucket_key import FULL_KEY as BUCKET_KEY
from spec.bucket_key import HALVES
from spec.cluster import ArtifactSource
from spec.hypervisor import Libvirt
from spec.offer import OFFER_VARIABLE, Offer
from spec.passwords import FULL_KEY
from tests.plan.golden import GOLDEN, MIRROR, NAMES, digests

MADE = [name for name in NAMES if name != "existing"]
"""The golden clusters whose machines a libvirt makes."""


def described(name: str) -> dict[str, Any]:
    """What a person wrote of a golden cluster."""
    value: dict[str, Any] = yaml.safe_load((GOLDEN / name / "spec.yaml").read_text())
    return value


def declared(
    value: Mapping[str, Any],
    stack: str = "dev",
    before: Recorder | None = None,
    passwords: Mapping[str, str] | None = None,
    bucket_key: Mapping[str, str] | None = None,
) -> Recorder:
    """Declare a cluster where a lab offers everything, after another one if there is one.

    A registry with a user has a password of its own name, unless passwords are given, and a bucket
    for backups an access key.
    """
    if bucket_key is None:
        bucket = (value.get("backup") or {}).get("to", {}).get("kind") == "s3"
        bucket_key = {half: half for half in HALVES} if bucket else {}
    if passwords is None:
        registries = value.get("registries", {})
        passwords = {name: name for name, row in registries.items() if "user" in row}
    offer = Offer(
        hypervisor=Libvirt(
            uri="qemu:///system", image="base", kernel="/k", initrd="/i", console_logs="/c"
        ),
        artifacts=ArtifactSource(mirror=MIRROR, digests=digests(value.get("kubernetes"))),
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "offer.json"
        file.write_text(offer.model_dump_json())
        patch.setenv(OFFER_VARIABLE, os.fspath(file))
        return record(
            declare,
            stack=stack,
            config={
                "hardway:cluster": json.dumps(value),
                FULL_KEY: json.dumps(passwords),
                BUCKET_KEY: json.dumps(bucket_key),
            },
            held=before.seen if before else (),
        )


def registrations(recorder: Recorder) -> tuple[Registration, ...]:
    """Everything that was registered."""
    return tuple(registration(resource) for resource in recorder.seen)


@cache
def golden(name: str) -> tuple[Registration, ...]:
    """Everything that the program of a golden cluster registers."""
    return registrations(declared(described(name), name))
