"""What the default stack costs on real machines, measured in a lab of its own."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.paths import PROJECT
from lab.problem import Problem
from ops import critical_path
from ops.bench_idle import bench_idle
from spec.configuration import CLUSTER, configuration

STACK = "bench"
PREVIEWS = 3
ADDED = "minion3"
MORE = {ADDED: {"address": "192.168.1.13"}}
"""The minion that is added."""


@dataclass(frozen=True)
class Update:
    """What one update did, by name of resource."""

    spans: Mapping[str, critical_path.Span]
    path: tuple[critical_path.Span, ...]

    @property
    def seconds(self) -> float:
        """From the first resource to the last condition."""
        return max(one.end for one in self.spans.values()) - self._began

    @property
    def boot(self) -> float:
        """From the first resource until the last new machine answers, its first boot done."""
        ready = [one.end for name, one in self.spans.items() if name.endswith("-ready")]
        return max(ready) - self._began

    def joined(self, machine: str) -> float:
        """From the first resource until a machine has carried out its last step."""
        steps = [one.end for name, one in self.spans.items() if name.startswith(f"{machine}-")]
        return max(steps) - self._began

    @property
    def _began(self) -> float:
        return min(one.start for one in self.spans.values())


class _Lab:
    """The door, with a state and a lab of its own."""

    def __init__(self, folder: Path) -> None:
        self._state = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")},
            "XDG_STATE_HOME": str(folder),
            "HARDWAY_LAB": STACK,
            "PULUMI_STACK": STACK,
        }
        self.file = PROJECT / f"Pulumi.{STACK}.yaml"

    def describe(self, more: Mapping[str, Any]) -> None:
        config = configuration(PROJECT / "Pulumi.dev.yaml")
        config[CLUSTER]["machines"].update(more)
        self.file.write_text(json.dumps({"config": config}, indent=1))

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [str(PROJECT / "hardway"), *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(
                f"./hardway {' '.join(words)} failed: {(done.stderr or done.stdout)[-2000:]}",
                "see whether ./hardway up brings up the default stack here, and measure again",
            )
        return done.stdout

    def update(self) -> Update:
        self.run("up")
        log = self._state / "hardway" / STACK / "logs" / f"events-{STACK}.json"
        found = critical_path.spans(critical_path.read_events(log))
        state = json.loads(self.run("pulumi", "stack", "export"))
        path = critical_path.critical_path(found, critical_path.dependencies(state))
        return Update({one.name: one for one in found.values()}, path)

    def preview(self) -> float:
        """Seconds of ``pulumi preview`` itself, started as a person starts it."""
        started = time.perf_counter()
        self.run("pulumi", "preview", "--expect-no-changes")
        return time.perf_counter() - started


@contextmanager
def _lab() -> Iterator[_Lab]:
    with tempfile.TemporaryDirectory(prefix="hardway-bench-") as folder:
        lab = _Lab(Path(folder))
        if lab.file.exists():
            raise Problem(f"{lab.file.name} is there already", "move it away, and measure again")
        try:
            lab.describe({})
            yield lab
        finally:
            try:
                lab.run("down")
            finally:
                lab.file.unlink(missing_ok=True)


def bench_machines(console: Console) -> None:
    """Bring the default stack up, leave it idle, add a minion, and print how that compares."""
    with _lab() as lab:
        first = lab.update()
        previews = [lab.preview() for _ in range(PREVIEWS)]
        names = configuration(PROJECT / "Pulumi.dev.yaml")[CLUSTER]["machines"]
        bench_idle(
            console,
            lambda machine, script: lab.run("ssh", machine, "--", script),
            STACK,
            names,
            Path("/run/hardway") / STACK / "libvirt",
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


def _ratio(seconds: float, base: float, name: str) -> tuple[str, str, str]:
    return f"{seconds:.1f}", name, f"{seconds / base:.2f}"
