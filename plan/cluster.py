"""The plan of a whole cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plan import addons, control_plane, etcd, host, identity, layout, node, runtime
from plan.artifact import missing_digests
from plan.conditions import Condition, conditions
from plan.model import NodePlan, Step, Unit
from spec import resource_names
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
    """Run on the first control plane: what makes the objects that its files describe, and what
    gives nodes their labels and taints."""
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
        add_ons=add_ons(spec),
        conditions=conditions(spec),
    )


def outcomes(spec: Cluster) -> dict[str, str]:
    """What each step has brought about once it is done, by the name of its resource.

    Raises SpecError where nobody knows the bytes of an artifact.
    """
    steps = {name: node_plan(spec, name).steps for name in sorted(spec.machines)}
    steps[spec.control_planes[0]] += add_ons(spec)
    return {
        resource_names.part(name, step.name): step.outcome
        for name, every in steps.items()
        for step in every
    }


def add_ons(spec: Cluster) -> tuple[Step, ...]:
    """The steps that are done once for all machines, on the first control plane."""
    return (addons.apply(spec), addons.nodes(spec))


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
    steps = [_rereading(step, steps) for step in steps]
    if spec.is_emulated(name):
        steps = [replace(step, units=tuple(map(_sparing, step.units))) for step in steps]
    return NodePlan(node=name, steps=_artifacts_first(steps))


def _ready(spec: Cluster, name: str) -> Step:
    """The machine answers, has all of the disk that it is given, and will find the API.

    One that is made notices its power button, by which it is shut down before it is made anew.
    """
    made = spec.is_made(name)
    size = str(spec.machines[name].disk) if made else ""
    return Step(
        name="ready",
        files=(host.power_button(),) if made else (),
        script="ready",
        settings={
            "disk": size,
            "power_button": " ".join(host.POWER_BUTTON) if made else "",
            "api_name": layout.api_name(spec, name),
        },
        outcome=f"booted, {size} GiB disk" if made else "booted",
    )


def _rereading(step: Step, steps: Sequence[Step]) -> Step:
    """The identity step knows for which files services are not restarted: they read them again."""
    if step.name != identity.NAME:
        return step
    units = [unit for one in steps for unit in one.units if unit.reads]
    reads = "\n".join(f"{unit.name} {' '.join(unit.reads)}" for unit in units)
    return replace(step, settings={**step.settings, "reads": reads})


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
    outcome = f"{len(every)} artifacts, verified"
    return tuple(
        replace(step, artifacts=every, outcome=outcome)
        if step.name == "artifacts"
        else replace(step, artifacts=())
        for step in steps
    )
