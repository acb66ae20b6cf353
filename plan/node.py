"""The node step, which makes a machine a node; control planes are nodes as well."""

from plan import (
    balancer,
    cni,
    controller_manager,
    flannel,
    health,
    kubelet,
    layout,
    proxy,
    readyz,
    roll,
    runtime,
    scheduler,
)
from plan.artifact import artifact, artifacts
from plan.model import Step
from spec.cluster import Cluster

PROGRAMS = ("flanneld", "kubelet", "kube-proxy", "kubectl")


def step(spec: Cluster, node: str) -> Step:
    """The kubelet, kube-proxy, flannel and the CNI plugins of a node; its balancer, if it has one.

    Where Kubernetes is flannel's store, the step does not wait for flannel, since flannel needs a
    ClusterRole that the add-ons create later.
    """
    programs = artifacts(spec, PROGRAMS)
    packages, balancer_files, balancer_units = balancer.parts(spec, node)
    return Step(
        name="node",
        packages=packages,
        artifacts=(*programs, *cni.programs(spec)),
        directories=cni.directories(),
        files=(
            *kubelet.files(spec, node),
            *proxy.files(spec, node),
            *flannel.files(spec, node),
            *cni.files(spec),
            *balancer_files,
            readyz.WAIT,
            health.WAIT,
        ),
        links=(*(program.command for program in programs), *cni.links(spec)),
        units=(
            *balancer_units,
            flannel.unit(spec, node),
            kubelet.unit(spec, node),
            proxy.unit(spec, node),
        ),
        not_newer=runtime.follows(spec, artifact(spec, "kubelet").command),
        rolling=roll.rolling(node, (artifact(spec, "kubelet").command, *runtime.commands(spec))),
        script="node",
        settings={
            "node": node,
            "kubeconfig": layout.kubeconfig("kubelet"),
            "controllers": " ".join(_controllers(spec, node)),
            "api": layout.local_api_url(spec, node),
            "authority": layout.AUTHORITY,
            "kubelet_port": str(kubelet.HEALTH_PORT),
            "proxy_port": str(proxy.HEALTH_PORT),
            "flannel_store": spec.flannel.store,
            "cni_list": cni.LIST,
        },
        outcome=f"kubelet {spec.versions.kubernetes}, healthy",
    )


def _controllers(spec: Cluster, node: str) -> tuple[str, ...]:
    """The services of a control plane that start beside its kubelet, once the API is ready."""
    is_control_plane = node in spec.control_planes
    return (controller_manager.UNIT, scheduler.UNIT) if is_control_plane else ()
