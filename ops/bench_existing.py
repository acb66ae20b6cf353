"""Compares machines that exist already with machines that the default stack makes itself.

Both times are of one run. For the second one, the lab makes the same machines without a cluster;
then another stack takes them as machines that somebody else made.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.connection import LibvirtConnection, enter
from ops.bench_lab import BenchLab, Update, bench_lab, default_stack, described, judged
from ops.display import path_table
from probe.access import Access
from spec.configuration import CLUSTER

STACK = "bench-existing"
WANTED = 0.75
"""The largest wanted ratio of an update on machines that exist to one that makes machines."""

OF_MACHINES = ("address", "roles")
"""The settings of the default stack's machines that apply to machines that exist, too."""

EMPTY = "rm -rf /opt/containerd /var/lib/containerd"
"""Removes the images of pods that the lab's base image has and other machines do not have."""


def bench_existing(console: Console) -> None:
    """Bring the default stack up in both ways and print the times as ratios."""
    with bench_lab() as lab:
        made = lab.update()
        lab.run("down", "--keep-lab")  # also removes what the lab offered to the stack
        where = lab.prepare()
        lab.boot(where)
        access = lab.access()
        for name in access.machines:
            lab.run("ssh", name, "--", EMPTY)
        with agent(access.ssh_key), existing(lab, where, access) as stack, lab.priority():
            taken = stack.update()
    console.print(table(made, taken))
    for update, machines in ((made, "new machines"), (taken, "machines that exist")):
        console.print(path_table(update.path, f"what the update of {machines} waited for"))


def table(made: Update, taken: Update) -> Table:
    """The table that compares both updates."""
    shown = Table(title="the default stack, on machines that it makes and on those that exist")
    for title in ("what", "seconds", "ratio"):
        shown.add_column(title, justify="left" if title == "what" else "right")
    shown.add_row("up, with new machines", f"{made.seconds:.0f}", "")
    after_boot = made.seconds - made.boot
    shown.add_row("of it after their boot", f"{after_boot:.0f}", "")
    ratio = judged(taken.seconds / made.seconds, WANTED)
    shown.add_row("up, on machines that exist", f"{taken.seconds:.0f}", ratio)
    return shown


def configuration_of(access: Access) -> dict[str, Any]:
    """The configuration of the default stack for machines that exist."""
    config = default_stack()
    cluster = config[CLUSTER]
    cluster["machines"] = {
        name: {key: value for key, value in machine.items() if key in OF_MACHINES}
        for name, machine in cluster["machines"].items()
    }
    cluster["hypervisor"] = {
        "kind": "existing",
        "host_keys": {machine.address: machine.host_key for machine in access.machines.values()},
    }
    return config


@contextmanager
def existing(lab: BenchLab, where: LibvirtConnection, access: Access) -> Iterator[BenchLab]:
    """A stack on the lab's machines; ``./hardway down`` runs at the end in any case."""
    # Their store has the artifacts of the lab's base image, so none is brought meanwhile.
    stack = BenchLab(lab.folder, STACK, enter(where))
    with described(stack, configuration_of(access), "down", "--keep-lab"):
        yield stack


@contextmanager
def agent(private_key: str) -> Iterator[None]:
    """An SSH agent that has this key, and that processes started meanwhile use."""
    with tempfile.TemporaryDirectory(prefix="hardway-agent-") as folder:
        socket = Path(folder, "agent")
        command = ["ssh-agent", "-D", "-a", os.fspath(socket)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        before = os.environ.get("SSH_AUTH_SOCK")
        try:
            running.stdout.readline()  # it prints its variables once it listens
            os.environ["SSH_AUTH_SOCK"] = os.fspath(socket)
            subprocess.run(["ssh-add", "-q", "-"], input=private_key, text=True, check=True)
            yield
        finally:
            os.environ.pop("SSH_AUTH_SOCK", None)
            if before is not None:
                os.environ["SSH_AUTH_SOCK"] = before
            running.terminate()
            running.wait()
            running.stdout.close()
