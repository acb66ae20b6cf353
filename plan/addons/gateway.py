"""The Gateway API as the add-on ``ingress`` serves it: its kinds of objects, a class, a Gateway.

The Gateway and its certificate have a namespace of their own, which is the same wherever Traefik's
pods are, so that routes need not change; and where the spec limits Traefik to some namespaces, it
gets no right to the Secrets of others for it.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from plan import objects
from plan.addons.namespaces import namespace
from plan.model import Certificate, PrivateKey
from plan.objects import Manifest
from plan.rbac import READ, rule, service_account
from spec.ingress import HTTP_PORT, HTTPS_PORT

NAMESPACE = "hardway-gateway"
CLASS = NAME = "traefik"
SECRET = "gateway-tls"  # noqa: S105 - the name of an object

GROUP = "gateway.networking.k8s.io"
CONTROLLER = "traefik.io/gateway-controller"
"""What classes of Gateways call Traefik."""

DEFINITIONS = Path(__file__).with_name("crds") / "gateway-api.yaml"
"""The kinds of objects of the standard channel (``lab/recorded_crds.py``)."""

LABELS = {"app.kubernetes.io/name": CLASS}

_ROUTES = ("httproutes", "grpcroutes", "tlsroutes")
"""The routes of the standard channel that Traefik serves (v3.7): it takes no others."""

_WRITTEN = ("gateways", *_ROUTES, "backendtlspolicies")

WITHIN = (
    # Authorities by which it knows backends are in ConfigMaps.
    rule("", ["configmaps"], READ),
    rule(GROUP, [*_WRITTEN, "referencegrants"], READ),
    rule(GROUP, [f"{resource}/status" for resource in _WRITTEN], ["update"]),
)
"""The rights in the namespaces that it watches, beside those for Ingresses."""

OF_CLUSTER = (
    rule("", ["namespaces"], ["list", "watch"]),
    rule(GROUP, ["gatewayclasses"], READ),
    rule(GROUP, ["gatewayclasses/status"], ["update"]),
)
"""The rights of which there are none in a namespace."""


def manifests(certificate: str) -> tuple[Manifest, ...]:
    """The kinds of objects, and a Gateway whose https has the certificate of this name."""
    return (
        *definitions(),
        namespace(NAMESPACE, "restricted"),
        service_account({"name": "default", "namespace": NAMESPACE}),
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS, "labels": LABELS},
            "spec": {"controllerName": CONTROLLER},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _named(SECRET),
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": Certificate(certificate), "tls.key": PrivateKey(certificate)},
        },
        _gateway(),
    )


@cache
def definitions() -> tuple[Manifest, ...]:
    """The kinds of objects, as the API gets them."""
    return tuple(yaml.safe_load_all(DEFINITIONS.read_text()))


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": LABELS}


def _gateway() -> Manifest:
    routes = {"namespaces": {"from": "All"}}
    # With the group, though it is the default: Traefik refuses a certificate without it.
    certificate = {"group": "", "kind": "Secret", "name": SECRET}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Gateway",
        "metadata": _named(NAME),
        "spec": {
            "gatewayClassName": CLASS,
            "listeners": [
                {
                    "name": "http",
                    "port": HTTP_PORT,
                    "protocol": "HTTP",
                    "allowedRoutes": routes,
                },
                {
                    "name": "https",
                    "port": HTTPS_PORT,
                    "protocol": "HTTPS",
                    "tls": {"mode": "Terminate", "certificateRefs": [certificate]},
                    "allowedRoutes": routes,
                },
            ],
        },
    }


PATH = objects.path(_gateway())
"""The path of the Gateway in the API."""
