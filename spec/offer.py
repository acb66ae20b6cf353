"""The hypervisor and artifacts that a host's lab offers for fields that a spec leaves out."""

import os
from pathlib import Path

from pydantic import ValidationError

from spec.cluster import ArtifactSource, Cluster, SpecError
from spec.hypervisor import Hypervisor, InPool, Libvirt
from spec.part import Address, Part
from spec.refusal import dotted, listed
from spec.shape import follow

OFFER_VARIABLE = "HARDWAY_OFFER"
"""The environment variable with the path of the stack's offer, a JSON file."""

STATUS_VARIABLE = "HARDWAY_STATUS"
"""The environment variable with the path of a file with one line about the progress of the update.
The program shows that line."""


class Offer(Part):
    """Where machines run and what they start from, and the site's artifact store."""

    hypervisor: Hypervisor | None = None
    """The hypervisor of machines for which the spec names none, or with the image for it."""
    image: InPool | None = None
    """The volume with the base image in the pools of libvirts for which the spec names none."""
    artifacts: ArtifactSource
    name_servers: tuple[Address, ...] = ()
    """The name servers that machines of this hypervisor can ask."""

    def written(self) -> str:
        """The offer as JSON without default values.

        So a revision that lacks a field can read the offer where the field has its default.
        """
        return self.model_dump_json(exclude_defaults=True, indent=1)


def read_offer(file: Path) -> Offer:
    """The offer in a file from ``written``. Raises SpecError where this revision cannot read it."""
    try:
        return Offer.model_validate_json(file.read_text())
    except ValidationError as error:
        differing = [
            dotted(follow(Offer, row["loc"])[0]) for row in error.errors(include_url=False)
        ]
        raise SpecError(
            f"the lab's offer is of another revision, which differs in {listed(differing, 'and')}, "
            "so this one cannot read where machines run; run the ./hardway up of this one, which "
            "writes the offer anew"
        ) from None


def offered() -> Offer | None:
    """The offer in the file that the environment names; None where there is no file.

    Raises SpecError where this revision cannot read the offer.
    """
    path = os.environ.get(OFFER_VARIABLE)
    if not path or not Path(path).is_file():
        return None
    return read_offer(Path(path))


def with_offer(spec: Cluster, offer: Offer | None) -> Cluster:
    """The spec with left-out fields from the offer; the spec's own values take precedence.

    Only machines of the offered hypervisor reach the lab's mirror and name servers.
    """
    if offer is None:
        return spec
    mirror = offer.artifacts.mirror if _is_offered(spec.hypervisor) else None
    artifacts = ArtifactSource(
        mirror=spec.artifacts.mirror or mirror,
        digests={**offer.artifacts.digests, **spec.artifacts.digests},
    )
    networks = spec.networks
    # Machines elsewhere may not reach the name servers that are offered.
    is_whole = all(_is_offered(spec.hypervisor_of(name)) for name in spec.machines)
    if is_whole and "name_servers" not in networks.model_fields_set:
        networks = networks.model_copy(update={"name_servers": offer.name_servers})
    return spec.model_copy(
        update={
            "artifacts": artifacts,
            "hypervisor": _filled(spec.hypervisor, offer),
            "machines": {
                name: machine.model_copy(update={"hypervisor": _filled(machine.hypervisor, offer)})
                if machine.hypervisor
                else machine
                for name, machine in spec.machines.items()
            },
            "networks": networks,
        }
    )


def _is_offered(where: Hypervisor | None) -> bool:
    """Whether machines of this hypervisor of a spec run on the one that the lab offers."""
    return where is None or (where.is_here and where.wants_image)


def _filled(where: Hypervisor | None, offer: Offer) -> Hypervisor | None:
    """The hypervisor of a spec with what the lab offers for it."""
    if _is_offered(where):
        return offer.hypervisor
    if isinstance(where, Libvirt) and where.wants_image:
        return where.model_copy(update={"image": offer.image})
    return where
