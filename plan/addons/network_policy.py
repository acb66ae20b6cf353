"""Enforces network policies: kube-network-policies, a pod on every node.

It has the kernel queue the first packet of each connection of a pod that a policy selects, and
decides. While the kernel queues and it does not run, such connections fail. So its image has a stop
signal after which it takes its rules away: on SIGTERM it leaves them, and a node without it would
deny for ever (0.8.0). While its pod is replaced, policies do not hold on the node.
"""

from collections.abc import Iterator

from plan.addons.add_on import AddOn
from plan.addons.workload import (
    SECCOMP,
    container,
    daemon_set,
    from_field,
    pod,
)
from plan.condition import Condition, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import account, granted, rule, service_account
from spec.cluster import Cluster

NAMESPACE = "kube-system"
NAME = "kube-network-policies"
SELECTOR = {"app": NAME}
"""Name and label that it has in other clusters as well, since tools look for them."""

METRICS_PORT = 9080
"""On the node's loopback address."""


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """Those of its own install.yaml (v0.8.0)."""
    read = ("list", "watch")
    return (
        service_account({"name": NAME, "namespace": NAMESPACE}),
        *granted(
            account(NAME, NAMESPACE),
            f"hardway:{NAME}",
            [
                rule("", ["namespaces", "pods"], read),
                rule("networking.k8s.io", ["networkpolicies"], read),
            ],
        ),
    )


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """The program on all nodes.

    Its options are those of its own install.yaml (v0.8.0), except that it asks no runtime for pods
    that start (NRI), since Docker has no such interface.
    """
    return (
        daemon_set(
            {"name": NAME, "namespace": NAMESPACE, "labels": SELECTOR},
            {"labels": SELECTOR},
            _pod(spec),
        ),
    )


def _pod(spec: Cluster) -> Manifest:
    return pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="20m",
            memory=("32Mi", "128Mi"),
            capabilities=["NET_ADMIN"],
            args=[
                "--hostname-override=$(NODE)",
                "--disable-nri",
                f"--metrics-bind-address=127.0.0.1:{METRICS_PORT}",
                "--nfqueue-id=98",
            ],
            env=[from_field("NODE", "spec.nodeName")],
            readinessProbe={
                "httpGet": {"host": "127.0.0.1", "path": "/metrics", "port": METRICS_PORT},
                "timeoutSeconds": 5,
            },
        ),
        priority="node",
        hostNetwork=True,
        securityContext=SECCOMP,
        # It ends five seconds after it has taken its rules away.
        terminationGracePeriodSeconds=60,
        tolerations=[{"operator": "Exists"}],
    )


def _conditions(spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="network-policy",
        waits_for="what enforces network policies is Ready on every node",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=len(spec.nodes)),
        limit=Limit(900, "a pod of every node starts once the node is Ready"),
    )


ADD_ON = AddOn(
    name="network_policy",
    about="enforces objects of the kind NetworkPolicy",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
)
