"""A way for people into the cluster by http and https: Traefik, as the class of Ingress objects.

It watches Ingresses, and leads requests by their host and path to the pods of Services. A request
that no Ingress wants is answered with 404, or by a Service that the spec names. Its way in is a
load balancer's address where the add-on that gives those is on; else ports 80 and 443 of each node,
which the node's packet filter leads to the pod of that node (CNI's portmap). Where the spec says
so, it serves the Gateway API at the same way in (``gateway.py``).

Its own certificate is of the cluster's authority. It stands in a folder with the rest of what
Traefik reads again by itself, so a renewal restarts nothing.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import yaml

from certs.table import SERVER, Authority, Row
from plan.addons import coredns, gateway, history, namespaces
from plan.addons.add_on import AddOn, Page
from plan.addons.workload import (
    SURGE,
    apart,
    as_user,
    budget,
    container,
    daemon_set,
    deployment,
    pod,
)
from plan.condition import Condition, Pods, ProgrammedGateway, WayIn, condition
from plan.limits import Limit
from plan.model import Certificate, PrivateKey
from plan.objects import Manifest
from plan.rbac import READ, account, granted, rule, service_account
from spec.cluster import Cluster
from spec.ingress import HTTP_PORT, HTTPS_PORT, Ingress

NAME = "traefik"
SELECTOR = {"app.kubernetes.io/name": NAME}
"""Name and label that it has in other clusters as well, since tools look for them."""

CONTROLLER = "traefik.io/ingress-controller"
"""What classes of Ingresses call it."""

CERTIFICATE = "ingress"
SECRET = f"{NAME}-tls"
FOLDER = "/run/traefik"
"""The folder with what Traefik reads again when it changes."""

WEB, WEB_SECURE, HEALTH = 8000, 8443, 8082
"""The pod's own ports. Nothing is at the last one but the answer to whether Traefik lives."""


def entry_points(spec: Cluster) -> dict[str, int]:
    """Traefik's own names for its ports, which annotations of Ingresses may have, and the ports.

    A listener of a Gateway has the port at which Traefik itself listens (v3.7), and people's
    Gateways have 80 and 443.
    """
    if has_gateway(spec):
        return {"web": HTTP_PORT, "websecure": HTTPS_PORT}
    return {"web": WEB, "websecure": WEB_SECURE}


def has_gateway(spec: Cluster) -> bool:
    """Whether it serves the Gateway API."""
    return _settings(spec).gateway


def is_balanced(spec: Cluster) -> bool:
    """Whether its way in is a load balancer's address, and not each node's own ports."""
    return spec.addons.load_balancer is not None


def namespace(spec: Cluster) -> str:
    """That of its pods: ports of a node are for privileged ones alone."""
    return namespaces.RESTRICTED if is_balanced(spec) else namespaces.PRIVILEGED


def replicas(spec: Cluster) -> int:
    """The number of pods: one on each node, or two behind a load balancer's address."""
    return min(2, len(coredns.hosts(spec))) if is_balanced(spec) else len(spec.nodes)


def _settings(spec: Cluster) -> Ingress:
    settings = spec.addons.ingress
    assert settings is not None
    return settings


def _named(spec: Cluster, name: str = NAME) -> dict[str, Any]:
    return {"name": name, "namespace": namespace(spec), "labels": SELECTOR}


# -- certificate ---------------------------------------------------------------------------------


def own_name(spec: Cluster) -> str:
    """The name of its Service, for which its certificate always is."""
    return f"{NAME}.{namespace(spec)}.svc.{spec.dns_domain}"


def _certificates(spec: Cluster) -> tuple[Row, ...]:
    """The one with which it answers where no Ingress names a Secret with another.

    No address of the API is in it: with the key of this Secret somebody could then pretend to be an
    API server.
    """
    return (
        Row(
            name=CERTIFICATE,
            node=None,
            issuer=Authority.KUBERNETES,
            common_name=NAME,
            uses=SERVER,
            dns_names=(own_name(spec), *_settings(spec).certificate_names),
            addresses=_addresses(spec),
        ),
    )


def _addresses(spec: Cluster) -> tuple[IPv4Address, ...]:
    """The addresses of its way in that are known, but for those of control planes."""
    if is_balanced(spec):
        fixed = _settings(spec).address
        return (fixed,) if fixed else ()
    return tuple(
        spec.machines[node].address for node in spec.nodes if node not in spec.control_planes
    )


# -- rights --------------------------------------------------------------------------------------


def _rights(spec: Cluster) -> tuple[Manifest, ...]:
    """Those of its documentation (v3.7), as far as Ingresses need them.

    The largest is to read Secrets, for certificates: of all namespaces, or of those that the spec
    names, and of the Gateway's own.
    """
    own, name = account(NAME, namespace(spec)), f"hardway:{NAME}"
    within = [
        rule("", ["services", "secrets"], READ),
        rule("discovery.k8s.io", ["endpointslices"], READ),
        rule("networking.k8s.io", ["ingresses"], READ),
        rule("networking.k8s.io", ["ingresses/status"], ["update"]),
        *(gateway.WITHIN if has_gateway(spec) else ()),
    ]
    of_cluster = [
        rule("", ["nodes"], READ),
        rule("networking.k8s.io", ["ingressclasses"], READ),
        *(gateway.OF_CLUSTER if has_gateway(spec) else ()),
    ]
    limited = _settings(spec).namespaces
    return (
        service_account(_named(spec)),
        *granted(own, name, of_cluster if limited else [*of_cluster, *within]),
        *(part for inside in _watched(spec) for part in granted(own, name, within, inside=inside)),
    )


def _watched(spec: Cluster) -> tuple[str, ...]:
    """The only namespaces that it reads; none where it reads all of them."""
    limited = _settings(spec).namespaces
    own = (gateway.NAMESPACE,) if limited and has_gateway(spec) else ()
    return tuple(dict.fromkeys((*limited, *own)))


# -- objects -------------------------------------------------------------------------------------


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    return (
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {
                "name": NAME,
                "labels": SELECTOR,
                "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
            },
            "spec": {"controller": CONTROLLER},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(spec),
            "data": {"dynamic.yaml": configuration(spec)},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _named(spec, SECRET),
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": Certificate(CERTIFICATE), "tls.key": PrivateKey(CERTIFICATE)},
        },
        _service(spec),
        _policy(spec),
        *_workload(spec),
        *(gateway.manifests(CERTIFICATE) if has_gateway(spec) else ()),
    )


def configuration(spec: Cluster) -> str:
    """What Traefik reads again by itself: its own certificate, and to whom all else goes."""
    pair = {"certFile": f"{FOLDER}/tls.crt", "keyFile": f"{FOLDER}/tls.key"}
    whole: dict[str, Any] = {"tls": {"stores": {"default": {"defaultCertificate": pair}}}}
    if backend := _settings(spec).default_backend:
        host = f"{backend.service}.{backend.namespace}.svc.{spec.dns_domain}"
        name = "default-backend"
        whole["http"] = {
            "routers": {
                name: {
                    "entryPoints": list(entry_points(spec)),
                    "rule": "PathPrefix(`/`)",
                    "priority": 1,
                    "service": name,
                }
            },
            "services": {
                name: {"loadBalancer": {"servers": [{"url": f"http://{host}:{backend.port}"}]}}
            },
        }
    return yaml.safe_dump(whole, sort_keys=False)


def _service(spec: Cluster) -> Manifest:
    metadata = _named(spec)
    ports = {"http": (HTTP_PORT, "web"), "https": (HTTPS_PORT, "websecure")}
    balanced: dict[str, Any] = {}
    if is_balanced(spec):
        # A node with a pod answers for the address, so pods see the address of who asks.
        balanced = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        if fixed := _settings(spec).address:
            metadata["annotations"] = {"metallb.io/loadBalancerIPs": str(fixed)}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            **balanced,
            "ports": [
                {"name": name, "port": port, "targetPort": target, "appProtocol": name}
                for name, (port, target) in ports.items()
            ],
            "selector": SELECTOR,
        },
    }


def _policy(spec: Cluster) -> Manifest:
    """Everybody reaches its way in, and only machines the port that says whether it lives."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _named(spec),
        "spec": {
            "podSelector": {"matchLabels": SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "ports": [
                        {"port": port, "protocol": "TCP"} for port in entry_points(spec).values()
                    ]
                },
                {
                    "from": history.machines(spec),
                    "ports": [{"port": HEALTH, "protocol": "TCP"}],
                },
            ],
        },
    }


def _workload(spec: Cluster) -> Iterator[Manifest]:
    template = {"labels": SELECTOR}
    if not is_balanced(spec):
        yield daemon_set(_named(spec), template, _pod(spec, tolerations=[{"operator": "Exists"}]))
        return
    count = replicas(spec)
    whole = _pod(
        spec,
        tolerations=list(coredns.TOLERATIONS),
        topologySpreadConstraints=[apart(SELECTOR, count)],
    )
    yield deployment(_named(spec), template, whole, strategy=SURGE, replicas=count)
    yield budget(_named(spec), SELECTOR)


def _pod(spec: Cluster, **more: Any) -> Manifest:
    return pod(
        NAME,
        _container(spec),
        priority="cluster",
        # The group of the files with its key.
        securityContext=as_user(65532, fsGroup=65532, **_low_ports(spec)),
        volumes=[
            {
                "name": "configuration",
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [{"configMap": {"name": NAME}}, {"secret": {"name": SECRET}}],
                },
            }
        ],
        **more,
    )


def _low_ports(spec: Cluster) -> dict[str, Any]:
    """What lets it listen at ports below 1024 of its pod, without being root."""
    if not has_gateway(spec):
        return {}
    lowest = min(entry_points(spec).values())
    return {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": str(lowest)}]}


def _container(spec: Cluster) -> Manifest:
    outside = {} if is_balanced(spec) else {"web": HTTP_PORT, "websecure": HTTPS_PORT}
    ports = {**entry_points(spec), "health": HEALTH}
    return container(
        spec,
        NAME,
        name=NAME,
        cpu="50m",
        memory=("64Mi", "150Mi"),
        args=arguments(spec),
        # A single thread is enough, and more of them cost memory.
        env=[{"name": "GOMAXPROCS", "value": "1"}],
        livenessProbe={
            "failureThreshold": 5,
            "httpGet": {"path": "/ping", "port": "health"},
            "initialDelaySeconds": 60,
            "periodSeconds": 20,
            "timeoutSeconds": 10,
        },
        ports=[
            {
                "name": name,
                "containerPort": port,
                **({"hostPort": outside[name]} if name in outside else {}),
            }
            for name, port in ports.items()
        ],
        readinessProbe={
            "httpGet": {"path": "/ping", "port": "health"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
        volumeMounts=[{"mountPath": FOLDER, "name": "configuration", "readOnly": True}],
    )


def arguments(spec: Cluster) -> list[str]:
    """Traefik's arguments: no page of its own, no question to its makers, nothing unencrypted."""
    limited = _settings(spec).namespaces
    of_ingresses = "--providers.kubernetesingress"
    return [
        *(f"--entrypoints.{name}.address=:{port}" for name, port in entry_points(spec).items()),
        "--entrypoints.websecure.http.tls=true",
        f"--entrypoints.traefik.address=:{HEALTH}",
        # It serves on until nobody is led to it any more.
        *(
            f"--entrypoints.{name}.transport.lifecycle.requestacceptgracetimeout=5s"
            for name in entry_points(spec)
        ),
        "--ping=true",
        f"--providers.file.directory={FOLDER}",
        f"{of_ingresses}=true",
        # A Service without a pod that is ready is 503, and not what nobody wants.
        f"{of_ingresses}.allowemptyservices=true",
        # As the API describes paths: /shop is no beginning of /shopping.
        f"{of_ingresses}.strictprefixmatching=true",
        *([f"{of_ingresses}.namespaces={','.join(limited)}"] if limited else []),
        *_endpoint(spec, f"{of_ingresses}.ingressendpoint"),
        *(_of_gateways(spec) if has_gateway(spec) else ()),
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.nocolor=true",
    ]


def _endpoint(spec: Cluster, flag: str) -> Iterator[str]:
    """Which address Ingresses show: of a load balancer, else of the first node.

    An address that is not fixed is read from Traefik's own Service, of whose namespace it has no
    rights where the spec names namespaces; Ingresses then show none.
    """
    settings = _settings(spec)
    if not is_balanced(spec):
        yield f"{flag}.ip={spec.machines[spec.nodes[0]].address}"
    elif settings.address:
        yield f"{flag}.ip={settings.address}"
    elif not settings.namespaces:
        yield f"{flag}.publishedservice={namespace(spec)}/{NAME}"


def _of_gateways(spec: Cluster) -> Iterator[str]:
    """The arguments by which it serves the Gateway API.

    A route may name a Service of Traefik's own, which no ReferenceGrant guards; only routes beside
    the Gateway may here, and nobody has any.
    """
    flag = "--providers.kubernetesgateway"
    yield f"{flag}=true"
    yield f"{flag}.crossprovidernamespaces={gateway.NAMESPACE}"
    if watched := _watched(spec):
        yield f"{flag}.namespaces={','.join(watched)}"
    # The same address as that of Ingresses.
    address = f"{flag}.statusaddress"
    if not is_balanced(spec):
        yield f"{address}.ip={spec.machines[spec.nodes[0]].address}"
    elif fixed := _settings(spec).address:
        yield f"{address}.ip={fixed}"
    elif not watched:
        yield f"{address}.service.namespace={namespace(spec)}"
        yield f"{address}.service.name={NAME}"


# -- conditions ----------------------------------------------------------------------------------


def _conditions(spec: Cluster) -> Iterator[Condition]:
    where = "" if is_balanced(spec) else " on every node"
    yield condition(
        name="ingress-runs",
        waits_for=f"Traefik is Ready{where}",
        check=Pods(namespace=namespace(spec), selector=SELECTOR, count=replicas(spec)),
        limit=Limit(900, "its pods are scheduled, and read all Ingresses first"),
    )
    yield condition(
        name="ingress",
        waits_for="the cluster answers by http and https from outside",
        check=WayIn(
            nodes={node: str(spec.machines[node].address) for node in spec.nodes},
            balanced_by=f"{namespace(spec)}/{NAME}" if is_balanced(spec) else "",
            name=own_name(spec),
            http=HTTP_PORT,
            https=HTTPS_PORT,
        ),
        limit=Limit(300, "a load balancer's address is given, and nodes lead from it to the pods"),
    )
    if has_gateway(spec):
        yield condition(
            name="gateway",
            waits_for="Traefik serves the routes of the Gateway",
            check=ProgrammedGateway(path=gateway.PATH),
            limit=Limit(300, "it looks for kinds of objects that are new once a minute or so"),
        )


def _pages(spec: Cluster) -> tuple[Page, ...]:
    node = "" if is_balanced(spec) else str(spec.machines[spec.nodes[0]].address)
    return (Page(namespace=namespace(spec), service=NAME, port=HTTP_PORT, at=node),)


ADD_ON = AddOn(
    name="ingress",
    about="leads requests by http and https to Services, as Ingresses say",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    certificates=_certificates,
    pages=_pages,
    namespaces=lambda spec: _settings(spec).namespaces,
)
