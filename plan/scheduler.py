"""kube-scheduler."""

from typing import Any

import yaml

from plan import election, health, kubeconfig, layout, readyz, reload, tls
from plan.artifact import artifact
from plan.model import File, Unit
from spec.cluster import Cluster

UNIT = "kube-scheduler.service"
PORT = 10259
HEALTH = f"https://127.0.0.1:{PORT}/healthz"
CONFIG = f"{layout.KUBERNETES}/scheduler.yaml"


def configuration(spec: Cluster) -> dict[str, Any]:
    """A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1)."""
    elected: dict[str, Any] = {"leaderElect": False}
    if election.needed(spec):
        elected = {
            "leaderElect": True,
            "leaseDuration": election.LEASE,
            "renewDeadline": election.RENEWAL,
            "retryPeriod": election.RETRY,
        }
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig("scheduler")},
        "enableContentionProfiling": False,
        "enableProfiling": False,
        "leaderElection": elected,
    }


def files(spec: Cluster, node: str) -> tuple[File, ...]:
    """The scheduler's configuration and kubeconfig."""
    content = yaml.safe_dump(configuration(spec), sort_keys=False)
    return (File(path=CONFIG, content=content), kubeconfig.file(spec, node, "scheduler"))


def unit(spec: Cluster, node: str) -> Unit:
    """The service, which starts once the API is ready: before that, its program would exit once."""
    watched = reload.files("kube-scheduler", _FLAGS, kubeconfig.named("scheduler"))
    return Unit(
        name=UNIT,
        description="Kubernetes scheduler",
        program=artifact(spec, "kube-scheduler").command.path,
        flags=_FLAGS,
        type="exec",
        after=("network-online.target", "kube-apiserver.service"),
        before_start=(readyz.wait(spec, node),),
        after_start=(health.wait(HEALTH, layout.AUTHORITY),),
        needs=watched.needs,
        reads=watched.reads,
        service={"TimeoutStopSec": "15", "OOMScoreAdjust": "-900"},
    )


_FLAGS = {
    "config": CONFIG,
    "bind-address": "127.0.0.1",
    "secure-port": str(PORT),
    "tls-cert-file": layout.certificate("scheduler-server"),
    "tls-private-key-file": layout.private_key("scheduler-server"),
    **tls.SERVING,
    "client-ca-file": layout.AUTHORITY,
    "requestheader-client-ca-file": layout.FRONT_PROXY_AUTHORITY,
    "requestheader-allowed-names": "front-proxy-client",
    "authentication-kubeconfig": layout.kubeconfig("scheduler"),
    "authorization-kubeconfig": layout.kubeconfig("scheduler"),
    # The configuration has the same setting and decides; auditors look at the flag (CIS 1.4.1).
    "profiling": "false",
}
