"""What nodes and pods use now: metrics-server, for ``kubectl top`` and for autoscalers."""

from collections.abc import Iterator
from typing import Any

from certs.table import SERVER, Authority, Row
from plan.addons import coredns, namespaces
from plan.addons.add_on import AddOn
from plan.addons.workload import (
    SURGE,
    as_user,
    container,
    deployment,
    pod,
)
from plan.condition import ApiServices, Condition, Pods, condition
from plan.limits import Limit
from plan.model import AuthorityCertificate, Certificate, PrivateKey
from plan.objects import Manifest
from plan.rbac import GROUP, READ, account, binding, granted, role, rule, service_account
from spec.cluster import Cluster

NAMESPACE = namespaces.RESTRICTED
NAME = "metrics-server"
SELECTOR = {"k8s-app": NAME}
"""Name and label that it has in other clusters as well, since tools look for them."""

API = "v1beta1.metrics.k8s.io"
"""The API that it serves, through the API servers."""
SECRET = f"{NAME}-tls"
PORT = 10250
AUTHORITY = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
"""The cluster's authority, which signs kubelets' certificates, as each pod has it."""
VIEWERS = ("admin", "edit", "view")
"""The roles of Kubernetes' own for people who may view a namespace."""


def _certificates(_spec: Cluster) -> tuple[Row, ...]:
    """The one with which it answers API servers, which ask for its Service's name."""
    return (
        Row(
            name=NAME,
            node=None,
            issuer=Authority.KUBERNETES,
            common_name=NAME,
            uses=SERVER,
            dns_names=(f"{NAME}.{NAMESPACE}.svc",),
        ),
    )


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """Those of its own manifests (v0.9.0): to read metrics of kubelets, and whom API servers trust.

    Whoever may view a namespace may see what its pods use.
    """
    whole, own = f"hardway:{NAME}", account(NAME, NAMESPACE)
    return (
        service_account(_named(NAME)),
        *granted(
            own,
            whole,
            [rule("", ["nodes/metrics"], ["get"]), rule("", ["nodes", "pods"], READ)],
        ),
        binding(f"{whole}:auth-delegator", "system:auth-delegator", own),
        binding(
            f"{whole}:auth-reader",
            "extension-apiserver-authentication-reader",
            own,
            inside="kube-system",
        ),
        role(
            "system:aggregated-metrics-reader",
            [rule("metrics.k8s.io", ["nodes", "pods"], READ)],
            labels={f"{GROUP}/aggregate-to-{reader}": "true" for reader in VIEWERS},
        ),
    )


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """The program, its certificate and the API that it serves.

    The API servers verify it by the cluster's own authority, where its own manifests have them
    trust any certificate.
    """
    return (
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _named(SECRET),
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": Certificate(NAME), "tls.key": PrivateKey(NAME)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _named(NAME),
            "spec": {
                "ports": [
                    {"name": "https", "port": 443, "targetPort": "https", "appProtocol": "https"}
                ],
                "selector": SELECTOR,
            },
        },
        deployment(_named(NAME), {"labels": SELECTOR}, _pod(spec), strategy=SURGE),
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": NAME, "namespace": NAMESPACE, "port": 443},
                "caBundle": AuthorityCertificate(Authority.KUBERNETES.value),
            },
        },
    )


def _pod(spec: Cluster) -> Manifest:
    settings = spec.addons.metrics_server
    assert settings is not None
    return pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="50m",
            memory=("40Mi", "120Mi"),
            args=[
                f"--secure-port={PORT}",
                "--tls-cert-file=/tls/tls.crt",
                "--tls-private-key-file=/tls/tls.key",
                "--kubelet-preferred-address-types=InternalIP",
                "--kubelet-use-node-status-port",
                f"--kubelet-certificate-authority={AUTHORITY}",
                f"--metric-resolution={settings.resolution}s",
            ],
            livenessProbe={
                "failureThreshold": 5,
                "httpGet": {"path": "/livez", "port": "https", "scheme": "HTTPS"},
                "initialDelaySeconds": 60,
                "periodSeconds": 20,
                "timeoutSeconds": 10,
            },
            ports=[{"name": "https", "containerPort": PORT}],
            readinessProbe={
                "httpGet": {"path": "/readyz", "port": "https", "scheme": "HTTPS"},
                "periodSeconds": 5,
                "timeoutSeconds": 5,
            },
            volumeMounts=[{"mountPath": "/tls", "name": "tls", "readOnly": True}],
        ),
        priority="cluster",
        # The group of the files with its key.
        securityContext=as_user(65532, fsGroup=65532),
        tolerations=list(coredns.TOLERATIONS),
        volumes=[{"name": "tls", "secret": {"defaultMode": 0o440, "secretName": SECRET}}],
    )


def _conditions(_spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="metrics-run",
        waits_for="metrics-server is Ready",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=1),
        limit=Limit(900, "its pod is scheduled, then asks each kubelet twice"),
    )
    yield condition(
        name="metrics",
        waits_for="the API has metrics of nodes and pods",
        check=ApiServices(names=(API,)),
        limit=Limit(300, "API servers look for it every half minute"),
    )


ADD_ON = AddOn(
    name="metrics_server",
    about="measures what nodes and pods use now, for kubectl top and autoscalers",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    certificates=_certificates,
)
