"""``bench``: figures as ratios within one run, since no two computers are alike."""

import time
from ipaddress import IPv4Network
from typing import Annotated

import typer
from rich.table import Table

from ops.bench_machines import bench_machines
from ops.display import stdout
from plan import render
from plan.cluster import cluster_plan
from plan.model import Source
from spec.artifacts import artifact_rows
from spec.cluster import Cluster, parse
from spec.versions import versions_for

SIZES = (5, 50, 500)


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("bench", rich_help_panel="Development")(bench)


def bench(
    machines: Annotated[
        bool, typer.Option("--machines", help="Also bring up the default stack, in its own lab.")
    ] = False,
) -> None:
    """Print what things cost, as ratios within this run.

    Planning clusters of 5, 50 and 500 machines; with `--machines` also an update, compared with
    what the same machines need just to boot, an empty preview, and one minion more.
    """
    _planning()
    if machines:
        bench_machines(stdout)


def _planning() -> None:
    table = Table(title="spec, certificates and plan")
    for title in ("machines", "seconds", "ms a machine", "to the smallest", "MiB of text"):
        table.add_column(title, justify="right")
    _measure(SIZES[0])  # fills the caches of the data files
    smallest = None
    for size in SIZES:
        seconds, text = _measure(size)
        each = seconds / size
        smallest = smallest or each
        table.add_row(
            *(str(size), f"{seconds:.2f}", f"{each * 1000:.1f}", f"{each / smallest:.2f}"),
            f"{text / 2**20:.1f}",
        )
    stdout.print(table)


def _measure(size: int) -> tuple[float, int]:
    """Seconds and bytes of text of a cluster of this size, everything rendered."""
    started = time.perf_counter()
    plan = cluster_plan(cluster(size))
    steps = [step for one in plan.nodes.values() for step in one.steps]
    text = sum(len(render.text(step, _placeholder)) for step in steps)
    return time.perf_counter() - started, text


def cluster(size: int) -> Cluster:
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
    value = {
        "networks": {"machines": str(network), "pods": "10.128.0.0/12", "services": "10.96.0.0/16"},
        "endpoint": {"kind": "virtual-ip", "address": str(network[5])},
        "machines": machines,
        "artifacts": {"digests": digests},
    }
    return parse(value, name="bench")


def _placeholder(source: Source) -> str:
    return f"{source}\n"
