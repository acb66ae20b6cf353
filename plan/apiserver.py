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
"""What decides where new connections go. Not etcd, which all API servers ask: where it is slow none
of them would be ready, and every connection would have to be made anew."""

NOTICE = 12
"""Seconds for which one of several serves on once it is to end. At HEALTH it says that it is not
ready, and this is how long the slowest who goes by that takes to send new connections elsewhere."""
CALLS_END = 15
"""Seconds after that for calls that are under way; watches end sooner. A limit there must be:
without etcd an API server does not end by itself (not within 320 s)."""

AUTHENTICATION: dict[str, Any] = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AuthenticationConfiguration",
    # CIS 1.2.1 wants nobody without a name; whoever asks only whether the API is up has none:
    # keepalived, services that wait, balancers. (v1 and its conditions: 1.34 and later, KEP-4633.)
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
            # A single runaway controller cannot fill etcd with events (CIS 1.2.9).
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
    """Whom it knows, what it lets in, what it writes down."""
    return (
        File(path=AUTHENTICATION_FILE, content=yaml.safe_dump(AUTHENTICATION, sort_keys=False)),
        File(path=ADMISSION_FILE, content=yaml.safe_dump(ADMISSION, sort_keys=False)),
        audit.file(),
    )


def directories() -> tuple[Directory, ...]:
    """Where its audit log goes."""
    return (Directory(path=audit.FOLDER, mode=0o700),)


def turns(spec: Cluster, node: str) -> tuple[Turn, ...]:
    """One API server at a time is restarted, while all others are ready."""

    def ready(name: str) -> str:
        return f"{layout.api_server_url(spec, name)}/readyz"

    return turn.turns(spec, node, UNIT, spec.control_planes, ready, (layout.AUTHORITY,))


def unit(spec: Cluster, node: str) -> Unit:
    """The daemon; systemd knows it as started when it serves, before all of it is ready."""
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
    found = reload.files("kube-apiserver", flags)
    return Unit(
        name=UNIT,
        description="Kubernetes API server",
        program=artifact(spec, "kube-apiserver").command.path,
        flags=flags,
        needs=found.needs,
        reads=found.reads,
        service={
            "TimeoutStopSec": str(_delay(spec) + CALLS_END),
            "LimitNOFILE": "1048576",
            "OOMScoreAdjust": "-999",
        },
    )


def _place(spec: Cluster, node: str) -> dict[str, str]:
    # A connection that is kept for days would leave the other API servers idle.
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
    """All members, a machine's own one first."""
    names = sorted(spec.etcd_members, key=lambda name: (name != node, name))
    return {
        "etcd-servers": ",".join(layout.etcd_url(spec, name) for name in names),
        "etcd-cafile": layout.ETCD_AUTHORITY,
        "etcd-certfile": layout.certificate("apiserver-etcd-client"),
        "etcd-keyfile": layout.private_key("apiserver-etcd-client"),
        "encryption-provider-config": layout.ENCRYPTION,
    }


def _callers(spec: Cluster) -> dict[str, str]:
    """Whom it believes to be who they say, and what they may."""
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
    # Service addresses are kube-proxy's, which need not be up when an aggregated API is asked.
    "enable-aggregator-routing": "true",
}
"""Whom it calls itself: kubelets, and aggregated API servers."""

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
        # Otherwise it waits for its watches, which do not end, as long as for any call: with those
        # of a controller manager it ended after 60.2 s, and with this after 1.2 s (1.37.1).
        "shutdown-watch-termination-grace-period": "5s",
    }


_EMULATED = {
    # For each of some 67 kinds of objects, once a minute: a read that etcd's members agree on, and
    # notifications until the kind's watch is as new. With three members on emulated machines that
    # was more than they could do (apiserver 1.37, storage/etcd3/stats.go and registry/store.go).
    "etcd-count-metric-poll-period": "0",
    # The first asks once a minute as well, the second lists all objects twice every five minutes.
    "feature-gates": "SizeBasedListCostEstimate=false,DetectCacheInconsistency=false",
}
"""What is measured at the cost of etcd, and left unmeasured where processors are emulated."""
