"""Rolling changes of nodes: which programs' replacement moves a node's pods first, and who may.

A node drains itself (``scripts/roll.sh``) with its own kubelet's credentials: Kubernetes lets a
kubelet change its own Node object and evict its own pods. Its turn is a ticket, a line of a
ConfigMap that nodes change in turn; the number of tickets is an annotation of it. The node's step
ends the turn, so the steps of runtime and node both name all of these programs: where only the
runtime becomes another one, the node's step runs as well.
"""

from plan import layout
from plan.model import Link, Rolling
from plan.objects import Manifest
from plan.rbac import granted, group, rule
from spec.cluster import Cluster

ROLLING = "hardway/rolling"
"""The annotation of a Node object that says how far its node is; absent where it does not roll."""
AT_ONCE = "hardway/at-once"
"""The annotation of the tickets with the largest number of nodes that may have one."""
NAMESPACE, NAME = "kube-system", "hardway-rollout"
"""The namespace and the name of the ConfigMap with the tickets."""


def rolling(node: str, programs: tuple[Link, ...]) -> Rolling:
    """What a node does before one of these programs is replaced."""
    return Rolling(
        node=node,
        kubeconfig=layout.kubeconfig("kubelet"),
        lookout=layout.kubeconfig("kube-proxy"),
        programs=programs,
    )


def tickets(spec: Cluster) -> tuple[Manifest, ...]:
    """The ConfigMap, without the tickets, and the right of nodes to change it."""
    metadata = {
        "name": NAME,
        "namespace": NAMESPACE,
        "annotations": {AT_ONCE: str(spec.rollout.at_once(len(spec.nodes)))},
    }
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata},
        *granted(
            group("system:nodes"),
            "hardway:rollout",
            [rule("", ["configmaps"], ["get", "patch"], names=[NAME])],
            inside=NAMESPACE,
        ),
    )
