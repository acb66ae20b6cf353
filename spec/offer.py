"""What the host that runs the program offers where a spec leaves it open."""

import os
from pathlib import Path

from pydantic import ValidationError

from spec.cluster import ArtifactSource, Cluster, SpecError
from spec.hypervisor import Libvirt
from spec.part import Part
from spec.refusal import dotted, listed

OFFER_VARIABLE = "HARDWAY_OFFER"
"""Names the file with the offer for a stack, as JSON."""

STATUS_VARIABLE = "HARDWAY_STATUS"
"""Names the file with a line about how far the update is, for the program to show."""


class Offer(Part):
    """Where machines can run, and which bytes the site's store has for this stack."""

    hypervisor: Libvirt
    artifacts: ArtifactSource

    def written(self) -> str:
        """As JSON, without what is at its default: a revision that lacks such a field reads it."""
        return self.model_dump_json(exclude_defaults=True, indent=1)


def read_offer(file: Path) -> Offer:
    """The offer that ``written`` gave. Raises SpecError where this revision cannot read it."""
    try:
        return Offer.model_validate_json(file.read_text())
    except ValidationError as error:
        differing = [dotted(row["loc"]) for row in error.errors(include_url=False)]
        raise SpecError(
            f"the lab's offer is of another revision, which differs in {listed(differing, 'and')}, "
            "so this one cannot read where machines run; run the ./hardway up of this one, which "
            "writes the offer anew"
        ) from None


def offered() -> Offer | None:
    """The offer that the environment names, if there is one. Raises SpecError."""
    place = os.environ.get(OFFER_VARIABLE)
    if not place or not Path(place).is_file():
        return None
    return read_offer(Path(place))


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
