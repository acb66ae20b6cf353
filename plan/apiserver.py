"""kube-apiserver."""

from typing import Any

import yaml

from plan import audit, layout, reload, tls, turn
from plan.artifact import artifact
from plan.model import Directory, File, Turn, Unit
from spec.cluster import API_PORT, Cluster

UNIT = "kube-apiserver.service"
AUTHENTICATION_FILE = f"{layout.KUBERNETES}/authentication.yaml"
ADMISSION_FILE = f"{layout.KUBERNETES}/admission.yaml"

HEALTH = "/readyz?exclude=etcd&exclude=etcd-readiness"
"""The health endpoint that decides which API server gets new connections. It leaves etcd out, which
all API servers use: where etcd is slow, none of them would be ready, and clients would have to make
every connection anew."""

NOTICE = 12
"""Seconds for which one of several API servers continues to serve during its shutdown. At HEALTH it
already reports that it is not ready; the slowest balancer that uses HEALTH takes so many seconds to
send new connections elsewhere."""
CALLS_END = 15
"""Seconds after NOTICE in which calls must end; watches end sooner. The limit is necessary: without
etcd, an API server does not end by itself (not within 320 s)."""

AUTHENTICATION: dict[str, Any] = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AuthenticationConfiguration",
    # CIS 1.2.1 wants no anonymous requests. Programs that only check the API's health have no
    # identity: keepalived, services that wait, balancers. (v1 and its conditions exist in 1.34 and
    # later, KEP-4633.)
    "anonymous": {
        "enabled": True,
        "conditions": [{"path": path} for path in ("/healthz", "/livez", "/readyz")],
    },
}
"""An AuthenticationConfiguration; with it ``--anonymous-auth`` must not be set."""

ADMISSION: dict[str, Any] = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            # Prevents a single runaway controller from filling etcd with events (CIS 1.2.9).
            "name": "EventRateLimit",
            "configuration": {
                "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
                "kind": "Configuration",
                "limits": [
                    {"type": kind, "qps": 50, "burst": 100, "cacheSize": 2000}
                    for kind in ("Namespace", "User")
                ],
            },
        }
    ],
}
"""An AdmissionConfiguration."""


def files() -> tuple[File, ...]:
    """The configurations of authentication and admission, and the audit policy."""
    return (
        File(path=AUTHENTICATION_FILE, content=yaml.safe_dump(AUTHENTICATION, sort_keys=False)),
        File(path=ADMISSION_FILE, content=yaml.safe_dump(ADMISSION, sort_keys=False)),
        audit.file(),
    )


def directories() -> tuple[Directory, ...]:
    """The directory of the audit log."""
    return (Directory(path=audit.FOLDER, mode=0o700),)


def turns(spec: Cluster, node: str) -> tuple[Turn, ...]:
    """The turn of an API server: one at a time restarts, while all others are ready."""

    def ready(name: str) -> str:
        return f"{layout.api_server_url(spec, name)}/readyz"

    return turn.turns(spec, node, UNIT, spec.control_planes, ready, (layout.AUTHORITY,))


def unit(spec: Cluster, node: str) -> Unit:
    """The service; it counts as started once it serves, which may be before it is ready."""
    flags = {
        **_place(spec, node),
        **_etcd(spec, node),
        **_callers(spec),
        **_CALLS,
        **_ADMISSION,
        **_LIMITS,
        **_ending(spec),
        **audit.FLAGS,
        **(_EMULATED if spec.is_emulated(node) else {}),
    }
    watched = reload.files("kube-apiserver", flags)
    return Unit(
        name=UNIT,
        description="Kubernetes API server",
        program=artifact(spec, "kube-apiserver").command.path,
        flags=flags,
        needs=watched.needs,
        reads=watched.reads,
        service={
            "TimeoutStopSec": str(_delay(spec) + CALLS_END),
            "LimitNOFILE": "1048576",
            "OOMScoreAdjust": "-999",
        },
    )


def _place(spec: Cluster, node: str) -> dict[str, str]:
    # Without this flag, clients would keep connections for days and leave other API servers idle.
    spread = {"goaway-chance": "0.001"} if len(spec.control_planes) > 1 else {}
    return {
        "advertise-address": str(spec.machines[node].address),
        "secure-port": str(API_PORT),
        "service-cluster-ip-range": str(spec.networks.services),
        "tls-cert-file": layout.certificate("apiserver"),
        "tls-private-key-file": layout.private_key("apiserver"),
        **tls.SERVING,
        **spread,
    }


def _etcd(spec: Cluster, node: str) -> dict[str, str]:
    """Flags for etcd: all members, first the machine's own member, and files for requests."""
    names = sorted(spec.etcd_members, key=lambda name: (name != node, name))
    return {
        "etcd-servers": ",".join(layout.etcd_url(spec, name) for name in names),
        "etcd-cafile": layout.ETCD_AUTHORITY,
        "etcd-certfile": layout.certificate("apiserver-etcd-client"),
        "etcd-keyfile": layout.private_key("apiserver-etcd-client"),
        "encryption-provider-config": layout.ENCRYPTION,
    }


def _callers(spec: Cluster) -> dict[str, str]:
    """Flags for the authentication and authorization of callers."""
    return {
        "client-ca-file": layout.AUTHORITY,
        "authentication-config": AUTHENTICATION_FILE,
        "authorization-mode": "Node,RBAC",
        "service-account-issuer": f"https://kubernetes.default.svc.{spec.dns_domain}",
        "service-account-key-file": layout.SERVICE_ACCOUNT_PUBLIC,
        "service-account-signing-key-file": layout.SERVICE_ACCOUNT_PRIVATE,
        "service-account-extend-token-expiration": "false",
        "requestheader-client-ca-file": layout.FRONT_PROXY_AUTHORITY,
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    }


_CALLS = {
    "kubelet-certificate-authority": layout.AUTHORITY,
    "kubelet-client-certificate": layout.certificate("apiserver-kubelet-client"),
    "kubelet-client-key": layout.private_key("apiserver-kubelet-client"),
    "kubelet-preferred-address-types": "InternalIP,Hostname",
    "proxy-client-cert-file": layout.certificate("front-proxy-client"),
    "proxy-client-key-file": layout.private_key("front-proxy-client"),
    # Service addresses need kube-proxy, which may not run yet when an aggregated API is called.
    "enable-aggregator-routing": "true",
}
"""Flags for calls that the API server itself makes, to kubelets and aggregated API servers."""

_ADMISSION = {
    "allow-privileged": "true",
    "enable-admission-plugins": "NodeRestriction,EventRateLimit",
    "admission-control-config-file": ADMISSION_FILE,
}

_LIMITS = {
    "profiling": "false",
    "request-timeout": "60s",
    "event-ttl": "1h",
}


def _delay(spec: Cluster) -> int:
    return NOTICE if len(spec.control_planes) > 1 else 0


def _ending(spec: Cluster) -> dict[str, str]:
    return {
        "shutdown-delay-duration": f"{_delay(spec)}s",
        # Without this flag, the API server waits for watches, which do not end, as long as for any
        # call: with the watches of a controller manager it ended after 60.2 s, and with the flag
        # after 1.2 s (1.37.1).
        "shutdown-watch-termination-grace-period": "5s",
    }


_EMULATED = {
    # The metric costs, once a minute for each of some 67 kinds of objects, a read on which etcd's
    # members agree, and notifications until the kind's watch is as new. Three members on emulated
    # machines could not do that much (apiserver 1.37, storage/etcd3/stats.go and
    # registry/store.go).
    "etcd-count-metric-poll-period": "0",
    # The first feature also reads once a minute, the second lists all objects twice every five
    # minutes.
    "feature-gates": "SizeBasedListCostEstimate=false,DetectCacheInconsistency=false",
}
"""Flags that turn off measurements which load etcd, for emulated processors."""
