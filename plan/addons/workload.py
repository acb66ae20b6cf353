"""What pods of add-ons have in common: the node has their image, and they may do little."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from plan.artifact import reference
from plan.objects import Manifest
from spec.cluster import Cluster


def container(
    spec: Cluster,
    artifact: str,
    *,
    name: str,
    cpu: str,
    memory: tuple[str, str],
    capabilities: Sequence[str] = (),
    **more: Any,
) -> Manifest:
    """A container of an image in ``spec/artifacts.yaml``, with no capabilities but these.

    ``memory`` is what it asks for and its limit.
    """
    asks, limit = memory
    return {
        "name": name,
        "image": reference(spec, artifact),
        # No registry has this image: the runtime step imports it on every node.
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"memory": limit}, "requests": {"cpu": cpu, "memory": asks}},
        "securityContext": confined(capabilities),
        **more,
    }


def confined(capabilities: Sequence[str] = ()) -> dict[str, Any]:
    """The security context of a container that writes nowhere and has no capabilities but these."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {
            "drop": ["ALL"],
            **({"add": list(capabilities)} if capabilities else {}),
        },
        "readOnlyRootFilesystem": True,
    }


def pod(account: str, *containers: Manifest, priority: str, **more: Any) -> Manifest:
    """A pod of these containers, with the token of a service account.

    Its priority class is ``system-<priority>-critical``: ``node`` for what every node needs, else
    ``cluster``.
    """
    return {
        "automountServiceAccountToken": True,
        "containers": list(containers),
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": f"system-{priority}-critical",
        "serviceAccountName": account,
        **more,
    }


RECREATE = {"type": "Recreate"}
"""The strategy of pods of which there must never be two."""
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
"""The strategy of pods that others ask at all times: a new one is ready before an old one ends."""

TOGETHER = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
"""The strategy of pods on each node where a pod that cannot start holds up no other node."""


def deployment(
    metadata: Mapping[str, Any],
    template: Mapping[str, Any],
    pod: Manifest,
    *,
    strategy: Mapping[str, Any],
    replicas: int = 1,
) -> Manifest:
    """Pods on any nodes. ``template`` is their metadata, by whose labels they are found again."""
    more = {"replicas": replicas, "strategy": dict(strategy)}
    return _workload("Deployment", metadata, template, pod, more)


def daemon_set(
    metadata: Mapping[str, Any], template: Mapping[str, Any], pod: Manifest, **more: Any
) -> Manifest:
    """A pod on each node, like ``deployment`` in everything else."""
    return _workload("DaemonSet", metadata, template, pod, more)


def _workload(
    kind: str,
    metadata: Mapping[str, Any],
    template: Mapping[str, Any],
    pod: Manifest,
    more: Mapping[str, Any],
) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": dict(metadata),
        "spec": {
            **more,
            "selector": {"matchLabels": dict(template["labels"])},
            "template": {"metadata": dict(template), "spec": pod},
        },
    }


def apart(selector: Mapping[str, str], count: int) -> dict[str, Any]:
    """Has each of so many pods run on a node of its own.

    It does so also where pods start while only one node is ready.
    """
    return {
        "labelSelector": {"matchLabels": dict(selector)},
        "matchLabelKeys": ["pod-template-hash"],
        "maxSkew": 1,
        "minDomains": count,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
    }


def budget(metadata: Mapping[str, Any], selector: Mapping[str, str]) -> Manifest:
    """At most one of these pods is moved at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": dict(metadata),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": dict(selector)},
            # A pod that is not ready serves nobody, so it must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def following(labels: Mapping[str, str], files: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of pods that are rolled out anew, with readiness checks, when files change.

    Kubernetes does so for a changed template, so the template has the files' digest.
    """
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return {"labels": labels, "annotations": {"hardway/configuration": digest}}


SECCOMP = {"seccompProfile": {"type": "RuntimeDefault"}}
"""The security context of a pod whose user the image says."""


def as_user(number: int, **more: Any) -> dict[str, Any]:
    """The security context of a pod that runs as this user and group, and never as root."""
    return {"runAsGroup": number, "runAsNonRoot": True, "runAsUser": number, **SECCOMP, **more}


def from_field(name: str, path: str) -> dict[str, Any]:
    """A variable with the value of a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
