"""Records the resources that the program of a folder declares, without engine, state or machine."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plan.artifact import unknown_digests
from preview.registration import Registration
from spec import bucket_key, passwords
from spec.cluster import ArtifactSource, SpecError, parse
from spec.configuration import CLUSTER, configuration
from spec.hypervisor import Hypervisor, Libvirt, VirtualBox
from spec.offer import OFFER_VARIABLE, Offer

RECORDER = Path(__file__).with_name("recorder.py")

IMAGE = "hardway-base"
LIBVIRT = Libvirt(uri="qemu:///system", image=IMAGE)
VIRTUALBOX = VirtualBox(kind="virtualbox", image="hardway-base.vdi")
"""Stand-ins for the image and the hypervisors that a lab would offer."""


class NotDeclared(Exception):
    """The stack of a folder cannot be declared; the text gives the reason in sentences."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The resources that a program declares.

    The secrets in them are keys that are made for this recording only and give access to nothing,
    but for those that were held.
    """

    registrations: tuple[Registration, ...] = ()
    refused: dict[str, list[str]] = field(default_factory=dict)
    """The URN of a resource, mapped to the reasons why a cluster as in ``held`` cannot take it."""
    unknown: tuple[str, ...] = ()
    """Artifacts, such as ``containerd-2.3.7``, whose digest is unknown until they are built."""


def recorded(
    folder: Path, stack: str, held: Sequence[Registration] = (), offer: Offer | None = None
) -> Recording:
    """Declare the stack of a checkout as an update after ``held`` would.

    Without the offer of a lab, a stand-in has its place. A checkout without the stack's file
    declares nothing. Raises NotDeclared.
    """
    file = folder / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        return Recording()
    try:
        config = configuration(file)
    except SpecError as error:
        raise NotDeclared(str(error)) from error
    unknown: tuple[str, ...] = ()
    if offer is None:
        offer, unknown = _offer(config.get(CLUSTER), stack)
    request = {
        "stack": stack,
        "config": {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in _with_stand_ins(config).items()
        },
        "held": [asdict(declared) for declared in held],
    }
    answer = _asked(folder, request, offer)
    if answer["error"]:
        raise NotDeclared(answer["error"])
    registrations = tuple(registration(registered) for registered in answer["registered"])
    return Recording(registrations=registrations, refused=answer["refused"], unknown=unknown)


def _with_stand_ins(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with the encrypted form of each secret beside the cluster in its place."""
    stand_ins = {
        key: {name: secret["secure"] for name, secret in config[key].items()}
        for key in (passwords.FULL_KEY, bucket_key.FULL_KEY)
        if key in config
    }
    return {**config, **stand_ins}


def _offer(cluster: Any, stack: str) -> tuple[Offer, tuple[str, ...]]:
    """A lab's offer with a stand-in for each unknown digest, and the names of those artifacts.

    The stand-in is the sha256 of the artifact's name.
    """
    where: Hypervisor = LIBVIRT
    try:
        spec = parse(cluster, name=stack)
        unknown = unknown_digests(spec)
        if isinstance(spec.hypervisor, VirtualBox):
            where = VIRTUALBOX
    except SpecError:  # the program itself reports this
        unknown = ()
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in unknown}
    offer = Offer(hypervisor=where, image=IMAGE, artifacts=ArtifactSource(digests=digests))
    return offer, unknown


def _asked(folder: Path, request: dict[str, Any], offer: Offer) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder_of_offer:
        offered = Path(folder_of_offer) / "offer.json"
        offered.write_text(offer.written())
        done = subprocess.run(
            [sys.executable, "-P", RECORDER],
            cwd=folder,
            env=os.environ | {OFFER_VARIABLE: str(offered), "PYTHONDONTWRITEBYTECODE": "1"},
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise NotDeclared(f"the program cannot be declared: {last}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def registration(registered: Mapping[str, Any]) -> Registration:
    """A registration from a recorder's answer."""
    lists = {key: tuple(value) for key, value in registered.items() if isinstance(value, list)}
    return Registration(**{**registered, **lists})
