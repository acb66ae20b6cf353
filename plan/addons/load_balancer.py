"""Addresses for Services of the type LoadBalancer: MetalLB in layer 2.

Its controller gives each such Service an address of the spec's ranges. Of its speakers, one on each
node, one answers who asks on the machines' network for that address, and kube-proxy leads on from
there. The speakers watch each other (memberlist, with a key that the controller makes): where a
node dies, the speaker of another one takes its addresses over within a minute.

MetalLB's webhooks are off. They check objects that people write, and would need a certificate;
without them the controller and the speakers check what they read, and log what they do not take.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from plan.addons import coredns
from plan.addons.add_on import AddOn
from plan.addons.namespaces import namespace
from plan.addons.workload import (
    RECREATE,
    SECCOMP,
    as_user,
    container,
    daemon_set,
    deployment,
    following,
    from_field,
    pod,
)
from plan.condition import Condition, Pods, condition
from plan.limits import Limit
from plan.objects import Manifest
from plan.rbac import READ, account, granted, rule, service_account
from spec.cluster import Cluster
from spec.load_balancer import HEALTH_PORT, MEMBER_PORT, bounds

NAMESPACE = "metallb-system"
SELECTOR = {"app": "metallb"}
CONTROLLER, SPEAKER = "controller", "speaker"
"""Names and labels that MetalLB has in other clusters as well, since tools look for them."""

GROUP = "metallb.io"
POOL = "machines"

KEY = "memberlist"
"""The Secret with the key of the speakers' messages."""

DEFINITIONS = Path(__file__).with_name("crds") / "metallb.yaml"
"""MetalLB's kinds of objects (``lab/recorded_crds.py``)."""

EXCLUDED = (
    *("^docker.*", "^cbr.*", "^dummy.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo$", "^cali.*"),
    *("^tunl.*", "^flannel.*", "^kube-ipvs.*", "^cni.*", "^nodelocaldns.*", "^lxc.*"),
)
"""Interfaces on which no speaker answers: those of pods (MetalLB's exclude-l2-config.yaml)."""


SETTINGS = "metallb-excludel2"
"""The ConfigMap with the speakers' files."""

WATCHING = {
    "ProbeInterval": "5s",
    "ProbeTimeout": "3s",
    "TCPTimeout": "10s",
    "SuspicionMult": 3,
    "SuspicionMaxTimeoutMult": 2,
    "GossipInterval": "1s",
    "GossipNodes": 3,
    "GossipToTheDeadTime": "30s",
    "GossipVerifyIncoming": True,
    "GossipVerifyOutgoing": True,
    "PushPullInterval": "60s",
    "IndirectChecks": 3,
    "RetransmitMult": 4,
    "DisableTcpPings": False,
    "AwarenessMaxMultiplier": 8,
    "EnableCompression": True,
    "HandoffQueueDepth": 1024,
    "UDPBufferSize": 1400,
    "QueueCheckInterval": "30s",
}
"""How speakers watch each other, as memberlist's settings; all of them must be given.

A node counts as dead 15 to 45 s after its last answer. With the default, 4 to 30 s, three emulated
machines on a busy host took each other for dead every few minutes, and asking took as much of
their processors as the kubelet did (0.16.2).
"""


def _manifests(spec: Cluster) -> tuple[Manifest, ...]:
    """MetalLB and the addresses that it may give away."""
    return (
        namespace(NAMESPACE, "privileged"),  # speakers use the node's network
        *_definitions(),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(SETTINGS),
            "data": _settings(),
        },
        _controller(spec),
        _speaker(spec),
        *_addresses(spec),
    )


@cache
def _definitions() -> tuple[Manifest, ...]:
    return tuple(yaml.safe_load_all(DEFINITIONS.read_text()))


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": SELECTOR}


def _settings() -> dict[str, str]:
    excluded = {"announcedInterfacesToExclude": [*EXCLUDED]}
    return {
        "excludel2.yaml": yaml.safe_dump(excluded),
        "memberlist.json": json.dumps(WATCHING, indent=1) + "\n",
    }


def _addresses(spec: Cluster) -> Iterator[Manifest]:
    """The ranges of each subnet, and the nodes that answer for them there."""
    wanted = spec.addons.load_balancer
    ranges = [bounds(text) for text in wanted.addresses] if wanted else []
    for number, subnet in enumerate(spec.networks.machines):
        own = [f"{first}-{last}" for first, last in ranges if first in subnet]
        if not own:
            continue
        name = f"{POOL}-{number}" if number else POOL
        yield {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "IPAddressPool",
            "metadata": _named(name),
            "spec": {"addresses": own},
        }
        nodes = [node for node in spec.nodes if spec.machines[node].address in subnet]
        # Nobody asks a node of another subnet for these addresses.
        some = {
            "nodeSelectors": [
                {
                    "matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
                    ]
                }
            ]
        }
        yield {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "L2Advertisement",
            "metadata": _named(name),
            "spec": {
                "ipAddressPools": [name],
                **(some if len(nodes) < len(spec.nodes) else {}),
            },
        }


def _rights(_spec: Cluster) -> tuple[Manifest, ...]:
    """The rights in MetalLB's metallb-native.yaml (v0.16.2), without those for its webhooks.

    Both programs keep a copy of what they watch, so they may read all objects of a kind.
    """
    write = [*READ, "create", "patch", "update"]
    state = [
        rule(GROUP, ["configurationstates"], [*write, "delete"]),
        rule(GROUP, ["configurationstates/status"], ["get", "patch", "update"]),
    ]
    events = rule("", ["events"], ["create", "patch"])
    return (
        service_account(_named(CONTROLLER)),
        *granted(
            account(CONTROLLER, NAMESPACE),
            CONTROLLER,
            [
                # No rule can name an object that is yet to be made.
                rule("", ["secrets"], ["create"]),
                rule("", ["secrets"], ["list"], names=[KEY]),
                rule("", ["pods"], ["get"]),
                rule("apps", ["deployments"], ["get"], names=[CONTROLLER]),
                rule(GROUP, ["ipaddresspools", "communities"], READ),
                rule(GROUP, ["ipaddresspools/status"], ["update"]),
            ],
            inside=NAMESPACE,
        ),
        *granted(
            account(CONTROLLER, NAMESPACE),
            f"{NAMESPACE}:{CONTROLLER}",
            [
                rule("", ["services", "namespaces"], READ),
                rule("", ["services/status"], ["update"]),
                events,
                *state,
            ],
        ),
        service_account(_named(SPEAKER)),
        *granted(
            account(SPEAKER, NAMESPACE),
            SPEAKER,
            [
                rule("", ["pods"], ["get", "list"]),
                rule("", ["secrets", "configmaps"], READ),
                rule(
                    GROUP,
                    [
                        *("ipaddresspools", "l2advertisements", "communities"),
                        *("bgppeers", "bgpadvertisements", "bfdprofiles"),
                    ],
                    READ,
                ),
            ],
            inside=NAMESPACE,
        ),
        *granted(
            account(SPEAKER, NAMESPACE),
            f"{NAMESPACE}:{SPEAKER}",
            [
                rule("", ["services", "nodes", "namespaces"], READ),
                rule("discovery.k8s.io", ["endpointslices"], READ),
                rule(GROUP, ["servicel2statuses", "servicebgpstatuses"], [*write, "delete"]),
                rule(
                    GROUP,
                    ["servicel2statuses/status", "servicebgpstatuses/status"],
                    ["get", "patch", "update"],
                ),
                events,
                *state,
            ],
        ),
    )


def _controller(spec: Cluster) -> Manifest:
    return deployment(
        _named(CONTROLLER),
        {"labels": {**SELECTOR, "component": CONTROLLER}},
        pod(
            CONTROLLER,
            _controller_container(spec),
            priority="cluster",
            securityContext=as_user(65534),
            tolerations=list(coredns.TOLERATIONS),
        ),
        # Two of them would give one address to two Services.
        strategy=RECREATE,
    )


def _controller_container(spec: Cluster) -> Manifest:
    return container(
        spec,
        "metallb-controller",
        name=CONTROLLER,
        cpu="20m",
        memory=("32Mi", "128Mi"),
        args=["--port=0", "--log-level=info", "--webhook-mode=disabled"],
        env=[
            from_field("METALLB_POD_NAME", "metadata.name"),
            {"name": "METALLB_NAMESPACE", "value": NAMESPACE},
            {"name": "METALLB_DEPLOYMENT", "value": CONTROLLER},
            {"name": "METALLB_ML_SECRET_NAME", "value": KEY},
        ],
        readinessProbe={
            "httpGet": {"path": "/readyz", "port": HEALTH_PORT},
            "timeoutSeconds": 5,
        },
    )


def _speaker(spec: Cluster) -> Manifest:
    return daemon_set(
        _named(SPEAKER),
        following({**SELECTOR, "component": SPEAKER}, _settings()),
        pod(
            SPEAKER,
            _speaker_container(spec),
            priority="node",
            hostNetwork=True,
            securityContext=SECCOMP,
            terminationGracePeriodSeconds=5,
            tolerations=[{"operator": "Exists"}],
            volumes=[
                {"name": "key", "secret": {"secretName": KEY}},
                {
                    "name": "settings",
                    "configMap": {
                        "name": SETTINGS,
                        "items": [
                            {"key": "excludel2.yaml", "path": "excludel2.yaml"},
                            {"key": "memberlist.json", "path": "memberlist/config.json"},
                        ],
                    },
                },
            ],
        ),
    )


def _speaker_container(spec: Cluster) -> Manifest:
    labels = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    return container(
        spec,
        "metallb-speaker",
        name=SPEAKER,
        cpu="20m",
        memory=("32Mi", "128Mi"),
        capabilities=["NET_RAW"],
        args=["--port=0", "--log-level=info", f"--ml-bindport={MEMBER_PORT}"],
        env=[
            from_field("METALLB_NODE_NAME", "spec.nodeName"),
            from_field("METALLB_POD_NAME", "metadata.name"),
            from_field("METALLB_ML_BIND_ADDR", "status.podIP"),
            {"name": "METALLB_NAMESPACE", "value": NAMESPACE},
            {"name": "METALLB_ML_LABELS", "value": f"{labels},component={SPEAKER}"},
            {"name": "METALLB_ML_SECRET_KEY_PATH", "value": "/etc/ml_secret_key"},
        ],
        readinessProbe={
            "httpGet": {"host": "127.0.0.1", "path": "/readyz", "port": HEALTH_PORT},
            "timeoutSeconds": 5,
        },
        volumeMounts=[
            {"mountPath": "/etc/ml_secret_key", "name": "key", "readOnly": True},
            {"mountPath": "/etc/metallb", "name": "settings", "readOnly": True},
        ],
    )


def _conditions(spec: Cluster) -> Iterator[Condition]:
    yield condition(
        name="load-balancer",
        waits_for="what gives addresses to Services is Ready, and so is each node's speaker",
        check=Pods(namespace=NAMESPACE, selector=SELECTOR, count=1 + len(spec.nodes)),
        limit=Limit(900, "speakers start once the controller has made their key"),
    )


ADD_ON = AddOn(
    name="load_balancer",
    about="gives addresses to Services of the type LoadBalancer",
    rights=_rights,
    manifests=_manifests,
    conditions=_conditions,
)
