"""The plan of a whole cluster."""

from dataclasses import dataclass, replace

from plan import addons, control_plane, etcd, identity, node, runtime
from plan.artifact import missing_digests
from plan.conditions import Condition, conditions
from plan.model import NodePlan, Step
from spec.cluster import Cluster, SpecError


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """Every machine's plan, and what is done once for all of them."""

    nodes: dict[str, NodePlan]
    add_ons: tuple[Step, ...]
    """Run on the first control plane: the files, then what makes the objects that they describe."""
    conditions: tuple[Condition, ...]
    """What must be true before anybody says that the cluster is ready, in order."""


def cluster_plan(spec: Cluster) -> ClusterPlan:
    """The plan of a cluster, machine by machine by name.

    Raises SpecError with a line for each artifact whose bytes nobody knows.
    """
    if unknown := missing_digests(spec):
        raise SpecError("\n".join(unknown))
    return ClusterPlan(
        nodes={name: node_plan(spec, name) for name in sorted(spec.machines)},
        add_ons=(addons.step(spec), addons.apply(spec)),
        conditions=conditions(spec),
    )


def node_plan(spec: Cluster, name: str) -> NodePlan:
    """What one machine must hold, in the order in which it gets it."""
    steps = [Step(name="ready", script="ready"), Step(name="artifacts"), identity.step(spec, name)]
    if name in spec.nodes:
        steps.append(runtime.step(spec, name))
    if name in spec.etcd_members:
        steps.append(etcd.step(spec, name))
    if name in spec.control_planes:
        steps.append(control_plane.step(spec, name))
    if name in spec.nodes:
        steps.append(node.step(spec, name))
    return NodePlan(node=name, steps=_artifacts_first(steps))


def _artifacts_first(steps: list[Step]) -> tuple[Step, ...]:
    """Gather every step's artifacts, each once, in the step of that name."""
    every = tuple(dict.fromkeys(artifact for step in steps for artifact in step.artifacts))
    return tuple(
        replace(step, artifacts=every if step.name == "artifacts" else ()) for step in steps
    )
