"""A cluster's description as the state keeps it: what the next change is compared with."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from spec.cluster import Cluster, SpecError, parse
from spec.hypervisor import Hypervisor

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


def kept(spec: Cluster) -> dict[str, Any]:
    """The inputs of the resource that keeps a description.

    The hypervisor stands beside the text: a lab offers another kernel and another base image after
    each change of its own, which is no change of a machine that is there.
    """
    where = spec.hypervisor
    return {
        "spec": written(spec),
        "hypervisor": where.model_dump(mode="json", exclude_none=True) if where else {},
    }


def read(inputs: Mapping[str, Any]) -> Cluster | None:
    """What was kept; None where an older program kept what this one does not take.

    A hypervisor is missing where an older program kept none.
    """
    if not (text := inputs.get("spec")):
        return None
    try:
        spec = parse(yaml.safe_load(text), name="")
    except SpecError:
        return None
    return spec.model_copy(update={"hypervisor": _hypervisor(inputs)})


def _hypervisor(inputs: Mapping[str, Any]) -> Hypervisor | None:
    try:
        return HYPERVISOR.validate_python(inputs.get("hypervisor") or None)
    except ValidationError:
        return None
