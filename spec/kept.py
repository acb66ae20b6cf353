"""A cluster's description as the state keeps it, for comparison with the next change."""

import json
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
OWN: TypeAdapter[dict[str, Hypervisor]] = TypeAdapter(dict[str, Hypervisor])
"""The hypervisors of machines that have one of their own, by the machines' names."""

LISTS = "lists"
"""The input which says that each machine has lists of what its steps brought to it."""

FOUNDERS = "founders"
"""The input with the members of etcd that may begin the cluster, with a space between two."""

JOINING = "joining"
"""The input with the members of etcd that join in this change, with a space between two."""

SIZES = ("cpus", "memory", "disk")

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
    own = {name: machine.hypervisor for name, machine in spec.machines.items()}
    named = OWN.dump_json({name: it for name, it in own.items() if it}, exclude_none=True).decode()
    return {
        "spec": written(spec),
        # A single JSON text, since the engine would return whole numbers as floats.
        "hypervisor": where.model_dump_json(exclude_none=True) if where else "",
        **({"hypervisors": named} if any(own.values()) else {}),
        LISTS: "yes",
        FOUNDERS: " ".join(spec.etcd_members),
        JOINING: "",
    }


def founders(before: Cluster, after: Cluster, noted: str | None) -> tuple[str, ...]:
    """The members of etcd that may begin the cluster, with nothing in it; all others join them.

    ``noted`` are those of the spec before, where the state has them. A member that leaves is none
    any more. A new generation is begun by all its members.
    """
    if after.etcd.generation > before.etcd.generation:
        return after.etcd_members
    names = before.etcd_members if noted is None else noted.split()
    return tuple(name for name in after.etcd_members if name in names)


def joining(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """The members of etcd that come in a change in which others stay; empty where none stay."""
    staying = [name for name in after.etcd_members if name in before.etcd_members]
    if not staying or after.etcd.generation > before.etcd.generation:
        return ()
    return tuple(name for name in after.etcd_members if name not in staying)


def read(inputs: Mapping[str, Any]) -> Cluster | None:
    """The kept description; None where there is none or this program cannot read it.

    The hypervisor is None where an older program kept none.
    """
    if not inputs.get("spec"):
        return None
    try:
        spec = described(inputs)
    except SpecError:
        if (unchecked := _unchecked(_value(inputs))) is None:
            return None
        spec = unchecked
    return spec.model_copy(update={"hypervisor": _hypervisor(inputs)})


def described(inputs: Mapping[str, Any]) -> Cluster:
    """The kept description. Raises SpecError where this program refuses it.

    The cluster's hypervisor is left out, since it may be a lab's offer, which is no part of a
    description.
    """
    value = _value(inputs)
    try:
        return parse(value, name="")
    except SpecError:
        if not (where := json.loads(inputs.get("hypervisor") or "null")):
            raise
    # Existing machines may have networks that machines which are made may not have.
    machines = {
        name: machine if "hypervisor" in machine else _placed(machine, where)
        for name, machine in value["machines"].items()
    }
    value |= {"machines": machines, "hypervisor": where}
    return parse(value, name="").model_copy(update={"hypervisor": None})


def _value(inputs: Mapping[str, Any]) -> Any:
    """What a person wrote, as far as it is kept, without the cluster's hypervisor."""
    value = yaml.safe_load(inputs["spec"])
    for name, where in json.loads(inputs.get("hypervisors") or "{}").items():
        value["machines"][name] = {**_placed(value["machines"][name], where), "hypervisor": where}
    return value


def _placed(machine: Mapping[str, Any], where: Mapping[str, Any]) -> dict[str, Any]:
    """A machine as a person writes it in a place: without sizes where it exists already."""
    is_made = where["kind"] != "existing"
    return {key: value for key, value in machine.items() if is_made or key not in SIZES}


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
