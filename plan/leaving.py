"""Services and keys that a change would leave on machines that stay: no step removes them yet."""

from collections.abc import Sequence

from plan.artifact import unknown_digests
from plan.cluster import node_plan
from plan.model import NodePlan
from spec.cluster import ArtifactSource, Cluster
from spec.refusal import Refusal, dotted, listed

SHOWN = 2
"""The largest number of machines, of services and of paths that a message names."""

Left = tuple[tuple[str, ...], tuple[str, ...]]
"""The names of services, and the paths of keys and certificates."""


def left_behind(before: Cluster, after: Cluster) -> tuple[str, ...]:
    """Sentences about machines that would keep services or keys that their new plans do not have.

    Machines that would keep the same services and keys share a sentence.
    """
    stay = sorted(before.machines.keys() & after.machines.keys())
    old, new = _with_digests(before), _with_digests(after)
    found: dict[Left, list[str]] = {}
    for name in stay:
        left = _left(node_plan(old, name), node_plan(new, name))
        if any(left):
            found.setdefault(left, []).append(name)
    return tuple(str(_refusal(names, left)) for left, names in found.items())


def _with_digests(spec: Cluster) -> Cluster:
    """The same cluster with a placeholder for each unknown digest.

    The description in the state names no digests, and a plan cannot be made without them.
    """
    unknown = dict.fromkeys(unknown_digests(spec), "0" * 64)
    known = ArtifactSource(mirror=spec.artifacts.mirror, digests=unknown | spec.artifacts.digests)
    return spec.model_copy(update={"artifacts": known})


def _left(old: NodePlan, new: NodePlan) -> Left:
    services = {unit.name for unit in new.units}
    paths = {file.path for file in new.secret_files}
    return (
        tuple(unit.name for unit in old.units if unit.name not in services),
        tuple(file.path for file in old.secret_files if file.path not in paths),
    )


def _refusal(names: Sequence[str], left: Left) -> Refusal:
    first, *others = names
    beside = f" beside {_some([others])}" if others else ""
    return Refusal(
        dotted(("machines", first)),
        f"would{beside} keep {_some(left)}, which the plan no longer has",
        "a service would run on, or a key stay, that nobody looks after",
        "write roles and endpoint as they were, or give the new role to a machine of another name "
        "and leave this one out",
    )


def _some(names: Sequence[Sequence[str]]) -> str:
    """The first names of each kind, and the number of all other names."""
    shown = [name for one in names for name in one[:SHOWN]]
    more = sum(map(len, names)) - len(shown)
    return listed([*shown, f"{more} more"] if more else shown, "and")
