"""Changes that would leave services or keys on machines that stay."""

from collections.abc import Sequence

from plan.artifact import unknown_digests
from plan.cluster import node_plan
from plan.model import NodePlan
from spec.change import made_anew
from spec.cluster import ArtifactSource, Cluster
from spec.refusal import Refusal, dotted, listed

SHOWN = 2
"""The largest number of machines, of services and of paths that a message names."""

Left = tuple[tuple[str, ...], tuple[str, ...]]
"""The names of services, and the paths of keys and certificates."""


def left_behind(before: Cluster, after: Cluster, *, lists: bool) -> tuple[str, ...]:
    """Sentences about machines that would keep services or keys that their new plans do not have.

    ``lists`` says whether the machines have lists of what their steps brought, from which the
    deletion of a step takes it away. A machine that is made anew around its disk at the same time
    would keep it nevertheless. Machines that would keep the same services and keys share a
    sentence.
    """
    stay = sorted(before.machines.keys() & after.machines.keys())
    old, new = _with_digests(before), _with_digests(after)
    anew = made_anew(before, after)
    left_on: dict[tuple[Left, str], list[str]] = {}
    for name in stay:
        plans = node_plan(old, name), node_plan(new, name)
        left, instead = _left(*plans), _instead(*plans, lists=lists, anew=name in anew)
        if any(left) and instead:
            left_on.setdefault((left, instead), []).append(name)
    return tuple(str(_refusal(names, *left)) for left, names in left_on.items())


def _instead(old: NodePlan, new: NodePlan, *, lists: bool, anew: bool) -> str:
    """What to do where something would be left on a machine; empty where it is taken away."""
    gone = {step.name for step in old.steps} - {step.name for step in new.steps}
    if not lists:
        return (
            "run ./hardway up once with roles and endpoint as they were, so that machines list "
            "what they have, and write this change then"
        )
    if gone and anew:
        return "write the machine's size and the hypervisor as they were, and change them later"
    return ""


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


def _refusal(names: Sequence[str], left: Left, instead: str) -> Refusal:
    first, *others = names
    beside = f" beside {_some([others])}" if others else ""
    return Refusal(
        dotted(("machines", first)),
        f"would{beside} keep {_some(left)}, which the plan no longer has",
        "a service would run on, or a key stay, that nobody looks after",
        instead,
    )


def _some(names: Sequence[Sequence[str]]) -> str:
    """The first names of each kind, and the number of all other names."""
    shown = [name for group in names for name in group[:SHOWN]]
    more = sum(map(len, names)) - len(shown)
    return listed([*shown, f"{more} more"] if more else shown, "and")
