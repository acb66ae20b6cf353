"""The plan of a whole cluster."""

from dataclasses import dataclass, replace

from plan import addons, control_plane, etcd, identity, layout, node, runtime
from plan.artifact import missing_digests
from plan.conditions import Condition, conditions
from plan.model import NodePlan, Step, Unit
from spec.cluster import Cluster, SpecError

SPARING_GO = {
    # Memory is there and the processor is not: garbage collection is a quarter of the work of an
    # API server that starts, and it interrupts all goroutines by signals.
    "GOGC": "400",
    "GODEBUG": "asyncpreemptoff=1",
}
"""Environment of Go programs on emulated machines (Go's package runtime)."""


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """Every machine's plan, and what is done once for all of them."""

    nodes: dict[str, NodePlan]
    add_ons: tuple[Step, ...]
    """Run on the first control plane: the files, what makes the objects that they describe, and
    what gives nodes their labels and taints."""
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
        add_ons=(addons.step(spec), addons.apply(spec), addons.nodes(spec)),
        conditions=conditions(spec),
    )


def node_plan(spec: Cluster, name: str) -> NodePlan:
    """What one machine must hold, in the order in which it gets it."""
    steps = [_ready(spec, name), Step(name="artifacts"), identity.step(spec, name)]
    if name in spec.nodes:
        steps.append(runtime.step(spec, name))
    if name in spec.etcd_members:
        steps.append(etcd.step(spec, name))
    if name in spec.control_planes:
        steps.append(control_plane.step(spec, name))
    if name in spec.nodes:
        steps.append(node.step(spec, name))
    if spec.is_emulated(name):
        steps = [replace(step, units=tuple(map(_sparing, step.units))) for step in steps]
    return NodePlan(node=name, steps=_artifacts_first(steps))


def _ready(spec: Cluster, name: str) -> Step:
    """The machine answers, has all of the disk that it is given, and will find the API."""
    size = str(spec.machines[name].disk) if spec.is_made(name) else ""
    settings = {"disk": size, "api_name": layout.api_name(spec, name)}
    return Step(name="ready", script="ready", settings=settings)


def _sparing(unit: Unit) -> Unit:
    """A service that leaves an emulated processor alone where it can.

    Its timers, of which Go programs have hundreds, may wait for one another: each change from one
    process to another empties the emulator's buffer of translated addresses, which costs a
    millisecond or two of the host, and idle daemons changed some hundred times a second.
    """
    return replace(
        unit,
        service={**unit.service, "TimerSlackNSec": "50ms"},
        environment={**unit.environment, **SPARING_GO},
    )


def _artifacts_first(steps: list[Step]) -> tuple[Step, ...]:
    """Gather every step's artifacts, each once, in the step of that name."""
    every = tuple(dict.fromkeys(artifact for step in steps for artifact in step.artifacts))
    return tuple(
        replace(step, artifacts=every if step.name == "artifacts" else ()) for step in steps
    )
