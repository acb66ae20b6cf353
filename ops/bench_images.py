"""Measures ``images load``: 100 MiB onto all nodes, beside the same onto a single node."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.oci import write_archive
from ops.bench_lab import judged

SIZE = 100
"""MiB of the image, in a single layer."""
ROUNDS = 3
"""How often each is measured, in turn, so that a busy moment meets both."""
MOST = 1.3
"""The ratio up to which loading onto several nodes counts as loading onto them at once."""

Command = Callable[..., str]
"""Runs ``./hardway`` with arguments; raises an exception where it fails."""


def bench_images(
    console: Console, command: Command, nodes: Sequence[str], architecture: str, size: int = SIZE
) -> float:
    """Print how long an image takes onto all nodes and onto the last of them; return the ratio.

    Each time it is another image of bytes that cannot be compressed, since a node that has an image
    gets nothing, and it is removed afterwards.
    """
    seconds: dict[str, list[float]] = {"all": [], "alone": []}
    with tempfile.TemporaryDirectory(prefix="hardway-bench-") as folder:
        for number in range(ROUNDS):
            for which, chosen in (("alone", ["--machine", nodes[-1]]), ("all", [])):
                name = f"docker.io/library/bench-{which}:{number}"
                archive = _image(Path(folder), name, architecture, size)
                started = time.perf_counter()
                command("images", "load", str(archive), *chosen)
                seconds[which].append(time.perf_counter() - started)
                command("images", "remove", name)
    several, alone = (statistics.median(seconds[which]) for which in ("all", "alone"))
    ratio = several / alone
    table = Table(title=f"images load, {size} MiB, the median of {ROUNDS}")
    for title in ("onto", "seconds", "ratio"):
        table.add_column(title, justify="left" if title == "onto" else "right")
    table.add_row("a single node", f"{alone:.1f}", "")
    table.add_row(f"all {len(nodes)} nodes", f"{several:.1f}", judged(ratio, MOST))
    console.print(table)
    return ratio


def _image(folder: Path, name: str, architecture: str, size: int) -> Path:
    """The archive of an image with new content."""
    program, archive = folder / "content", folder / "image.tar"
    with program.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(2**20))
    write_archive(
        program, archive, name="content", reference=name, architecture=architecture, user="1:1"
    )
    return archive
