"""A page that shows what is in the cluster: Headlamp, which SIG UI of Kubernetes maintains.

Its server has no rights of its own: it asks the API with the token of who is logged in. For people
who have no token there is an account, of which ``./hardway open`` makes a token that ends soon.
"""

from collections.abc import Iterator
from typing import Any

from plan.addons import coredns, history, namespaces
from plan.addons.add_on import AddOn, Page
from plan.addons.workload import RECREATE, as_user, container, deployment, pod
from plan.condition import Condition, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import READ, account, binding, granted, rule, service_account
from spec.cluster import Cluster

NAMESPACE = namespaces.RESTRICTED
NAME = "headlamp"
SELECTOR = {"app": NAME}
PORT = 4466
LOGIN = "dashboard-login"
"""The account for people. No pod has a token of it."""

AUTHORITY = "/etc/headlamp/ca.crt"
"""The cluster's authority in the pod: that alone, without a token of an account."""


def _rights(spec: Cluster) -> tuple[Manifest, ...]:
    """None for the server; for people to see all but Secrets, or to do everything."""
    settings = spec.addons.dashboard
    assert settings is not None
    people, whole = account(LOGIN, NAMESPACE), f"hardway:{LOGIN}"
    accounts = (service_account(_named(NAME)), service_account(_named(LOGIN)))
    if settings.access == "admin":
        return (*accounts, binding(f"{whole}:admin", "cluster-admin", people))
    return (
        *accounts,
        binding(f"{whole}:view", "view", people),
        # What is in no namespace is not in that role.
        *granted(
            people,
            whole,
            [
                rule("", ["nodes", "persistentvolumes"], READ),
                rule("apiextensions.k8s.io", ["customresourcedefinitions"], READ),
                rule("metrics.k8s.io", ["nodes", "pods"], READ),
                rule("networking.k8s.io", ["ingressclasses"], READ),
                rule("scheduling.k8s.io", ["priorityclasses"], READ),
                rule("storage.k8s.io", ["storageclasses"], READ),
            ],
        ),
    )


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    return (
        history.service(_named(NAME), SELECTOR, PORT),
        history.policy(_named(NAME), SELECTOR, PORT, history.machines(spec)),
        # Who is logged in is known to a single pod.
        deployment(_named(NAME), {"labels": SELECTOR}, _pod(spec), strategy=RECREATE),
    )


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _pod(spec: Cluster) -> Manifest:
    folder, _, file = AUTHORITY.rpartition("/")
    whole = pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="20m",
            memory=("16Mi", "64Mi"),
            args=[f"-listen=:{PORT}", f"-authority={AUTHORITY}"],
            env=[{"name": "GOMAXPROCS", "value": "1"}],
            ports=[{"name": history.HTTP, "containerPort": PORT}],
            readinessProbe={
                "httpGet": {"path": "/healthz", "port": history.HTTP},
                "periodSeconds": 5,
                "timeoutSeconds": 10,
            },
            volumeMounts=[{"mountPath": folder, "name": "authority", "readOnly": True}],
        ),
        priority="cluster",
        securityContext=as_user(65532),
        tolerations=list(coredns.TOLERATIONS),
        volumes=[
            {
                "name": "authority",
                # Kubernetes itself puts it into each namespace.
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": file}],
                },
            }
        ],
    )
    return {**whole, "automountServiceAccountToken": False}


def _conditions(_spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="dashboard",
        waits_for="what shows the cluster in a browser is Ready",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=1),
        limit=Limit(900, "its pod is scheduled once nodes are Ready"),
    )


ADD_ON = AddOn(
    name="dashboard",
    about="shows the cluster in a browser",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    pages=lambda _: (Page(namespace=NAMESPACE, service=NAME, port=PORT, account=LOGIN),),
)
