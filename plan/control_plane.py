"""A control plane: the API server, the controller manager, the scheduler, the virtual IP."""

from plan import apiserver, controller_manager, health, layout, readyz, scheduler, turn, virtual_ip
from plan.artifact import artifacts
from plan.model import Step
from spec.cluster import API_PORT, Cluster

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def step(spec: Cluster, node: str) -> Step:
    """All that a control plane runs, started together; it is done when each of them is healthy."""
    turns = apiserver.turns(spec, node)
    programs = artifacts(spec, (*PROGRAMS, *((turn.LOCK_PROGRAM,) if turns else ())))
    moves = virtual_ip.wanted(spec)
    return Step(
        name="control-plane",
        packages=virtual_ip.PACKAGES if moves else (),
        artifacts=programs,
        directories=apiserver.directories(),
        files=(
            readyz.WAIT,
            health.WAIT,
            *apiserver.files(),
            *controller_manager.files(spec, node),
            *scheduler.files(spec, node),
            *(virtual_ip.files(spec, node) if moves else ()),
        ),
        links=tuple(program.command for program in programs),
        units=(
            apiserver.unit(spec, node),
            controller_manager.unit(spec, node),
            scheduler.unit(spec, node),
            *((virtual_ip.unit(spec, node),) if moves else ()),
        ),
        turns=turns,
        script="control-plane",
        settings={
            "authority": layout.AUTHORITY,
            "api": layout.local_api_url(spec, node),
            "controller_manager": controller_manager.HEALTH,
            "scheduler": scheduler.HEALTH,
            "virtual_ip": f"https://{spec.api_host}:{API_PORT}" if moves else "",
        },
        outcome=f"control plane {spec.versions.kubernetes}, healthy",
    )
