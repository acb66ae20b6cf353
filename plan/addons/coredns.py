"""CoreDNS: the cluster's name service."""

import hashlib
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from plan import kubelet
from plan.addons.add_on import AddOn
from plan.addons.workload import (
    SURGE,
    apart,
    as_user,
    budget,
    container,
    deployment,
    pod,
)
from plan.condition import Condition, NameResolves, Pods, PodsReach, ServiceAnswers, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import account, granted, rule
from spec.cluster import Cluster

NAMESPACE = "kube-system"
SELECTOR = {"k8s-app": "kube-dns"}
"""The label that CoreDNS has in other clusters as well, since tools look for it."""
HEALTH_PORT, READY_PORT, METRICS_PORT = 8080, 8181, 9153
READY_PATH = "/ready"
NODES_PER_REPLICA = 16
"""The ratio of Kubernetes' own proportional autoscaler for DNS."""

TOLERATIONS = (
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"effect": "NoSchedule", "key": kubelet.CONTROL_PLANE},
)
"""Taints that CoreDNS's pods tolerate."""


def hosts(spec: Cluster) -> tuple[str, ...]:
    """The nodes on which CoreDNS's pods can run; a spec without such a node is refused."""
    return tuple(
        name
        for name in spec.nodes
        if all(_tolerated(taint) for taint in kubelet.taints(spec.machines[name]))
    )


def _tolerated(taint: Mapping[str, str]) -> bool:
    """Whether CoreDNS's pods can run on a node with this taint (core/v1 Toleration)."""
    return taint["effect"] == "PreferNoSchedule" or any(
        toleration["key"] == taint["key"]
        and toleration.get("effect", taint["effect"]) == taint["effect"]
        and (
            toleration.get("operator") == "Exists"
            or toleration.get("value", "") == taint.get("value", "")
        )
        for toleration in TOLERATIONS
    )


def replicas(spec: Cluster) -> int:
    """The number of pods: one for every ``NODES_PER_REPLICA`` nodes on which they can run.

    At least two where two nodes can run them.
    """
    nodes = len(hosts(spec))
    return max(min(2, nodes), ceil(nodes / NODES_PER_REPLICA))


def corefile(spec: Cluster) -> str:
    """CoreDNS's configuration.

    A block may not stand on one line. CoreDNS forwards queries for names outside the cluster to the
    name servers of the spec: its own, else those of the machines. It does not read the file of its
    machine, since CoreDNS would end where that names no server.
    """
    reverse = ["in-addr.arpa", "ip6.arpa"]
    plugins: list[tuple[list[str], list[list[str]]]] = [
        (["errors"], []),
        (["health", f":{HEALTH_PORT}"], [["lameduck", "5s"]]),
        (["ready", f":{READY_PORT}"], []),
        (
            ["kubernetes", spec.dns_domain, *reverse],
            [["pods", "insecure"], ["fallthrough", *reverse], ["ttl", "30"]],
        ),
        (["prometheus", f":{METRICS_PORT}"], []),
    ]
    if servers := list(map(str, spec.addons.name_servers or spec.networks.name_servers)):
        plugins += [(["forward", ".", *servers], [["max_concurrent", "1000"]]), (["loop"], [])]
    plugins += [(["cache", "30"], []), (["loadbalance"], [])]
    lines = [".:53 {"]
    for directive, options in plugins:
        lines.append("    " + " ".join(directive) + (" {" if options else ""))
        if options:
            lines += ["        " + " ".join(option) for option in options] + ["    }"]
    return "\n".join([*lines, "}", ""])


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    return (
        _configuration(spec),
        _deployment(spec),
        _service(spec),
        budget(_named("coredns"), SELECTOR),
    )


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    read = ("list", "watch")
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("coredns")},
        *granted(
            account("coredns", NAMESPACE),
            "system:coredns",
            [
                rule("", ["namespaces", "pods", "services"], read),
                rule("discovery.k8s.io", ["endpointslices"], read),
            ],
        ),
    )


def _configuration(spec: Cluster) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _named("coredns"),
        "data": {"Corefile": corefile(spec)},
    }


def _service(spec: Cluster) -> Manifest:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "metrics", "port": METRICS_PORT, "protocol": "TCP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _named("kube-dns", **{"kubernetes.io/name": "CoreDNS"}),
        "spec": {
            "clusterIP": str(spec.networks.dns_service),
            "ports": ports,
            "selector": SELECTOR,
        },
    }


def _deployment(spec: Cluster) -> Manifest:
    digest = hashlib.sha256(corefile(spec).encode()).hexdigest()
    return deployment(
        _named("coredns"),
        # The digest makes a changed configuration a changed template, which Kubernetes rolls out
        # with readiness checks.
        {"labels": SELECTOR, "annotations": {"hardway/corefile": digest}},
        _pod(spec),
        strategy=SURGE,
        replicas=replicas(spec),
    )


def _pod(spec: Cluster) -> Manifest:
    return pod(
        "coredns",
        _container(spec),
        priority="cluster",
        dnsPolicy="Default",
        securityContext=as_user(
            65532,
            # CoreDNS listens on port 53 without any privilege, under each container runtime.
            sysctls=[{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        ),
        tolerations=list(TOLERATIONS),
        topologySpreadConstraints=[apart(SELECTOR, replicas(spec))],
        volumes=[
            {
                "configMap": {
                    "items": [{"key": "Corefile", "path": "Corefile"}],
                    "name": "coredns",
                },
                "name": "configuration",
            }
        ],
    )


def _container(spec: Cluster) -> Manifest:
    ports = (
        ("dns", 53, "UDP"),
        ("dns-tcp", 53, "TCP"),
        ("health", HEALTH_PORT, "TCP"),
        ("ready", READY_PORT, "TCP"),
        ("metrics", METRICS_PORT, "TCP"),
    )
    return container(
        spec,
        "coredns",
        name="coredns",
        cpu="100m",
        memory=("70Mi", "170Mi"),
        args=["-conf", "/etc/coredns/Corefile"],
        livenessProbe={
            "failureThreshold": 5,
            "httpGet": {"path": "/health", "port": "health"},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
        },
        ports=[
            {"containerPort": port, "name": name, "protocol": protocol}
            for name, port, protocol in ports
        ],
        readinessProbe={
            "httpGet": {"path": READY_PATH, "port": "ready"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        volumeMounts=[{"mountPath": "/etc/coredns", "name": "configuration", "readOnly": True}],
    )


def _named(name: str, **labels: str) -> dict[str, Any]:
    return {"labels": {**SELECTOR, **labels}, "name": name, "namespace": NAMESPACE}


def _conditions(spec: Cluster) -> Iterator[Condition]:
    """That it runs and answers; its pods also show that the pod network and Services work."""
    count = replicas(spec)
    pods = Pods(namespace=NAMESPACE, selector=SELECTOR, count=count)
    yield condition(
        name="dns-runs",
        waits_for=f"{count} of CoreDNS' pods are Ready",
        check=pods,
        limit=Limit(900, "pods are scheduled once nodes are Ready, and their images are there"),
    )
    if len(spec.nodes) > 1:
        yield condition(
            name="pods-reach",
            waits_for="every node reaches a pod of another node",
            check=PodsReach(nodes=spec.nodes, pods=pods, port=READY_PORT, path=READY_PATH),
            limit=Limit(300, "flannel tells each node of the others"),
        )
    yield condition(
        name="service",
        waits_for="the Service of the API answers pods",
        check=ServiceAnswers(inside=pods, address=str(spec.networks.api_service), port=443),
        limit=Limit(300, "kube-proxy writes its rules"),
    )
    yield condition(
        name="dns",
        waits_for="a pod finds the API by its name",
        check=NameResolves(
            inside=pods,
            server=str(spec.networks.dns_service),
            name=f"kubernetes.default.svc.{spec.dns_domain}",
            address=str(spec.networks.api_service),
        ),
        limit=Limit(300, "CoreDNS reads the cluster's Services first"),
    )


ADD_ON = AddOn(
    name="coredns",
    about="answers pods that ask for the names of Services",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
)
