"""The command ``bench``, which prints times as ratios within one run: computers differ."""

import json
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab.paths import PROJECT
from ops.bench_existing import bench_existing
from ops.bench_kubeadm import bench_kubeadm
from ops.bench_living import bench_living
from ops.bench_machines import bench_machines
from ops.bench_refresh import bench_refresh
from ops.display import stdout
from plan import render
from plan.cluster import cluster_plan
from plan.model import Source
from preview.kinds import MACHINE
from preview.recording import recorded
from spec.artifacts import artifact_rows
from spec.cluster import parse
from spec.versions import versions_for

SIZES = (5, 50, 500)


class Peer(StrEnum):
    """An installer that the default stack is compared with."""

    KUBEADM = "kubeadm"


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command("bench", rich_help_panel="Development")(bench)


def bench(
    machines: Annotated[
        bool, typer.Option("--machines", help="Also bring up the default stack, in its own lab.")
    ] = False,
    existing: Annotated[
        bool,
        typer.Option("--existing", help="Compare it with machines that exist already instead."),
    ] = False,
    living: Annotated[
        bool, typer.Option("--living", help="Measure changes of a living cluster instead.")
    ] = False,
    peer: Annotated[
        Peer | None,
        typer.Option("--peer", help="Compare the default stack with this installer instead."),
    ] = None,
) -> None:
    """Print what things cost, as ratios within this run.

    Planning clusters of 5, 50 and 500 machines, how much the state keeps of each machine of the
    default stack, and asking 4 and 20 machines that answer late what they hold; with `--machines`
    also an update, compared with what the same machines need just to boot, an empty preview, one
    minion more, an image onto all nodes and onto a single one, and what the three idle machines
    take of this computer in ten minutes.

    `--existing` brings the default stack up on new machines, and then on machines of the same size
    that exist already, which have booted and have no images of pods.

    `--living` brings the default stack up with the Kubernetes minor version before, upgrades it,
    and adds two members of etcd and then a minion; then another machine takes a member's place, and
    a member that is lost with its disk is made anew.

    `--peer kubeadm` brings up the default stack and, on new machines of the same size from the same
    base image, a cluster by `kubeadm init` and `kubeadm join`, one after the other. Both clocks
    begin once the machines have booted and wait for a login; for kubeadm the images are imported
    and the runtime runs before that. Beside each is how busy this computer was.

    Examples: `./hardway bench` takes a minute, `./hardway bench --machines` most of an hour,
    `./hardway bench --living`, too, `./hardway bench --existing` and
    `./hardway bench --peer kubeadm` half of one
    """
    if existing:
        bench_existing(stdout)
        return
    if living:
        bench_living(stdout)
        return
    if peer is Peer.KUBEADM:
        bench_kubeadm(stdout)
        return
    _table("spec, certificates and plan", _planned, "MiB of text")
    _table("the program, declared to a recorder in the engine's place", _declared, "resources")
    _inputs()
    bench_refresh(stdout)
    if machines:
        bench_machines(stdout)


Measure = Callable[[int], tuple[float, float]]
"""A measurement: takes a number of machines; returns its seconds and the amount of its output."""


def _table(title: str, measure: Measure, amount: str) -> None:
    table = Table(title=title)
    for column in ("machines", "seconds", "ms a machine", "to the smallest", amount):
        table.add_column(column, justify="right")
    measure(SIZES[0])  # fills the caches of the data files
    smallest = None
    for size in SIZES:
        seconds, much = measure(size)
        mean = seconds / size
        smallest = smallest or mean
        table.add_row(
            *(str(size), f"{seconds:.2f}", f"{mean * 1000:.1f}", f"{mean / smallest:.2f}"),
            f"{much:.1f}".removesuffix(".0"),
        )
    stdout.print(table)


def _planned(size: int) -> tuple[float, float]:
    """Plan and render a cluster; return the seconds and the MiB of text."""
    started = time.perf_counter()
    plan = cluster_plan(parse(description(size), name="bench"))
    steps = [step for node in plan.nodes.values() for step in node.steps]
    text = sum(len(render.text(step, _placeholder)) for step in steps)
    return time.perf_counter() - started, text / 2**20


def _declared(size: int) -> tuple[float, float]:
    """Declare a cluster as a preview without a host does; return seconds and resource count."""
    with tempfile.TemporaryDirectory() as folder:
        for entry in PROJECT.iterdir():
            if not entry.name.startswith((".", "Pulumi.bench")):
                (Path(folder) / entry.name).symlink_to(entry)
        config = {"config": {"hardway:cluster": description(size)}}
        (Path(folder) / "Pulumi.bench.yaml").write_text(json.dumps(config))
        started = time.perf_counter()
        declared = recorded(Path(folder), "bench").registrations
        return time.perf_counter() - started, sum(resource.custom for resource in declared)


def _inputs() -> None:
    """Print how many KiB of inputs the resources of each machine of the default stack have.

    They are the inputs as the state has them, after the providers' checks. The engine writes them
    twice into the state, as inputs and as outputs, and writes the whole state after each resource.
    What a guard compares stands in its outputs alone. Keys are in the clear here and encrypted in a
    state.
    """
    table = Table(title="inputs of a machine's resources in the default stack")
    for column in ("machine", "resources", "KiB"):
        table.add_column(column, justify="right")
    registrations = recorded(PROJECT, "dev").registrations
    machines = [resource.name for resource in registrations if resource.kind == MACHINE]
    for machine in machines:
        own = [
            resource
            for resource in registrations
            if resource.custom and resource.name.startswith(f"{machine}-")
        ]
        size = sum(len(json.dumps(resource.inputs)) for resource in own)
        table.add_row(machine, str(len(own)), f"{size / 2**10:.0f}")
    stdout.print(table)


def description(size: int) -> dict[str, Any]:
    """A cluster with three control planes behind a virtual IP and minions up to ``size``."""
    network = IPv4Network("10.0.0.0/20")
    machines = {
        f"m{number}": {
            "address": str(network[10 + number]),
            "roles": "eai" if number < 3 else "i",
            "memory": 4096,
        }
        for number in range(size)
    }
    versions = versions_for()
    digests = {f"{row.name}-{row.version(versions)}": "0" * 64 for row in artifact_rows()}
    return {
        "networks": {"machines": str(network), "pods": "10.128.0.0/12", "services": "10.96.0.0/16"},
        "endpoint": {"kind": "virtual-ip", "address": str(network[5])},
        "machines": machines,
        "artifacts": {"digests": digests},
    }


def _placeholder(source: Source) -> str:
    return f"{source}\n"
