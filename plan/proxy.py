"""kube-proxy."""

from typing import Any

from plan import health, kubeconfig, layout, readyz, reload
from plan.artifact import artifact
from plan.model import File, Unit
from spec.cluster import Cluster
from spec.document import dump_yaml

CONFIG = f"{layout.KUBERNETES}/kube-proxy.yaml"
UNIT = "kube-proxy.service"
METRICS_PORT, HEALTH_PORT = 10249, 10256
HEALTH = f"http://127.0.0.1:{HEALTH_PORT}/healthz"


def configuration(spec: Cluster, node: str) -> dict[str, Any]:
    """A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), the same in 1.35 to 1.37."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig("kube-proxy")},
        "clusterCIDR": str(spec.networks.pods),
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": f"127.0.0.1:{HEALTH_PORT}",
        "hostnameOverride": node,
        "metricsBindAddress": f"127.0.0.1:{METRICS_PORT}",
        "mode": spec.proxy_mode,
    }


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The configuration file and the kubeconfig."""
    content = dump_yaml(configuration(spec, node), sort_keys=True)
    return (File(path=CONFIG, content=content), kubeconfig.file(spec, node, "kube-proxy"))


def unit(spec: Cluster, node: str) -> Unit:
    """The service, which starts once the API is ready.

    Before that, kube-proxy may not find its node, and then backs off for 20 s.
    """
    flags = {"config": CONFIG}
    named = {"kubeconfig": layout.kubeconfig("kube-proxy")}
    watched = reload.files("kube-proxy", flags, named, kubeconfig.named("kube-proxy"))
    return Unit(
        name=UNIT,
        description="kube-proxy",
        program=artifact(spec, "kube-proxy").command.path,
        flags=flags,
        type="exec",
        before_start=(readyz.wait(spec, node),),
        after_start=(health.wait(HEALTH),),
        needs=watched.needs,
        reads=watched.reads,
    )
