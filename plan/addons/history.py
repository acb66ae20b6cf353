"""What add-ons that keep a history have in common: where it lies, and who reaches them."""

from collections.abc import Mapping, Sequence
from typing import Any

from plan.addons import namespaces
from plan.objects import Manifest
from spec.cluster import Cluster

NAMESPACE = namespaces.RESTRICTED
USER = 65532
"""The user of their images."""

SIZE = "2Gi"
"""What a claim asks for. Of the storage add-on's volumes nothing enforces it, and a claim cannot
change, so it follows no setting."""

HTTP = "http"
"""The name of the port at which a program is asked."""


def claims(spec: Cluster, metadata: Mapping[str, Any]) -> tuple[Manifest, ...]:
    """The claim of a program, named as the program; none without the add-on that serves claims."""
    if not spec.addons.storage:
        return ()
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": dict(metadata),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": SIZE}},
            },
        },
    )


def volume(spec: Cluster, name: str) -> dict[str, Any]:
    """The volume ``data``: the claim of this name, else a folder that its node keeps for the pod.

    That folder outlives reboots and containers, and goes with the pod.
    """
    where: dict[str, Any] = (
        {"persistentVolumeClaim": {"claimName": name}} if spec.addons.storage else {"emptyDir": {}}
    )
    return {"name": "data", **where}


def service(metadata: Mapping[str, Any], selector: Mapping[str, str], port: int) -> Manifest:
    """The Service through which people and other pods ask a program."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": dict(metadata),
        "spec": {
            "ports": [{"name": HTTP, "port": port, "targetPort": HTTP}],
            "selector": dict(selector),
        },
    }


def machines(spec: Cluster) -> list[dict[str, Any]]:
    """The machines' networks, as those who may ask: people come from there, and pods do not.

    A person's connection keeps that address as far as the node through which it comes, so
    ``./hardway open`` goes through the pod's own node.
    """
    return [{"ipBlock": {"cidr": str(network)}} for network in spec.networks.machines]


def pods(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Pods with these labels in a namespace, as those who may ask."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def policy(
    metadata: Mapping[str, Any],
    selector: Mapping[str, str],
    port: int,
    callers: Sequence[Mapping[str, Any]],
) -> Manifest:
    """Only these callers reach a program, and at this port alone.

    It holds where something enforces it, as the add-on ``network_policy`` does.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": dict(metadata),
        "spec": {
            "podSelector": {"matchLabels": dict(selector)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [dict(caller) for caller in callers],
                    "ports": [{"port": port, "protocol": "TCP"}],
                }
            ],
        },
    }
