"""The logs of pods and the journals of nodes in one place: VictoriaLogs keeps and searches them.

A pod on each node reads both. vlagent, of VictoriaLogs' makers, reads the files that a container
runtime writes. The control plane and all else that a machine runs as a service is in its journal,
which vlagent does not read: ``journal-sender``, a program of this project, has the machine's own
journalctl read it. Each remembers in a folder of the machine how far it came, so a restart leaves
nothing out. Machines that are no nodes, such as members of etcd alone, have no such pod.
"""

import json
from collections.abc import Iterator
from typing import Any

from plan import layout
from plan.addons import coredns, history, namespaces
from plan.addons.add_on import AddOn, Page
from plan.addons.workload import (
    RECREATE,
    SECCOMP,
    TOGETHER,
    as_user,
    container,
    daemon_set,
    deployment,
    from_field,
    pod,
)
from plan.condition import Condition, Known, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import account, granted, rule, service_account
from spec.cluster import Cluster

NAMESPACE = history.NAMESPACE
NAME = "victoria-logs"
SELECTOR = {"app": NAME}
PORT = 9428
FOLDER = "/data"

READER_NAMESPACE = namespaces.PRIVILEGED
READER = "vlagent"
READER_SELECTOR = {"app": READER}
SENDER = "journal-sender"
"""The other program of the same pod."""

STATE = f"{layout.STATE}/logs"
"""The folder of each node with how far its logs were read, and what VictoriaLogs did not take yet.
It outlives the pod, or each new one would send again what the old one has sent."""

MEMORY = 60
"""MiB that VictoriaLogs takes for its caches; it takes about as much again for the rest."""

WAITING = 512
"""MiB of a node's disk that lines of pods may take while VictoriaLogs does not answer; beyond that
the oldest of them go. vlagent cannot do with less. The journal's entries wait in the journal."""

REPORT = 300
"""Seconds between two reports of a sender, each of which says that VictoriaLogs takes entries."""

REPORTED = "VictoriaLogs has the journal"
"""What such a report says. It is a line of a pod, so it comes by way of vlagent."""

SINGLE = [{"name": "GOMAXPROCS", "value": "1"}]
"""A single thread is enough for each program, and more of them cost memory."""


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """Of vlagent: which pods run on its node, and of which namespaces. It reads them whole."""
    return (
        service_account({"name": NAME, "namespace": NAMESPACE, "labels": SELECTOR}),
        service_account(_of_reader()),
        *granted(
            account(READER, READER_NAMESPACE),
            f"hardway:{READER}",
            [
                rule("", ["pods"], ["get", "list", "watch"]),
                rule("", ["namespaces"], ["list"]),
                rule("", ["nodes"], ["get"]),
            ],
        ),
    )


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """VictoriaLogs, and what sends to it from each node."""
    named = {"name": NAME, "namespace": NAMESPACE, "labels": SELECTOR}
    callers = [*history.machines(spec), history.pods(READER_NAMESPACE, READER_SELECTOR)]
    return (
        *history.claims(spec, named),
        history.service(named, SELECTOR, PORT),
        history.policy(named, SELECTOR, PORT, callers),
        # Only one may write to the folder.
        deployment(named, {"labels": SELECTOR}, _keeper(spec), strategy=RECREATE),
        daemon_set(
            _of_reader(), {"labels": READER_SELECTOR}, _readers(spec), updateStrategy=TOGETHER
        ),
    )


# -- VictoriaLogs --------------------------------------------------------------------------------


def _keeper(spec: Cluster) -> Manifest:
    settings = spec.addons.logs
    assert settings is not None
    whole = pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="50m",
            memory=("64Mi", "200Mi"),
            args=[
                f"-storageDataPath={FOLDER}",
                f"-retentionPeriod={settings.retention}d",
                f"-retention.maxDiskSpaceUsageBytes={settings.limit}GiB",
                f"-httpListenAddr=:{PORT}",
                f"-memory.allowedBytes={MEMORY}MiB",
                "-search.maxConcurrentRequests=2",
            ],
            env=SINGLE,
            ports=[{"name": history.HTTP, "containerPort": PORT}],
            readinessProbe={
                "httpGet": {"path": "/health", "port": history.HTTP},
                "periodSeconds": 5,
                "timeoutSeconds": 10,
            },
            volumeMounts=[{"mountPath": FOLDER, "name": "data"}],
        ),
        priority="cluster",
        securityContext=as_user(history.USER, fsGroup=history.USER),
        # It writes what it has in memory.
        terminationGracePeriodSeconds=60,
        tolerations=list(coredns.TOLERATIONS),
        volumes=[history.volume(spec, NAME)],
    )
    # It asks the API for nothing.
    return {**whole, "automountServiceAccountToken": False}


# -- what reads on each node ---------------------------------------------------------------------


def _of_reader() -> dict[str, Any]:
    return {"name": READER, "namespace": READER_NAMESPACE, "labels": READER_SELECTOR}


def _readers(spec: Cluster) -> Manifest:
    """The pod of a node. It opens no port, not even to other pods.

    Root alone may read logs, and these processes are that without any capability.
    """
    pods = _read_by_vlagent(spec)
    return pod(
        READER,
        _vlagent(spec, pods),
        _sender(spec),
        priority="node",
        securityContext=SECCOMP,
        tolerations=[{"operator": "Exists"}],
        volumes=[
            *(_of_machine(name, path) for name, path in pods.items()),
            *(_of_machine(name, path) for name, path in _READ_BY_SENDER.items()),
            {"name": "state", "hostPath": {"path": STATE, "type": "DirectoryOrCreate"}},
        ],
    )


def _url(spec: Cluster) -> str:
    return f"http://{NAME}.{NAMESPACE}.svc.{spec.dns_domain}:{PORT}"


def _read_by_vlagent(spec: Cluster) -> dict[str, str]:
    """Names and paths of what vlagent reads: links, and the files to which they lead."""
    files = {"containers": "/var/log/containers", "pods": "/var/log/pods"}
    return {**files, "docker": "/var/lib/docker/containers"} if spec.runtime == "docker" else files


_READ_BY_SENDER = {
    # Not the journal's own folder, which a machine may not have: to mount it would make it, and
    # then journald keeps its journal there.
    "logs": "/var/log",
    "run-logs": "/run/log",
    "machine-id": "/etc/machine-id",
    "programs": "/usr",
}
"""Names and paths of what journalctl needs, which is the machine's own."""


def _of_machine(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path}}


def _mounted(name: str, path: str) -> dict[str, Any]:
    return {"mountPath": path, "name": name, "readOnly": True}


def _vlagent(spec: Cluster, files: dict[str, str]) -> Manifest:
    return container(
        spec,
        READER,
        name=READER,
        cpu="20m",
        memory=("24Mi", "100Mi"),
        args=[
            "-kubernetesCollector",
            # Each line says of which machine it is, under the name that the journal's have as well.
            "-kubernetesCollector.extraFields=" + json.dumps({"machine": "$(NODE)"}),
            "-kubernetesCollector.ignoreFields=kubernetes.container_id",
            f"-remoteWrite.url={_url(spec)}/internal/insert",
            f"-remoteWrite.maxDiskUsagePerURL={WAITING}MiB",
            "-remoteWrite.queues=1",
            f"-tmpDataPath={STATE}",
            "-memory.allowedBytes=30MiB",
            "-httpListenAddr=",
        ],
        env=[from_field("NODE", "spec.nodeName"), *SINGLE],
        volumeMounts=[
            *(_mounted(name, path) for name, path in files.items()),
            {"mountPath": STATE, "name": "state"},
        ],
    )


def _sender(spec: Cluster) -> Manifest:
    settings = spec.addons.logs
    assert settings is not None
    return container(
        spec,
        SENDER,
        name=SENDER,
        cpu="10m",
        memory=("24Mi", "80Mi"),
        args=[
            f"-to={_url(spec)}",
            "-machine=$(NODE)",
            f"-cursor={STATE}/journal",
            f"-since=-{settings.retention}d",
            f"-every={REPORT}s",
        ],
        env=[from_field("NODE", "spec.nodeName"), *SINGLE],
        volumeMounts=[
            *(_mounted(name, path) for name, path in _READ_BY_SENDER.items()),
            {"mountPath": STATE, "name": "state"},
        ],
    )


# -- conditions ----------------------------------------------------------------------------------


def _conditions(spec: Cluster) -> Iterator[Condition]:
    keeper = Pods(namespace=NAMESPACE, selector=SELECTOR, count=1)
    yield condition(
        name="logs",
        waits_for="what keeps logs is Ready",
        check=keeper,
        limit=Limit(900, "its pod is scheduled, and its claim gets a folder first"),
    )
    yield condition(
        name="log-readers",
        waits_for="what reads logs is Ready on every node",
        check=Pods(namespace=READER_NAMESPACE, selector=READER_SELECTOR, count=len(spec.nodes)),
        limit=Limit(900, "a pod of every node starts once the node is Ready"),
    )
    reports = f'_time:{3 * REPORT}s kubernetes.container_name:={SENDER} "{REPORTED}"'
    yield condition(
        name="logs-arrive",
        waits_for="logs of every node's pods and of its journal arrive",
        check=Known(
            inside=keeper,
            port=PORT,
            path="/select/logsql/stats_query",
            query=f"{reports} | stats by (machine) count() reports",
            label="machine",
            values=spec.nodes,
        ),
        limit=Limit(900, "a node says so at its start, and then every five minutes"),
    )


ADD_ON = AddOn(
    name="logs",
    about="keeps and searches the logs of pods and machines",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    data=f"logs go with their claim or pod; how far they were read stays in {STATE} of the nodes",
    pages=lambda _: (Page(namespace=NAMESPACE, service=NAME, port=PORT, path="/select/vmui/"),),
)
