"""What the host that runs the program offers where a spec leaves it open."""

import json
import os
from pathlib import Path

from spec.cluster import ArtifactSource, Cluster
from spec.hypervisor import Libvirt
from spec.part import Part

OFFER_VARIABLE = "HARDWAY_OFFER"
"""Names the file with the offer for a stack, as JSON."""


class Offer(Part):
    """Where machines can run, and which bytes the site's store has for this stack."""

    hypervisor: Libvirt
    artifacts: ArtifactSource


def offered() -> Offer | None:
    """The offer that the environment names, if there is one."""
    place = os.environ.get(OFFER_VARIABLE)
    if not place or not Path(place).is_file():
        return None
    return Offer.model_validate(json.loads(Path(place).read_text()))


def with_offer(spec: Cluster, offer: Offer | None) -> Cluster:
    """The spec with what it leaves open taken from the offer; what it says itself wins."""
    if offer is None:
        return spec
    artifacts = ArtifactSource(
        mirror=spec.artifacts.mirror or offer.artifacts.mirror,
        digests={**offer.artifacts.digests, **spec.artifacts.digests},
    )
    hypervisor = spec.hypervisor or offer.hypervisor
    return spec.model_copy(update={"artifacts": artifacts, "hypervisor": hypervisor})
