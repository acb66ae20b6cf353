"""The plan of a whole cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plan import (
    addons,
    backup,
    control_plane,
    etcd,
    host,
    identity,
    layout,
    node,
    runtime,
    time_service,
    web_proxy,
)
from plan.artifact import missing_digests
from plan.condition import Condition
from plan.conditions import conditions
from plan.model import NodePlan, Step, Unit
from spec import resource_names
from spec.cluster import Cluster, SpecError

SPARING_GO = {
    # An emulated machine lacks processor time and not memory: garbage collection is a quarter of
    # the work of a starting API server, and it interrupts all goroutines by signals.
    "GOGC": "400",
    "GODEBUG": "asyncpreemptoff=1",
}
"""Environment variables of Go programs on emulated machines (Go's package runtime)."""


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """The plan of every machine, and what is done once for the whole cluster."""

    nodes: dict[str, NodePlan]
    """Machine name to the machine's plan."""
    add_ons: tuple[Step, ...]
    """Steps that run on the first control plane: the first creates the objects that the manifests
    there describe, the second gives nodes their labels and taints."""
    conditions: tuple[Condition, ...]
    """Conditions that must hold before the cluster counts as ready, in order."""


def cluster_plan(spec: Cluster) -> ClusterPlan:
    """The plan of a cluster, with the plans of its machines by name.

    Raises SpecError with a line for each artifact without a known digest.
    """
    if unknown := missing_digests(spec):
        raise SpecError("\n".join(unknown))
    return ClusterPlan(
        nodes={name: node_plan(spec, name) for name in sorted(spec.machines)},
        add_ons=add_ons(spec),
        conditions=conditions(spec),
    )


def outcomes(spec: Cluster) -> dict[str, str]:
    """The outcome of each step, and of the copy of the scripts, by the name of the resource.

    Raises SpecError where an artifact has no known digest.
    """
    steps = {name: node_plan(spec, name).steps for name in sorted(spec.machines)}
    steps[spec.control_planes[0]] += add_ons(spec)
    return {
        resource_names.part(name, part): outcome
        for name, every in steps.items()
        for part, outcome in [
            (resource_names.SCRIPTS, "answers by SSH"),
            *((step.name, step.outcome) for step in every),
        ]
    }


def add_ons(spec: Cluster) -> tuple[Step, ...]:
    """The steps that run once for the whole cluster, on the first control plane."""
    return (addons.apply(spec), addons.nodes(spec))


def node_plan(spec: Cluster, name: str) -> NodePlan:
    """What one machine must hold, in the order in which its steps run."""
    steps = [_ready(spec, name), identity.step(spec, name)]
    if name in spec.nodes:
        steps.append(runtime.step(spec, name))
    if name in spec.etcd_members:
        steps.append(etcd.step(spec, name))
    if name in spec.control_planes:
        steps.append(control_plane.step(spec, name))
    if name in spec.nodes:
        steps.append(node.step(spec, name))
    if name == backup.member(spec):
        steps.append(backup.step(spec, name))
    steps = [_keeping(_rereading(step, steps), steps) for step in steps]
    if spec.is_emulated(name):
        steps = [replace(step, units=tuple(map(_sparing, step.units))) for step in steps]
    return NodePlan(node=name, steps=_naming(_artifacts_first(steps)))


def _ready(spec: Cluster, name: str) -> Step:
    """The first step: it waits until the machine has booted, has its whole disk and finds the API.

    Then it brings the artifacts of all steps to the machine and verifies them. To find the API
    means to resolve its DNS name, where the machine uses one. A machine that has time servers asks
    them from here on, before anything depends on its clock. A machine that this program creates
    also gets support for its power button, which shuts the machine down before it is created anew.
    """
    made = spec.is_made(name)
    address, mtu = spec.machines[name].address, spec.networks.mtu
    size = str(spec.machines[name].disk) if made else ""
    return Step(
        name="ready",
        packages=time_service.packages(spec),
        files=(
            *((host.power_button(),) if made else ()),
            *host.name_servers(spec),
            *web_proxy.files(spec),
            *time_service.files(spec),
        ),
        units=time_service.units(spec),
        begin="ready",
        settings={
            "disk": size,
            "power_button": " ".join(host.POWER_BUTTON) if made else "",
            "api_name": layout.api_name(spec, name),
            "name_servers": " ".join(map(str, spec.networks.name_servers)),
            **web_proxy.settings(spec),
            "packet_size": f"{address} {mtu}" if mtu else "",
        },
        outcome=f"booted, {size} GiB" if made else "booted",
    )


def _rereading(step: Step, steps: Sequence[Step]) -> Step:
    """Tell the identity step for which changed files it need not restart a service.

    The services read these files again by themselves. All other steps remain as they are.
    """
    if step.name != identity.NAME:
        return step
    units = [unit for other_step in steps for unit in other_step.units if unit.reads]
    reads = "\n".join(f"{unit.name} {' '.join(unit.reads)}" for unit in units)
    return replace(step, settings={**step.settings, "reads": reads})


def _keeping(step: Step, steps: Sequence[Step]) -> Step:
    """Tell a step which secret files of other steps its services need."""
    others = {
        file.path
        for other_step in steps
        if other_step is not step
        for file in other_step.secret_files
    }
    needed = (path for unit in step.units for path in (*unit.needs, *unit.reads))
    keys = dict.fromkeys(f"secret {path}" for path in needed if path in others)
    return replace(step, keeps=(*step.keeps, *keys))


def _sparing(unit: Unit) -> Unit:
    """The same service with settings that save time of an emulated processor.

    The kernel may delay the service's timers, of which Go programs have hundreds, so that several
    expire together. Each switch between processes empties the emulator's buffer of translated
    addresses, which costs a millisecond or two of the host, and idle daemons caused some hundred
    switches a second.
    """
    return replace(
        unit,
        service={**unit.service, "TimerSlackNSec": "50ms"},
        environment={**unit.environment, **SPARING_GO},
    )


def _naming(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Tell the first step the names of all steps, which it keeps on the machine."""
    first, *others = steps
    names = " ".join(step.name for step in steps)
    return (replace(first, settings={**first.settings, "steps": names}), *others)


def _artifacts_first(steps: list[Step]) -> tuple[Step, ...]:
    """Move the artifacts of all steps, each artifact once, to the first step."""
    every = tuple(dict.fromkeys(artifact for step in steps for artifact in step.artifacts))
    first, *others = (replace(step, artifacts=()) for step in steps)
    outcome = f"{first.outcome}, {len(every)} artifacts"
    return (replace(first, artifacts=every, outcome=outcome), *others)
