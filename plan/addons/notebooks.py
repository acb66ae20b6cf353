"""Notebooks for people: JupyterHub, where each person who logs in gets a Jupyter server in a pod.

Three kinds of pods have the same image. The *proxy* has the two ports of the first control plane
and the certificate, and no rights; ports of a node are for the privileged namespace alone. The
*hub* may make pods in its own namespace, which the API server keeps restricted, and in no other.
*People's servers* have no token, and reach the hub, names and what is outside the cluster; they
run whatever a person types.

The proxy is the one of npm (``lab/recipes/recipes.yaml`` says why). It and people's servers
outlive the hub's restarts.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from certs.table import SERVER, Authority, Row
from plan.addons import coredns, history, namespaces
from plan.addons.add_on import AddOn, Page
from plan.addons.workload import RECREATE, as_user, container, deployment, following, pod
from plan.artifact import reference
from plan.condition import Condition, Pods, WayIn, condition
from plan.limits import Limit
from plan.model import Certificate, DerivedPassword, PrivateKey
from plan.objects import Manifest
from plan.rbac import READ, account, granted, rule, service_account
from spec.cluster import Cluster
from spec.notebooks import HUB_PORT, SERVER_PORT, Notebooks

NAME = "jupyterhub"
NAMESPACE = "hardway-notebooks"
SELECTOR = {"app": NAME}
PORT = 8081

PROXY = "jupyterhub-proxy"
PROXY_NAMESPACE = namespaces.PRIVILEGED
PROXY_SELECTOR = {"app": PROXY}
API_PORT = 8001
"""The port of the proxy at which the hub says who is led where."""
LEADING = "https"
"""The name of the port at which people come in."""

SERVERS = {"component": "singleuser-server"}
"""The label of people's servers, which kubespawner gives them."""
OWN_PORT = 8888

CERTIFICATE = "notebooks"
SECRET, TLS = NAME, f"{PROXY}-tls"
PASSWORD = "password"  # noqa: S105, the name of a key
USER = 1000
"""The user of the image."""

FOLDER, SECRETS, DATA = "/etc/jupyterhub", "/run/jupyterhub", "/srv/jupyterhub"
"""The hub's configuration, its secrets and what it remembers, in its pod."""
TLS_FOLDER = "/run/tls"
"""The proxy's certificate and key, in its pod."""

CONFIGURATION = Path(__file__).with_name("jupyterhub") / "jupyterhub_config.py"
START = CONFIGURATION.with_name("start.py")
"""What the hub's container runs, and what then becomes the hub."""

PROGRAM = "/opt/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
RENEWED = "/opt/proxy/renewed.mjs"

REMEMBERED = "1Gi"
"""What the claim of the hub itself asks for: a small database."""


def _settings(spec: Cluster) -> Notebooks:
    settings = spec.addons.notebooks
    assert settings is not None
    return settings


def door(spec: Cluster) -> str:
    """The machine at whose address people come in: the first control plane."""
    return spec.control_planes[0]


def own_name(spec: Cluster) -> str:
    """The name of the proxy's Service, for which its certificate always is."""
    return f"{PROXY}.{PROXY_NAMESPACE}.svc.{spec.dns_domain}"


def _certificates(spec: Cluster) -> tuple[Row, ...]:
    """The proxy's; for no address of the API, which the holder of its key could pretend to be."""
    return (
        Row(
            name=CERTIFICATE,
            node=None,
            issuer=Authority.KUBERNETES,
            common_name=PROXY,
            uses=SERVER,
            dns_names=(own_name(spec), *_settings(spec).certificate_names),
        ),
    )


def _rights(spec: Cluster) -> tuple[Manifest, ...]:
    """The hub makes and ends pods of its own namespace; with claims it makes those, too.

    kubespawner lists events to tell people what their server waits for.
    """
    claims = [rule("", ["persistentvolumeclaims"], ["get", "create"])]
    return (
        # People's servers have that of their namespace, without its token.
        service_account({"name": "default", "namespace": NAMESPACE}),
        service_account(_named(NAME)),
        *granted(
            account(NAME, NAMESPACE),
            NAME,
            [
                rule("", ["pods"], [*READ, "create", "delete"]),
                rule("", ["events"], READ),
                *(claims if spec.addons.storage else []),
            ],
            inside=NAMESPACE,
        ),
        service_account(_of_proxy(PROXY)),
    )


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _of_proxy(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": PROXY_NAMESPACE, "labels": PROXY_SELECTOR}


@cache
def programs() -> dict[str, str]:
    """The hub's configuration and what runs before it, the same in every cluster."""
    return {path.name: path.read_text() for path in (CONFIGURATION, START)}


def settings(spec: Cluster) -> str:
    """What the configuration reads: what differs between clusters."""
    own = _settings(spec)
    whole = {
        "hub": f"http://{NAME}.{NAMESPACE}.svc.{spec.dns_domain}:{PORT}",
        "proxy": f"http://{own_name(spec)}:{API_PORT}",
        "namespace": NAMESPACE,
        "image": reference(spec, NAME),
        "memory": own.memory,
        "cpus": own.cpus,
        "servers": own.servers,
        "idle": 60 * own.idle,
        "look": max(60, 6 * own.idle),
        "claims": spec.addons.storage,
        "home": own.home,
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    number = _settings(spec).password
    password, token = DerivedPassword(CERTIFICATE, number), DerivedPassword(PROXY, number)
    files = {**programs(), "settings.json": settings(spec)}
    followed = {**files, "password": str(number)}
    return (
        namespaces.namespace(NAMESPACE, "restricted"),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(NAME),
            "data": files,
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _named(SECRET),
            "data": {PASSWORD: password, "token": token},
        },
        *_claims(spec),
        history.service(_named(NAME), SELECTOR, PORT),
        *_policies(spec),
        deployment(
            _named(NAME),
            following(SELECTOR, followed),
            _hub(spec),
            # Only one may write to the folder.
            strategy=RECREATE,
        ),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _of_proxy(PROXY),
            "data": {"token": token},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _of_proxy(TLS),
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": Certificate(CERTIFICATE), "tls.key": PrivateKey(CERTIFICATE)},
        },
        _service_of_proxy(),
        deployment(
            _of_proxy(PROXY),
            following(PROXY_SELECTOR, {"password": str(number)}),
            _proxy(spec),
            # Its ports are those of a machine.
            strategy=RECREATE,
        ),
    )


def _claims(spec: Cluster) -> tuple[Manifest, ...]:
    """The claim of what the hub remembers; none without the add-on that serves claims."""
    if not spec.addons.storage:
        return ()
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": _named(NAME),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": REMEMBERED}},
            },
        },
    )


# -- who reaches whom ----------------------------------------------------------------------------


def _policies(spec: Cluster) -> Iterator[Manifest]:
    """The hub, people's servers and the proxy, each reached by whom it needs alone."""
    proxy = history.pods(PROXY_NAMESPACE, PROXY_SELECTOR)
    hub, servers = history.pods(NAMESPACE, SELECTOR), history.pods(NAMESPACE, SERVERS)
    yield history.policy(_named(NAME), SELECTOR, PORT, [proxy, servers, *history.machines(spec)])
    yield _of_servers(spec, [proxy, hub], hub)
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _of_proxy(PROXY),
        "spec": {
            "podSelector": {"matchLabels": PROXY_SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [_tcp(port) for port in (HUB_PORT, SERVER_PORT)]},
                {"from": [hub], "ports": [_tcp(API_PORT)]},
            ],
        },
    }


def _of_servers(spec: Cluster, callers: list[dict[str, Any]], hub: dict[str, Any]) -> Manifest:
    """People's servers run anything, so they reach nothing inside but the hub and names."""
    networks = (*spec.networks.machines, spec.networks.pods, spec.networks.services)
    outside = {"cidr": "0.0.0.0/0", "except": [str(network) for network in networks]}
    names = history.pods(coredns.NAMESPACE, coredns.SELECTOR)
    at_names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _named("servers"),
        "spec": {
            "podSelector": {"matchLabels": SERVERS},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": callers, "ports": [_tcp(OWN_PORT)]}],
            "egress": [
                {"to": [hub], "ports": [_tcp(PORT)]},
                {"to": [names], "ports": at_names},
                {"to": [{"ipBlock": outside}]},
            ],
        },
    }


def _tcp(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}


# -- the hub -------------------------------------------------------------------------------------


def _hub(spec: Cluster) -> Manifest:
    return pod(
        NAME,
        container(
            spec,
            NAME,
            name=NAME,
            cpu="50m",
            memory=("192Mi", "400Mi"),
            command=[
                *("python3", f"{FOLDER}/{START.name}"),
                *("jupyterhub", f"--config={FOLDER}/{CONFIGURATION.name}"),
            ],
            env=[{"name": "HOME", "value": "/tmp"}],  # noqa: S108, a volume of its own
            ports=[{"name": history.HTTP, "containerPort": PORT}],
            readinessProbe={
                "httpGet": {"path": "/hub/health", "port": history.HTTP},
                "periodSeconds": 10,
                "timeoutSeconds": 20,
            },
            workingDir=DATA,
            volumeMounts=[
                {"mountPath": DATA, "name": "data"},
                {"mountPath": "/tmp", "name": "scratch"},  # noqa: S108
                {"mountPath": FOLDER, "name": "configuration", "readOnly": True},
                {"mountPath": SECRETS, "name": "secrets", "readOnly": True},
            ],
        ),
        priority="cluster",
        # Else the Services' variables look like JupyterHub's own.
        enableServiceLinks=False,
        securityContext=as_user(USER, fsGroup=USER),
        tolerations=list(coredns.TOLERATIONS),
        volumes=[
            history.volume(spec, NAME),
            {"name": "scratch", "emptyDir": {}},
            {"name": "configuration", "configMap": {"name": NAME}},
            {"name": "secrets", "secret": {"secretName": SECRET, "defaultMode": 0o440}},
        ],
    )


# -- the proxy -----------------------------------------------------------------------------------


def _service_of_proxy() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _of_proxy(PROXY),
        "spec": {
            "ports": [
                {"name": LEADING, "port": HUB_PORT, "targetPort": LEADING, "appProtocol": "https"},
                {"name": "api", "port": API_PORT, "targetPort": "api"},
            ],
            "selector": PROXY_SELECTOR,
        },
    }


def proxy_command(spec: Cluster) -> list[str]:
    """The proxy's command. Who asks for nobody's server is led to the hub."""
    hub = json.loads(settings(spec))["hub"]
    return [
        *("node", "--max-old-space-size=96", f"--import={RENEWED}", PROGRAM),
        *("--ip=0.0.0.0", f"--port={HUB_PORT}", "--api-ip=0.0.0.0", f"--api-port={API_PORT}"),
        *(f"--default-target={hub}", f"--error-target={hub}/hub/error"),
        *(f"--ssl-cert={TLS_FOLDER}/tls.crt", f"--ssl-key={TLS_FOLDER}/tls.key"),
        "--log-level=warn",
    ]


def proxy_environment() -> dict[str, str]:
    """What ``renewed.mjs`` reads: the files to look at, and where people's own servers are."""
    return {
        "CERTIFICATE": f"{TLS_FOLDER}/tls.crt",
        "PRIVATE_KEY": f"{TLS_FOLDER}/tls.key",
        "SECOND_ADDRESS": "0.0.0.0",  # noqa: S104, in its pod
        "SECOND_PORT": str(SERVER_PORT),
    }


def _proxy(spec: Cluster) -> Manifest:
    token = {"secretKeyRef": {"name": PROXY, "key": "token"}}
    whole = pod(
        PROXY,
        container(
            spec,
            NAME,
            name=PROXY,
            cpu="50m",
            memory=("64Mi", "200Mi"),
            command=proxy_command(spec),
            env=[
                *({"name": name, "value": value} for name, value in proxy_environment().items()),
                {"name": "CONFIGPROXY_AUTH_TOKEN", "valueFrom": token},
            ],
            ports=[
                {"name": LEADING, "containerPort": HUB_PORT, "hostPort": HUB_PORT},
                {"name": "own-server", "containerPort": SERVER_PORT, "hostPort": SERVER_PORT},
                {"name": "api", "containerPort": API_PORT},
            ],
            readinessProbe={
                "httpGet": {"path": "/_chp_healthz", "port": LEADING, "scheme": "HTTPS"},
                "periodSeconds": 10,
                "timeoutSeconds": 10,
            },
            volumeMounts=[{"mountPath": TLS_FOLDER, "name": "tls", "readOnly": True}],
        ),
        priority="cluster",
        enableServiceLinks=False,
        # The group of the files with its key.
        securityContext=as_user(USER, fsGroup=USER),
        tolerations=[{"operator": "Exists"}],
        volumes=[{"name": "tls", "secret": {"secretName": TLS, "defaultMode": 0o440}}],
    )
    selector = {**whole["nodeSelector"], "kubernetes.io/hostname": door(spec)}
    return {**whole, "automountServiceAccountToken": False, "nodeSelector": selector}


# -- conditions ----------------------------------------------------------------------------------


def _conditions(spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="notebooks-proxy",
        waits_for="what leads people to their notebooks is Ready",
        check=Pods(namespace=PROXY_NAMESPACE, selector=PROXY_SELECTOR, count=1),
        limit=Limit(900, "its pod is scheduled once its node is Ready"),
    )
    yield condition(
        name="notebooks-hub",
        waits_for="JupyterHub is Ready",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=1),
        limit=Limit(900, "its pod is scheduled, and its claim gets a folder first"),
    )
    yield condition(
        name="notebooks",
        waits_for="the notebooks answer by https from outside",
        check=WayIn(
            nodes={door(spec): str(spec.machines[door(spec)].address)},
            balanced_by="",
            name=own_name(spec),
            http=None,
            https=HUB_PORT,
        ),
        limit=Limit(300, "the node leads from its port to the pod"),
    )


def _pages(spec: Cluster) -> tuple[Page, ...]:
    return (
        Page(
            namespace=PROXY_NAMESPACE,
            service=PROXY,
            port=HUB_PORT,
            is_https=True,
            at=str(spec.machines[door(spec)].address),
            password=f"{NAMESPACE}/{SECRET}",
        ),
    )


ADD_ON = AddOn(
    name="notebooks",
    about="gives each person who logs in a Jupyter server",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
    certificates=_certificates,
    data="the homes of people go with their claims or their servers",
    pages=_pages,
)
