"""A cluster's description as the state keeps it: what the next change is compared with."""

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from spec.cluster import Cluster, SpecError, parse
from spec.description import Description
from spec.hypervisor import Hypervisor
from spec.shape import follow
from spec.versions import UnknownVersion

HYPERVISOR: TypeAdapter[Hypervisor | None] = TypeAdapter(Hypervisor | None)

ELSEWHERE = {"hypervisor", "artifacts"}
"""Where machines run and where bytes come from: other resources show it."""


def written(spec: Cluster) -> str:
    """A spec as YAML with its defaults, so that a preview shows the lines that change."""
    value = spec.model_dump(mode="json", exclude=ELSEWHERE, exclude_none=True)
    for machine in value["machines"].values():
        machine.pop("hypervisor", None)
        machine["roles"].sort()
    return yaml.safe_dump(value, sort_keys=True)


def kept(spec: Cluster) -> dict[str, str]:
    """The inputs of the resource that keeps a description.

    The hypervisor stands beside the text: a lab offers another kernel and another base image after
    each change of its own, which is no change of a machine that is there.
    """
    where = spec.hypervisor
    return {
        "spec": written(spec),
        # One text: the engine gives whole numbers back as fractions.
        "hypervisor": where.model_dump_json(exclude_none=True) if where else "",
    }


def read(inputs: Mapping[str, Any]) -> Cluster | None:
    """What was kept; None where an older program kept what this one cannot read.

    A hypervisor is missing where an older program kept none.
    """
    if not (text := inputs.get("spec")):
        return None
    value = yaml.safe_load(text)
    try:
        spec = parse(value, name="")
    except SpecError:
        if (unchecked := _unchecked(value)) is None:
            return None
        spec = unchecked
    return spec.model_copy(update={"hypervisor": _hypervisor(inputs)})


def _unchecked(value: Any) -> Cluster | None:
    """What another program allowed and this one's checks refuse: it can be lost all the same."""
    try:
        found = Description.model_validate(_without_unknown(value))
        whole = found.versions and found.control_planes
    except (ValidationError, UnknownVersion):
        return None
    fields = {name: getattr(found, name) for name in Description.model_fields}
    return Cluster.model_construct(**fields) if whole else None


def _without_unknown(value: Any) -> Any:
    """A description without the fields that a newer program has."""
    try:
        Description.model_validate(value)
    except ValidationError as error:
        for row in error.errors(include_url=False):
            if row["type"] == "extra_forbidden":
                *parents, field = follow(Description, row["loc"])[0]
                del reduce(getitem, parents, value)[field]
    return value


def _hypervisor(inputs: Mapping[str, Any]) -> Hypervisor | None:
    try:
        return HYPERVISOR.validate_json(inputs.get("hypervisor") or "null")
    except ValidationError:
        return None
