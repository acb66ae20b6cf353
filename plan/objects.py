"""The paths of objects in the Kubernetes API."""

from typing import Any

Manifest = dict[str, Any]
"""An object as a person would write it, with ``apiVersion``, ``kind`` and ``metadata``."""

RESOURCES = {
    "APIService": "apiservices",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "Gateway": "gateways",
    "GatewayClass": "gatewayclasses",
    "IPAddressPool": "ipaddresspools",
    "IngressClass": "ingressclasses",
    "L2Advertisement": "l2advertisements",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StorageClass": "storageclasses",
}
"""Kind to the name of its resource in API paths (``kubectl api-resources``)."""


def path(manifest: Manifest) -> str:
    """The path of an object in the API. Raises KeyError for a kind that ``RESOURCES`` lacks."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{prefix}{namespace}/{RESOURCES[manifest['kind']]}/{metadata['name']}"
