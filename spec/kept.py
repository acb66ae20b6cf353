"""A cluster's description as the state keeps it, for comparison with the next change."""

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

LISTS = "lists"
"""The input which says that each machine has lists of what its steps brought to it."""

ELSEWHERE = {"hypervisor", "artifacts"}
"""Fields that are left out, since other resources show where machines run and which artifacts they
get."""


def written(spec: Cluster) -> str:
    """A spec as YAML with its defaults, so that a preview shows the lines that change."""
    value = spec.model_dump(mode="json", exclude=ELSEWHERE, exclude_none=True)
    for machine in value["machines"].values():
        machine.pop("hypervisor", None)
        machine["roles"].sort()
    return yaml.safe_dump(value, sort_keys=True)


def kept(spec: Cluster) -> dict[str, str]:
    """The inputs of the resource that keeps a description.

    The hypervisor is a separate input, since a lab offers another kernel and base image after each
    change of the lab, which does not change existing machines.
    """
    where = spec.hypervisor
    return {
        "spec": written(spec),
        # A single JSON text, since the engine would return whole numbers as floats.
        "hypervisor": where.model_dump_json(exclude_none=True) if where else "",
        LISTS: "yes",
    }


def read(inputs: Mapping[str, Any]) -> Cluster | None:
    """The kept description; None where there is none or this program cannot read it.

    The hypervisor is None where an older program kept none.
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
    """A description that another version of this program allowed but today's checks refuse.

    It is read without those checks, since changes to such a cluster can lose data as well.
    """
    try:
        description = Description.model_validate(_without_unknown(value))
        whole = description.versions and description.control_planes
    except (ValidationError, UnknownVersion):
        return None
    fields = {name: getattr(description, name) for name in Description.model_fields}
    return Cluster.model_construct(**fields) if whole else None


def _without_unknown(value: Any) -> Any:
    """A description without the fields that only a newer version of this program has."""
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
