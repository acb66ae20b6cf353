"""Volumes for claims: local-path-provisioner makes a folder on the node of a claim's first pod."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from plan.addons import coredns
from plan.addons.add_on import AddOn
from plan.addons.namespaces import namespace
from plan.addons.workload import (
    RECREATE,
    as_user,
    confined,
    container,
    deployment,
    following,
    from_field,
    pod,
)
from plan.artifact import reference
from plan.condition import Condition, Pods, Room, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import READ, WRITE, account, granted, rule, service_account
from spec.cluster import Cluster

NAMESPACE = "local-path-storage"
SELECTOR = {"app": "local-path-provisioner"}
"""Names and label that the provisioner has in other clusters as well, since tools look for them."""

FOLDER = "/var/lib/local-path"
"""The directory of all volumes on each node. It stays when a node leaves: it has people's data."""

CLASS = "local-path"
PROVISIONER = "hardway.local/local-path"

HELPER_SECONDS = 1200
"""For the pod that makes or removes a folder; an emulated node needs seconds, and minutes where it
is starved. The provisioner tries again after that."""

ACCOUNT = "local-path-provisioner"


FULL = 85
"""Per cent of a node's disk above which a person should act: at 90 % the kubelet evicts pods, and
takes no new ones (its ``nodefs.available``)."""


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """The provisioner and the default storage class."""
    return (
        namespace(NAMESPACE, "privileged"),  # the helper's pods mount the folder of all volumes
        _configuration(spec),
        _deployment(spec),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    )


def _named(name: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": {**SELECTOR, **labels}}


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """Those of the provisioner's own deploy/local-path-storage.yaml (v0.0.30)."""
    own = account(ACCOUNT, NAMESPACE)
    read = ["configmaps", "nodes", "persistentvolumeclaims", "pods", "pods/log"]
    return (
        service_account(_named(ACCOUNT)),
        *granted(own, ACCOUNT, [rule("", ["pods"], WRITE)], inside=NAMESPACE),
        *granted(
            own,
            "hardway:local-path-provisioner",
            [
                rule("", read, READ),
                rule("", ["persistentvolumes"], WRITE),
                rule("", ["events"], ["create", "patch"]),
                rule("storage.k8s.io", ["storageclasses"], READ),
            ],
        ),
    )


def _configuration(spec: Cluster) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _named("local-path-config"),
        "data": _files(spec),
    }


def _files(spec: Cluster) -> dict[str, str]:
    """The provisioner's configuration, and the pod that makes and removes folders.

    The provisioner completes the pod with a name, a node, the command's arguments and the mounted
    folder.
    """
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "volume-folder"},
        "spec": {
            "automountServiceAccountToken": False,
            "priorityClassName": "system-node-critical",
            "containers": [
                {
                    "name": "helper",
                    "image": reference(spec, "volume-folder"),
                    "imagePullPolicy": "IfNotPresent",
                    # Folders belong to whom a pod made them for.
                    "securityContext": confined(["DAC_OVERRIDE", "FOWNER"]),
                }
            ],
        },
    }
    settings = {
        "nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [FOLDER]}],
        "setupCommand": "/volume-folder",
        "teardownCommand": "/volume-folder",
        "cmdTimeoutSeconds": HELPER_SECONDS,
    }
    return {
        "config.json": json.dumps(settings, indent=1, sort_keys=True) + "\n",
        "helperPod.yaml": yaml.safe_dump(helper),
    }


def _deployment(spec: Cluster) -> Manifest:
    return deployment(
        _named("local-path-provisioner"),
        following(SELECTOR, _files(spec)),
        _pod(spec),
        # Two of them would make a claim's folder on two nodes.
        strategy=RECREATE,
    )


def _pod(spec: Cluster) -> Manifest:
    return pod(
        ACCOUNT,
        container(
            spec,
            "local-path-provisioner",
            name="provisioner",
            cpu="20m",
            memory=("32Mi", "128Mi"),
            args=[
                *("start", "--config", "/etc/config/config.json"),
                *("--provisioner-name", PROVISIONER),
                *("--helper-image", reference(spec, "volume-folder")),
                *("--service-account-name", ACCOUNT),
            ],
            env=[
                from_field("POD_NAMESPACE", "metadata.namespace"),
                {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
            ],
            volumeMounts=[{"mountPath": "/etc/config/", "name": "configuration", "readOnly": True}],
        ),
        priority="cluster",
        securityContext=as_user(65534),
        tolerations=list(coredns.TOLERATIONS),
        volumes=[{"name": "configuration", "configMap": {"name": "local-path-config"}}],
    )


def _conditions(spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="storage",
        waits_for="what makes volumes for claims is Ready",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=1),
        limit=Limit(900, "its pod is scheduled once nodes are Ready"),
    )
    yield condition(
        name="volumes-room",
        waits_for=f"the disk with volumes of each node is at most {FULL} % full",
        check=Room(machines=spec.nodes, folder=FOLDER, percent=FULL),
        limit=Limit(60, "it does not come true by itself"),
    )


ADD_ON = AddOn(
    name="storage",
    about="makes volumes for claims without a storage class, as folders on nodes",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    data=f"the folders of volumes stay in {FOLDER} of the nodes",
)
