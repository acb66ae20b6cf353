"""What a change would leave on machines that stay: nothing takes services and keys away yet."""

from collections.abc import Iterator

from plan.artifact import unknown_digests
from plan.cluster import node_plan
from plan.model import NodePlan
from spec.cluster import ArtifactSource, Cluster
from spec.refusal import Refusal, dotted, listed


def left_behind(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """A sentence for each machine that stays with a service or key that its plan no longer has."""
    if before == after:
        return ()
    found = []
    for name in sorted(before.machines.keys() & after.machines.keys()):
        old, new = (_plan(spec, name) for spec in (before, after))
        if things := list(_left(old, new)):
            found.append(_refusal(name, things))
    return tuple(map(str, found))


def _plan(spec: Cluster, name: str) -> NodePlan:
    """The plan of a machine, of whatever bytes its programs are."""
    digests = dict.fromkeys(unknown_digests(spec), "0" * 64)
    known = ArtifactSource(mirror=spec.artifacts.mirror, digests=digests | spec.artifacts.digests)
    return node_plan(spec.model_copy(update={"artifacts": known}), name)


def _left(old: NodePlan, new: NodePlan) -> Iterator[str]:
    services = {unit.name for unit in new.units}
    yield from (unit.name for unit in old.units if unit.name not in services)
    paths = {file.path for file in new.secret_files}
    yield from (file.path for file in old.secret_files if file.path not in paths)


def _refusal(name: str, things: list[str]) -> Refusal:
    shown, more = things[:3], len(things) - 3
    told = listed([*shown, f"{more} more"] if more > 0 else shown, "and")
    return Refusal(
        dotted(("machines", name)),
        f"would no longer have {told} in its plan and keep them",
        "a service would run on, or a key lie there, that nobody looks after",
        "write its roles and the endpoint as they were, or write a machine of another name and "
        "leave this one out",
    )
