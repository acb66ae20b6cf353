"""Problems of nodes that their kernels report: node-problem-detector, a pod on each node.

It reads the kernel's messages, makes events of some of them and, of those after which a node has to
be looked after, a condition of its Node object. ``./hardway validate`` fails while a node has such
a condition. It asks nothing of machines and restarts nothing.
"""

import json
from collections.abc import Iterator
from typing import Any

from plan.addons import namespaces
from plan.addons.add_on import AddOn
from plan.addons.workload import (
    SECCOMP,
    TOGETHER,
    container,
    daemon_set,
    following,
    from_field,
    pod,
)
from plan.condition import Condition, NodeProblems, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import account, binding, service_account
from spec.cluster import Cluster

NAMESPACE = namespaces.PRIVILEGED
NAME = "node-problem-detector"
SELECTOR = {"app": NAME}
"""Name and label that it has in other clusters as well, since tools look for them."""

FOLDER = "/etc/node-problem-detector"
KERNEL_LOG = "/dev/kmsg"
LOOKBACK = "5m"
"""How old a message may be that counts at its start."""

PROBLEMS = {
    "KernelDeadlock": ("KernelHasNoDeadlock", "no container runtime waits for the kernel in vain"),
    "ReadonlyFilesystem": ("FilesystemIsNotReadOnly", "no file system became read-only"),
}
"""Condition of a node to its reason and message while there is no such problem.

A condition that has become true stays so until the pod starts again, five minutes after the message
or later: what the kernel says of it does not end by itself.
"""

LASTING = (
    ("KernelDeadlock", "RuntimeHung", r"task (?:containerd|dockerd|runc)\S* blocked for more than"),
    ("ReadonlyFilesystem", "FilesystemIsReadOnly", "Remounting filesystem read-only"),
)
"""Conditions with a reason and the message that makes them true."""

PASSING = (
    ("OOMKilling", r"Killed process \d+ .+ total-vm:\d+kB"),
    ("TaskHung", r"task \S.*:\w+ blocked for more than \d+ seconds"),
    ("KernelOops", "BUG: (?:unable to handle|kernel NULL pointer)"),
    ("Ext4Error", "EXT4-fs error"),
    ("IOError", "Buffer I/O error"),
)
"""Reasons of events, and the message that each is made of."""


def files() -> dict[str, str]:
    """What is read of the kernel's messages, a file for each group of problems."""
    passing = [
        {"type": "temporary", "reason": reason, "pattern": f".*{pattern}.*"}
        for reason, pattern in PASSING
    ]
    return {
        "kernel-monitor.json": _monitor("kernel-monitor", "KernelDeadlock", passing),
        "readonly-monitor.json": _monitor("readonly-monitor", "ReadonlyFilesystem", []),
    }


def _monitor(source: str, problem: str, passing: list[dict[str, str]]) -> str:
    """The settings of a reader of the kernel's messages, which knows one lasting problem."""
    reason, message = PROBLEMS[problem]
    lasting = [
        {"type": "permanent", "condition": name, "reason": why, "pattern": f".*{pattern}.*"}
        for name, why, pattern in LASTING
        if name == problem
    ]
    settings = {
        "plugin": "kmsg",
        "logPath": KERNEL_LOG,
        "lookback": LOOKBACK,
        "bufferSize": 10,
        "source": source,
        "metricsReporting": False,
        "conditions": [{"type": problem, "reason": reason, "message": message}],
        "rules": [*passing, *lasting],
    }
    return json.dumps(settings, indent=1) + "\n"


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """Kubernetes' own role for it: to read nodes, change their state and make events."""
    return (
        service_account(_named(NAME)),
        binding(f"hardway:{NAME}", f"system:{NAME}", account(NAME, NAMESPACE)),
    )


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(NAME),
            "data": files(),
        },
        daemon_set(_named(NAME), following(SELECTOR, files()), _pod(spec), updateStrategy=TOGETHER),
    )


def _pod(spec: Cluster) -> Manifest:
    return pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="20m",
            memory=("32Mi", "80Mi"),
            args=[
                "--logtostderr",
                "--config.system-log-monitor="
                + ",".join(f"{FOLDER}/{name}" for name in sorted(files())),
                # It answers nobody.
                "--port=0",
                "--prometheus-port=0",
                # An emulated machine's API server may take longer to come back.
                "--apiserver-wait-timeout=20m",
            ],
            env=[
                from_field("NODE_NAME", "spec.nodeName"),
                {"name": "GOMAXPROCS", "value": "1"},
            ],
            # The runtime opens the device to privileged containers alone.
            securityContext={"privileged": True, "readOnlyRootFilesystem": True},
            volumeMounts=[
                {"mountPath": KERNEL_LOG, "name": "messages", "readOnly": True},
                {"mountPath": FOLDER, "name": "settings", "readOnly": True},
            ],
        ),
        priority="node",
        securityContext=SECCOMP,
        tolerations=[{"operator": "Exists"}],
        volumes=[
            {"name": "messages", "hostPath": {"path": KERNEL_LOG, "type": "CharDevice"}},
            {"name": "settings", "configMap": {"name": NAME}},
        ],
    )


def _conditions(spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="problem-detector",
        waits_for="node-problem-detector is Ready on every node",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=len(spec.nodes)),
        limit=Limit(900, "a pod of every node starts once the node is Ready"),
    )
    yield condition(
        name="node-problems",
        waits_for="every node says that its kernel reports no problem",
        check=NodeProblems(nodes=spec.nodes, types=tuple(PROBLEMS)),
        limit=Limit(300, "it says so at its start; a problem does not end by itself"),
    )


ADD_ON = AddOn(
    name="problem_detector",
    about="reports problems of nodes that their kernels name",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    data="what it said last stays among the conditions of Node objects",
)
