"""Measures the default stack on real machines in a separate lab."""

import statistics
import time

from rich.console import Console
from rich.table import Table

from ops.bench_idle import bench_idle
from ops.bench_images import bench_images
from ops.bench_lab import BenchLab, bench_lab

PREVIEWS = 3
ADDED = "minion3"
MORE = {ADDED: {"address": "192.168.1.13"}}
"""The minion that is added."""


def bench_machines(console: Console) -> None:
    """Bring the default stack up, leave it idle, add a minion, and print the times as ratios."""
    with bench_lab() as lab:
        first = lab.update()
        previews = [_preview(lab) for _ in range(PREVIEWS)]
        cluster = lab.cluster
        bench_images(console, lab.run, cluster.nodes, cluster.architecture)
        bench_idle(
            console,
            lambda machine, script: lab.run("ssh", machine, "--", script),
            cluster.name,
            cluster.machines,
            lab.paths.libvirt,
        )
        lab.describe(MORE)
        added = lab.update()
    table = Table(title="the default stack")
    for title in ("what", "seconds", "compared with", "ratio"):
        table.add_column(title, justify="left" if title in ("what", "compared with") else "right")
    joined = added.joined(ADDED)
    table.add_row("boot of three machines", f"{first.boot:.0f}", "", "")
    table.add_row("up, all conditions true", *_ratio(first.seconds, first.boot, "their boot"))
    table.add_row("boot of one more minion", f"{added.boot:.0f}", "", "")
    table.add_row("its boot and its join", *_ratio(joined, added.boot, "its boot"))
    table.add_row(
        "one more minion, all conditions true",
        *_ratio(added.seconds, joined, "its boot and its join"),
    )
    table.add_row("an empty preview", *_ratio(statistics.median(previews), first.seconds, "up"))
    console.print(table)
    for title, update in (("up", first), ("one more minion", added)):
        console.print(f"what was waited for, {title}:")
        for span in update.path:
            console.print(f"  {span.name:28} {span.seconds:5.0f} s")


def _preview(lab: BenchLab) -> float:
    """The seconds of ``./hardway pulumi preview``, as a user runs it."""
    started = time.perf_counter()
    lab.run("pulumi", "preview", "--expect-no-changes")
    return time.perf_counter() - started


def _ratio(seconds: float, base: float, name: str) -> tuple[str, str, str]:
    return f"{seconds:.1f}", name, f"{seconds / base:.2f}"
