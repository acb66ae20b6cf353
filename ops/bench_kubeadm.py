"""Compares this project with kubeadm in one run, on machines of the same size and base image.

The two set up a cluster one after the other, on new machines, so each has the host for itself. Both
clocks begin once the machines have booted and accept a login. For kubeadm, all possible preparation
is done before its clock begins: images are imported, the container runtime runs, and pod networks
have their configuration and routes.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.cache import Cache
from lab.kubeadm import Kubeadm, cluster_configuration, kubeadm
from lab.libvirt import LibvirtConnection
from lab.problem import Problem
from lab.progress import Progress
from ops.bench_lab import BenchLab, bench_lab
from ops.display import progress
from plan import cni, containerd, host, library, render, runtime
from plan.artifact import artifacts
from plan.condition import Condition
from plan.conditions import conditions
from plan.model import Artifact, File, Step
from probe.access import Access
from probe.machines import Done, Machines, Unreachable
from probe.watch import watch
from spec.cluster import Cluster
from spec.network import gateway_of

WANTED = 0.6
"""The largest wanted ratio of this project's time to kubeadm's."""

WAITED_FOR = ("nodes", "dns")
"""The conditions that stop kubeadm's clock; this project's clock waits for all conditions."""

ON_MINIONS = ("kube-proxy", "coredns", "pause")
"""The images that a node without a control plane needs."""

SECONDS, SLOW = 30, 120
"""Time limit of a command on a machine, and its factor for slow hosts; no result depends on it."""

CONFIGURATION = "/etc/kubernetes/kubeadm.yaml"
ADMIN = "/etc/kubernetes/admin.conf"
TOKEN = re.compile(r"--token (\S+)")
AUTHORITY = re.compile(r"--discovery-token-ca-cert-hash (\S+)")

PATH = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"

PREPARE = Path(__file__).parent / "scripts" / "prepare-for-kubeadm.sh"

KUBELET_UNIT = """\
[Unit]
Description=kubelet
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""
KUBELET_SETTINGS = """\
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS \
$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""
"""The unit of the kubelet's package, and the settings that kubeadm expects ("Configuring each
kubelet in your cluster using kubeadm" in the documentation of Kubernetes)."""


# -- results -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The duration of one way to set up a cluster, and the host's load."""

    seconds: float
    """From the first login until the awaited conditions hold."""
    load: tuple[float, float]
    """The host's load average over a minute, when the clock began and when it ended."""
    parts: Mapping[str, float]
    """The parts of the duration in seconds, in order."""


def table(ours: Run, theirs: Run) -> Table:
    """The table that compares both runs."""
    shown = Table(title="from login to done, ours and kubeadm's")
    for title in ("what", "seconds", "load before", "load after", "ratio"):
        shown.add_column(title, justify="left" if title == "what" else "right")
    shown.add_row("ours, all conditions true", *_row(ours), f"{ours.seconds / theirs.seconds:.2f}")
    shown.add_row("kubeadm, nodes Ready and DNS answering", *_row(theirs), f"at most {WANTED}")
    return shown


def _row(run: Run) -> tuple[str, ...]:
    return f"{run.seconds:.0f}", *(f"{load:.1f}" for load in run.load)


def _parts(title: str, run: Run) -> Iterator[str]:
    yield f"what was waited for, {title}:"
    for name, seconds in run.parts.items():
        yield f"  {name:28} {seconds:5.0f} s"


def bench_kubeadm(console: Console) -> None:
    """Bring up both clusters, one after the other, and print the comparison."""
    with bench_lab() as lab:
        demand_comparable(lab.cluster)
        peer = kubeadm(lab.cluster, Cache(), progress(), lab.paths.logs)
        where = lab.prepare()
        ours = measure_ours(lab, where)
        lab.run("down", "--keep-lab")
        theirs = measure_kubeadm(lab, where, peer)
    console.print(table(ours, theirs))
    for title, run in (("ours", ours), ("kubeadm", theirs)):
        for line in _parts(title, run):
            console.print(line)


def demand_comparable(spec: Cluster) -> None:
    """Raise a Problem where the default stack is a cluster that this comparison cannot make."""
    differs = {
        "has more than one control plane": len(spec.control_planes) > 1,
        "has members of etcd apart from its control plane": spec.etcd_members
        != spec.control_planes,
        "has Docker as its container runtime": spec.runtime != "containerd",
        "has no CoreDNS": not spec.addons.coredns,
        "has one node only": len(spec.nodes) < 2,
        "has a control plane that is no node": set(spec.nodes) != set(spec.machines),
    }
    if differing := [what for what, so in differs.items() if so]:
        raise Problem(
            f"the default stack {' and '.join(differing)}, and kubeadm is compared with one "
            "control plane and its minions",
            "take that out of Pulumi.dev.yaml for as long as you compare",
        )


# -- this project --------------------------------------------------------------------------------


def measure_ours(lab: BenchLab, where: LibvirtConnection) -> Run:
    """Measure this project's update on machines that have booted."""
    lab.boot(where)
    before = os.getloadavg()[0]
    with progress().task("ours, until all conditions are true"):
        update = lab.update()
    load = before, os.getloadavg()[0]
    return Run(update.seconds, load, {span.name: span.seconds for span in update.path})


# -- kubeadm -------------------------------------------------------------------------------------


def measure_kubeadm(lab: BenchLab, where: LibvirtConnection, peer: Kubeadm) -> Run:
    """Measure `kubeadm init` and `kubeadm join` on machines that have booted and are prepared."""
    spec = lab.boot(where)
    with lab.priority():
        return lab.inside(where, _both(spec, peer, lab.access(), progress()))


async def _both(spec: Cluster, peer: Kubeadm, access: Access, shown: Progress) -> Run:
    try:
        async with Machines(access, factor=SLOW) as machines:
            with shown.task("preparing the machines for kubeadm"):
                await asyncio.gather(*(_prepare(machines, spec, peer, name) for name in spec.nodes))
            with shown.task("kubeadm, until nodes are Ready and DNS answers"):
                return await _timed(machines, spec, access)
    except Unreachable as error:
        raise Problem(str(error), "measure again, on a host with less to do") from error


async def _prepare(machines: Machines, spec: Cluster, peer: Kubeadm, node: str) -> None:
    step = preparation(spec, peer, node)
    await _ran(machines, node, "exec sh -s", given=library.laid_down())
    await _ran(machines, node, render.command(step), given=render.text(step))
    script = PATH + PREPARE.read_text()
    await _ran(
        machines,
        node,
        script,
        f"linux/{spec.architecture}",
        given=routes_and_images(spec, peer, node),
    )


async def _timed(machines: Machines, spec: Cluster, access: Access) -> Run:
    master = spec.control_planes[0]
    minions = [name for name in spec.nodes if name != master]
    before = os.getloadavg()[0]
    began = time.monotonic()
    done = await _ran(machines, master, f"{PATH}kubeadm init --config {CONFIGURATION}")
    initialised = time.monotonic()
    given = join(spec, done.stdout)
    joins = (
        _ran(machines, minion, f"{PATH}kubeadm join --config /dev/stdin", given=given)
        for minion in minions
    )
    admin, *_ = await asyncio.gather(_ran(machines, master, f"cat {ADMIN}"), *joins)
    joined = time.monotonic()
    opened = Access(machines=access.machines, ssh_key=access.ssh_key, kubeconfig=admin.stdout)
    outcomes = await watch(waited_for(spec), opened, say=_silent)
    ended = time.monotonic()
    if failed := [outcome for outcome in outcomes if not outcome.holds]:
        raise Problem(
            f"kubeadm's cluster does not come up: {failed[0].error}",
            "measure again; a busy host makes it likelier",
        )
    return Run(
        ended - began,
        (before, os.getloadavg()[0]),
        {
            "kubeadm init": initialised - began,
            "kubeadm join": joined - initialised,
            **{outcome.name: outcome.seconds for outcome in outcomes},
        },
    )


async def _ran(
    machines: Machines, node: str, script: str, *arguments: str, given: str | None = None
) -> Done:
    """Run a script on a machine. Raises a Problem where the script fails, or Unreachable."""
    done = await machines.run(node, script, *arguments, timeout=SECONDS, input=given)
    if done.status != 0:
        raise Problem(
            f"{node}: kubeadm's way ends with exit status {done.status}: "
            f"{(done.stderr or done.stdout)[-2000:]}",
            "mend that and measure again",
        )
    return done


def _silent(text: str) -> None:
    del text


def waited_for(spec: Cluster) -> tuple[Condition, ...]:
    """The conditions that stop kubeadm's clock."""
    return tuple(condition for condition in conditions(spec) if condition.name in WAITED_FOR)


# -- the content of kubeadm's machines -------------------------------------------------------------


def preparation(spec: Cluster, peer: Kubeadm, node: str) -> Step:
    """The step that prepares a machine for kubeadm: programs, runtime and pod network."""
    programs = (
        *containerd.programs(spec),
        *artifacts(spec, ("kubelet", "kubectl")),
        _artifact(spec, "kubeadm", peer.digest, "binary"),
    )
    return Step(
        name="kubeadm",
        # The preflight checks of kubeadm demand these; the lab's base image has them all.
        packages=(*runtime.packages(spec), "conntrack", "mount"),
        artifacts=(*programs, *cni.programs(spec), *archives(spec, peer, node)),
        directories=cni.directories(),
        files=(
            *host.files(spec),
            *containerd.files(spec, {"sandbox": peer.reference("pause")}),
            File(path="/etc/systemd/system/kubelet.service", content=KUBELET_UNIT, mode=0o644),
            File(
                path="/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
                content=KUBELET_SETTINGS,
                mode=0o644,
            ),
            # CoreDNS forwards names that it does not know, and does not start without an upstream.
            File(
                path="/etc/systemd/resolved.conf.d/upstream.conf",
                content=f"[Resolve]\nDNS={gateway_of(spec.subnet_of(node))}\n",
                mode=0o644,
            ),
            File(path=cni.LIST, content=_json(network(spec, node))),
            *([File(path=CONFIGURATION, content=init(spec))] if _leads(spec, node) else []),
        ),
        links=(*(program.command for program in programs), *cni.links(spec)),
        units=(containerd.unit(spec),),
        masked=(host.SWAP,),
    )


def archives(spec: Cluster, peer: Kubeadm, node: str) -> tuple[Artifact, ...]:
    """The image archives that a machine needs."""
    return tuple(
        _artifact(spec, image.name, image.digest, "image")
        for image in peer.images
        if _leads(spec, node) or image.name in ON_MINIONS
    )


def routes_and_images(spec: Cluster, peer: Kubeadm, node: str) -> str:
    """The standard input of prepare-for-kubeadm.sh on a machine: routes and images."""
    routes = (
        f"route {subnet} {spec.machines[neighbour].address}\n"
        for neighbour, subnet in subnets(spec).items()
        if neighbour != node
    )
    images = (f"image {archive.store_path}\n" for archive in archives(spec, peer, node))
    return "".join((*routes, *images))


def subnets(spec: Cluster) -> dict[str, IPv4Network]:
    """Node to the address range of its pods."""
    return dict(zip(spec.nodes, spec.networks.pods.subnets(new_prefix=24), strict=False))


def network(spec: Cluster, node: str) -> dict[str, Any]:
    """The CNI configuration of one node: a bridge, and addresses that the node itself assigns."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(subnets(spec)[node])}]]},
    }
    portmap = {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "backend": spec.proxy_mode,
    }
    return {"cniVersion": "1.0.0", "name": "static", "plugins": [bridge, portmap]}


def init(spec: Cluster) -> str:
    """The file for `kubeadm init`, with the spec's networks, versions and kube-proxy mode."""
    master = spec.machines[spec.control_planes[0]]
    networks = spec.networks
    return _json(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": str(master.address)},
            **_node(),
        },
        {
            **cluster_configuration(spec.versions),
            "networking": {
                "podSubnet": str(networks.pods),
                "serviceSubnet": str(networks.services),
                "dnsDomain": spec.dns_domain,
            },
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": spec.proxy_mode,
        },
    )


def join(spec: Cluster, output: str) -> str:
    """The file for `kubeadm join`; ``output`` is the output of `kubeadm init`.

    Raises a Problem where that output has no token or no hash of the authority.
    """
    token, authority = TOKEN.search(output), AUTHORITY.search(output)
    if token is None or authority is None:
        raise Problem(
            "kubeadm init does not say how to join", "see whether this kubeadm says it otherwise"
        )
    master = spec.machines[spec.control_planes[0]]
    return _json(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "token": token[1],
                    "apiServerEndpoint": f"{master.address}:6443",
                    "caCertHashes": [authority[1]],
                }
            },
            **_node(),
        }
    )


def _node() -> dict[str, Any]:
    """The runtime's socket, and time limits that even a busy host does not reach.

    The limits do not slow kubeadm down, since none of them is a pause.
    """
    limits = ("controlPlaneComponentHealthCheck", "kubeletHealthCheck", "kubernetesAPICall")
    more = ("etcdAPICall", "tlsBootstrap", "discovery")
    return {
        "nodeRegistration": {"criSocket": f"unix://{containerd.SOCKET}"},
        "timeouts": dict.fromkeys((*limits, *more), "30m0s"),
    }


def _leads(spec: Cluster, node: str) -> bool:
    """Whether `kubeadm init` runs on this node."""
    return node in spec.control_planes


def _artifact(spec: Cluster, name: str, digest: str, kind: Any) -> Artifact:
    """A file of this computer's artifact store, to be fetched from the lab's mirror."""
    return Artifact(
        name=name,
        version=spec.versions.kubernetes,
        kind=kind,
        sha256=digest,
        urls=(f"{spec.artifacts.mirror}/sha256/{digest}",),
    )


def _json(*documents: Mapping[str, Any]) -> str:
    """The documents as one YAML stream; each document is written as JSON."""
    return "---\n".join(json.dumps(document, indent=1) + "\n" for document in documents)
