"""The step for control planes: API server, controller manager, scheduler, virtual IP."""

from plan import (
    addons,
    apiserver,
    controller_manager,
    health,
    layout,
    readyz,
    scheduler,
    turn,
    virtual_ip,
)
from plan.artifact import artifacts
from plan.model import Step
from spec.cluster import API_PORT, Cluster

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def step(spec: Cluster, node: str) -> Step:
    """The services of a control plane; the first control plane also has the add-ons' manifests.

    Where there are several API servers, each is ready when its step is done. A lone API server may
    become ready later, while the node's step and the add-ons, which wait for it, already run.

    The first API server of a cluster creates its first objects, so any other one that is new starts
    once another is ready. Its step waits for that, and not the engine for another step: in a living
    cluster, an API server that restarts waits in its turn for those that are new.
    """
    first = node == spec.control_planes[0]
    turns = apiserver.turns(spec, node)
    # A lone API server's member may be elsewhere, and its key turns over as well.
    asks = turns or node not in spec.etcd_members
    programs = artifacts(spec, (*PROGRAMS, *((turn.LOCK_PROGRAM,) if asks else ())))
    moves = virtual_ip.wanted(spec)
    return Step(
        name="control-plane",
        packages=virtual_ip.PACKAGES if moves else (),
        artifacts=programs,
        directories=(*apiserver.directories(), *((addons.directory(),) if first else ())),
        files=(
            readyz.WAIT,
            health.WAIT,
            *apiserver.files(),
            *controller_manager.files(spec, node),
            *scheduler.files(spec, node),
            *(virtual_ip.files(spec, node) if moves else ()),
            *(addons.files(spec) if first else ()),
        ),
        links=tuple(program.command for program in programs),
        units=(
            apiserver.unit(spec, node),
            controller_manager.unit(spec, node),
            scheduler.unit(spec, node),
            *((virtual_ip.unit(spec, node),) if moves else ()),
        ),
        turns=turns,
        begin="first-start" if turns and not first else None,
        script="control-plane",
        settings={
            "authority": layout.AUTHORITY,
            "api": layout.local_api_url(spec, node),
            "several": "yes" if len(spec.control_planes) > 1 else "",
            "virtual_ip": f"https://{spec.api_host}:{API_PORT}" if moves else "",
        },
        outcome=f"control plane {spec.versions.kubernetes}, "
        + ("API ready" if len(spec.control_planes) > 1 else "started"),
    )
