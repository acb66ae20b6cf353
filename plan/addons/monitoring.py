"""A history of nodes and pods: VictoriaMetrics reads and keeps it, and draws it in its own pages.

It reads kubelets, containers' traffic, CoreDNS, API servers, and a node_exporter on each node.
etcd, the controller manager and the scheduler say what they measure on their machine's loopback
address alone, and no port is opened for them: what API servers see of etcd stands for it.
node_exporter is on the pods' network, so it opens no port of a machine either.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from plan import kubelet
from plan.addons import coredns, history, namespaces
from plan.addons.add_on import AddOn, Page
from plan.addons.workload import (
    RECREATE,
    TOGETHER,
    as_user,
    container,
    daemon_set,
    deployment,
    following,
    pod,
)
from plan.condition import Condition, Known, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import READ, account, binding, granted, rule, service_account
from spec.cluster import API_PORT, Cluster

NAMESPACE = history.NAMESPACE
NAME = "victoria-metrics"
SELECTOR = {"app": NAME}
PORT = 8428
FOLDER = "/data"

EXPORTER = "node-exporter"
EXPORTER_NAMESPACE = namespaces.PRIVILEGED
EXPORTER_SELECTOR = {"app": EXPORTER}
EXPORTER_PORT = 9100

DASHBOARDS = Path(__file__).with_name("dashboards")
"""The pages with graphs, a file for each, as vmui reads them."""

MEMORY = 80
"""MiB that VictoriaMetrics takes for its caches; it takes about as much again for the rest."""

CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The token of its account, and the cluster's authority, by which it verifies kubelets."""

API_SECONDS = 120
"""Between two readings of an API server, whose answer has 4 MB."""

TRAFFIC = "container_(network_(receive|transmit)_bytes|oom_events)_total"
"""What is kept of each container's many measurements; all else is in those of the kubelet."""

OF_API = (
    "apiserver_(request_total|request_duration_seconds_(sum|count)|current_inflight_requests"
    "|storage_size_bytes|resource_objects)|etcd_request_duration_seconds_(sum|count)"
    "|process_(cpu_seconds_total|resident_memory_bytes)"
)
"""What is kept of an API server's several thousand measurements."""

OF_DNS = (
    "coredns_(dns_(requests_total|responses_total|request_duration_seconds_(sum|count))"
    "|cache_hits_total)"
)

OF_NODES = ("kubelet", "traffic", EXPORTER)
"""The jobs that read each node."""

EXCLUDED = "^/(dev|proc|run|sys|var/lib/(containerd|docker|kubelet))($|/)"
"""Mounted folders of a machine whose room is nobody's concern."""


# -- VictoriaMetrics -----------------------------------------------------------------------------


def scraping(spec: Cluster) -> str:
    """Whom VictoriaMetrics reads, as Prometheus' configuration."""
    settings = spec.addons.monitoring
    assert settings is not None
    every = settings.interval
    jobs = [
        _secured("kubelet", "/metrics/resource", [*_of_node()]),
        {
            **_secured("traffic", "/metrics/cadvisor", [*_of_node()], kept=TRAFFIC),
            "scrape_interval": f"{2 * every}s",
        },
        {
            **_secured("api-server", "/metrics", [*_api_servers()], kept=OF_API),
            "scrape_interval": f"{API_SECONDS}s",
            "scrape_timeout": f"{API_SECONDS // 2}s",
            "stream_parse": True,
        },
        _of_pods(EXPORTER, EXPORTER_NAMESPACE, EXPORTER_SELECTOR, ".*"),
    ]
    if spec.addons.coredns:
        jobs.append(_of_pods("coredns", coredns.NAMESPACE, coredns.SELECTOR, OF_DNS))
    whole = {
        # A node that is starved answers late.
        "global": {"scrape_interval": f"{every}s", "scrape_timeout": f"{every}s"},
        "scrape_configs": jobs,
    }
    return yaml.safe_dump(whole, sort_keys=False)


def _secured(
    name: str, path: str, relabelled: list[dict[str, Any]], *, kept: str = ""
) -> dict[str, Any]:
    """A job that reads something of each node by TLS, with the account's token."""
    return {
        "job_name": name,
        "scheme": "https",
        "metrics_path": path,
        "bearer_token_file": f"{CREDENTIALS}/token",
        "tls_config": {"ca_file": f"{CREDENTIALS}/ca.crt"},
        "kubernetes_sd_configs": [{"role": "node"}],
        "relabel_configs": relabelled,
        **(_keeping(kept) if kept else {}),
    }


def _keeping(names: str) -> dict[str, Any]:
    keep = {"action": "keep", "source_labels": ["__name__"], "regex": names}
    return {"metric_relabel_configs": [keep]}


def _of_node() -> Iterator[dict[str, Any]]:
    yield {"source_labels": ["__meta_kubernetes_node_name"], "target_label": "node"}


def _api_servers() -> Iterator[dict[str, Any]]:
    label = kubelet.CONTROL_PLANE.translate(str.maketrans("./-", "___"))
    yield {
        "action": "keep",
        "source_labels": [f"__meta_kubernetes_node_labelpresent_{label}"],
        "regex": "true",
    }
    yield {
        "source_labels": ["__address__"],
        "regex": "(.+):[0-9]+",
        "replacement": f"$1:{API_PORT}",
        "target_label": "__address__",
    }
    yield from _of_node()


def _of_pods(name: str, namespace: str, labels: dict[str, str], kept: str) -> dict[str, Any]:
    """A job that reads the port ``metrics`` of pods."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    port = "__meta_kubernetes_pod_container_port_name"
    return {
        "job_name": name,
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "namespaces": {"names": [namespace]},
                "selectors": [{"role": "pod", "label": selector}],
            }
        ],
        "relabel_configs": [
            {"action": "keep", "source_labels": [port], "regex": "metrics"},
            {"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
        **_keeping(kept),
    }


@cache
def dashboards() -> dict[str, str]:
    """Name of each file with a page of graphs to its content, in the order of vmui's menu."""
    return {path.name: path.read_text() for path in sorted(DASHBOARDS.glob("*.json"))}


def _rights(spec: Cluster) -> tuple[Manifest, ...]:
    """To read what nodes measure, and which nodes and which of the named namespaces' pods exist."""
    own, whole = account(NAME, NAMESPACE), f"hardway:{NAME}"
    watched = [EXPORTER_NAMESPACE, *([coredns.NAMESPACE] if spec.addons.coredns else [])]
    return (
        service_account(_named(NAME)),
        *granted(own, whole, [rule("", ["nodes"], READ), rule("", ["nodes/metrics"], ["get"])]),
        # Kubernetes' own role, which opens /metrics of API servers.
        binding(f"{whole}:api-servers", "system:monitoring", own),
        *(
            manifest
            for namespace in watched
            for manifest in granted(own, whole, [rule("", ["pods"], READ)], inside=namespace)
        ),
        service_account(_of_exporter()),
    )


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """VictoriaMetrics with its settings and pages, and a node_exporter on each node."""
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(NAME),
            "data": {"scrape.yaml": scraping(spec)},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named("dashboards"),
            "data": dashboards(),
        },
        *history.claims(spec, _named(NAME)),
        history.service(_named(NAME), SELECTOR, PORT),
        history.policy(_named(NAME), SELECTOR, PORT, history.machines(spec)),
        deployment(
            _named(NAME),
            following(SELECTOR, {"scrape": scraping(spec)}),
            _pod(spec),
            # Only one may write to the folder.
            strategy=RECREATE,
        ),
        history.policy(
            _of_exporter(), EXPORTER_SELECTOR, EXPORTER_PORT, [history.pods(NAMESPACE, SELECTOR)]
        ),
        daemon_set(
            _of_exporter(),
            {"labels": EXPORTER_SELECTOR},
            _exporter(spec),
            updateStrategy=TOGETHER,
        ),
    )


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _pod(spec: Cluster) -> Manifest:
    settings = spec.addons.monitoring
    assert settings is not None
    return pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="50m",
            memory=("80Mi", "250Mi"),
            args=[
                f"-storageDataPath={FOLDER}",
                f"-retentionPeriod={settings.retention}d",
                f"-httpListenAddr=:{PORT}",
                "-promscrape.config=/etc/victoria-metrics/scrape.yaml",
                "-vmui.customDashboardsPath=/etc/dashboards",
                f"-memory.allowedBytes={MEMORY}MiB",
                "-search.maxConcurrentRequests=2",
            ],
            # A single thread is enough, and more of them cost memory.
            env=[{"name": "GOMAXPROCS", "value": "1"}],
            ports=[{"name": history.HTTP, "containerPort": PORT}],
            readinessProbe={
                "httpGet": {"path": "/health", "port": history.HTTP},
                "periodSeconds": 5,
                "timeoutSeconds": 10,
            },
            volumeMounts=[
                {"mountPath": FOLDER, "name": "data"},
                {"mountPath": "/etc/victoria-metrics", "name": "settings", "readOnly": True},
                {"mountPath": "/etc/dashboards", "name": "dashboards", "readOnly": True},
            ],
        ),
        priority="cluster",
        securityContext=as_user(history.USER, fsGroup=history.USER),
        # It writes what it has in memory.
        terminationGracePeriodSeconds=60,
        tolerations=list(coredns.TOLERATIONS),
        volumes=[
            history.volume(spec, NAME),
            {"name": "settings", "configMap": {"name": NAME}},
            {"name": "dashboards", "configMap": {"name": "dashboards"}},
        ],
    )


# -- node_exporter -------------------------------------------------------------------------------


def _of_exporter() -> dict[str, Any]:
    return {"name": EXPORTER, "namespace": EXPORTER_NAMESPACE, "labels": EXPORTER_SELECTOR}


def _exporter(spec: Cluster) -> Manifest:
    """A pod that reads the machine's files as nobody, and asks the API for nothing."""
    whole = pod(
        EXPORTER,
        container(
            spec,
            EXPORTER,
            name=EXPORTER,
            cpu="20m",
            memory=("24Mi", "50Mi"),
            args=[
                f"--web.listen-address=:{EXPORTER_PORT}",
                "--path.rootfs=/host",
                "--path.procfs=/host/proc",
                "--path.sysfs=/host/sys",
                f"--collector.filesystem.mount-points-exclude={EXCLUDED}",
                "--collector.disable-defaults",
                *(f"--collector.{name}" for name in ("cpu", "diskstats", "filesystem")),
                *(f"--collector.{name}" for name in ("loadavg", "meminfo", "uname")),
            ],
            env=[{"name": "GOMAXPROCS", "value": "1"}],
            ports=[{"name": "metrics", "containerPort": EXPORTER_PORT}],
            readinessProbe={
                "httpGet": {"path": "/", "port": "metrics"},
                "timeoutSeconds": 10,
            },
            volumeMounts=[
                {
                    "mountPath": "/host",
                    "mountPropagation": "HostToContainer",
                    "name": "machine",
                    "readOnly": True,
                }
            ],
        ),
        priority="node",
        securityContext=as_user(65534),
        tolerations=[{"operator": "Exists"}],
        volumes=[{"name": "machine", "hostPath": {"path": "/"}}],
    )
    return {**whole, "automountServiceAccountToken": False}


# -- conditions ----------------------------------------------------------------------------------


def _conditions(spec: Cluster) -> Iterator[Condition]:
    settings = spec.addons.monitoring
    assert settings is not None
    pods = Pods(namespace=NAMESPACE, selector=SELECTOR, count=1)
    yield condition(
        name="exporters",
        waits_for="node_exporter is Ready on every node",
        check=Pods(namespace=EXPORTER_NAMESPACE, selector=EXPORTER_SELECTOR, count=len(spec.nodes)),
        limit=Limit(900, "a pod of every node starts once the node is Ready"),
    )
    yield condition(
        name="monitoring",
        waits_for="what keeps the history of nodes and pods is Ready",
        check=pods,
        limit=Limit(900, "its pod is scheduled, and its claim gets a folder first"),
    )
    window = f"{10 * settings.interval}s"
    of_nodes = f'max_over_time(up{{job=~"{"|".join(OF_NODES)}"}}[{window}])'
    yield condition(
        name="history",
        waits_for="VictoriaMetrics reads every node",
        check=Known(
            inside=pods,
            port=PORT,
            path="/api/v1/query",
            query=f"count({of_nodes} == 1) by (node) == {len(OF_NODES)}",
            label="node",
            values=spec.nodes,
        ),
        limit=Limit(600, "it asks each node every four minutes or more often"),
    )


ADD_ON = AddOn(
    name="monitoring",
    about="keeps a history of nodes and pods, and draws it",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    data="the history goes with its claim or its pod",
    pages=lambda _: (
        Page(namespace=NAMESPACE, service=NAME, port=PORT, path="/vmui/#/dashboards"),
    ),
)
