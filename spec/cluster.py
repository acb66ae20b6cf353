"""The spec of a cluster: its machines and the choices that apply to all of them.

A ``Cluster`` is a description that has passed every check. Its parts are defined in
``spec.network``, ``spec.machine``, ``spec.hypervisor`` and ``spec.description``.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from spec.checks import refusals
from spec.description import Addons, ArtifactSource, BaseImage, Description, Sha256
from spec.draft import draft
from spec.machine import SHORT_ROLES, Machine, Role, Taint
from spec.network import (
    API_PORT,
    Balancer,
    Endpoint,
    Flannel,
    Networks,
    VirtualIp,
    mac_address,
)
from spec.refusal import SpecError
from spec.translation import translated

__all__ = [
    "API_PORT",
    "SHORT_ROLES",
    "Addons",
    "ArtifactSource",
    "Balancer",
    "BaseImage",
    "Cluster",
    "Endpoint",
    "Flannel",
    "Machine",
    "Networks",
    "Role",
    "Sha256",
    "SpecError",
    "Taint",
    "VirtualIp",
    "mac_address",
    "parse",
]


class Cluster(Description):
    """A description that has passed every check."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if mistakes := [str(refusal) for refusal in refusals(self)]:
            raise ValueError("\n".join(dict.fromkeys(mistakes)))
        return self


def parse(value: Any, *, name: str) -> Cluster:
    """The cluster in the stack's configuration value; ``name`` is its name where it has none.

    Raises SpecError with one line for each mistake, which names the field, the effect of the
    mistake and what to write instead.
    """
    if value is None:
        raise SpecError(
            "hardway:cluster has no value, so there is no cluster; write one, starting from a copy "
            "of Pulumi.dev.yaml"
        )
    if not isinstance(value, Mapping):
        raise SpecError(
            "hardway:cluster is no mapping, so it describes no cluster; write a mapping with "
            "networks and machines"
        )
    whole = {"name": name, **value}
    try:
        description = Description.model_validate(whole)
    except ValidationError as error:
        mistakes = [*translated(Description, error), *refusals(draft(Description, whole))]
        raise SpecError(_lines(mistakes)) from None
    if mistakes := list(refusals(description)):
        raise SpecError(_lines(mistakes))
    return Cluster.model_construct(
        **{field: getattr(description, field) for field in Description.model_fields}
    )


def _lines(mistakes: Any) -> str:
    return "\n".join(dict.fromkeys(str(refusal) for refusal in mistakes))
