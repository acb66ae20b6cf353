"""A temporary lab with a stack for ``bench``; nothing of it remains afterwards."""

import asyncio
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lab import libvirt, namespace, qemu
from lab.cache import Cache
from lab.connection import LibvirtConnection, virsh
from lab.offer import Phases, prepare_lab
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.stack import offer_path
from lab.watch import FirstBootWatch
from ops import critical_path
from ops.display import progress
from ops.lifecycle import domains, leading_domains
from ops.reach import kept_access
from ops.stacks import read_cluster
from probe.access import Access
from spec.cluster import Cluster
from spec.configuration import CLUSTER, configuration
from spec.hypervisor import domain_name
from spec.offer import read_offer, with_offer
from spec.resource_names import machine_of, owner

T = TypeVar("T")

STACK = "bench"

AFTER_BOOT = "urn:pulumi:*::hardway::**::*-identity"
"""Pattern of each machine's first step after its boot, to exclude it with all its dependents."""


@dataclass(frozen=True)
class Update:
    """The times of one update."""

    spans: Mapping[str, critical_path.Span]
    """Resource name to its time span."""
    path: tuple[critical_path.Span, ...]
    """The critical path."""

    @property
    def seconds(self) -> float:
        """Seconds from the first resource to the last condition."""
        return max(span.end for span in self.spans.values()) - self._began

    @property
    def boot(self) -> float:
        """Seconds from the first resource until the last new machine has booted and answers."""
        ready = [span.end for name, span in self.spans.items() if name != owner(name, "ready")]
        return max(ready) - self._began

    def joined(self, machine: str) -> float:
        """Seconds from the first resource until a machine has finished its last step."""
        steps = [span.end for name, span in self.spans.items() if machine_of(name, [machine])]
        return max(steps) - self._began

    @property
    def _began(self) -> float:
        return min(span.start for span in self.spans.values())


class BenchLab:
    """Runs ``./hardway`` on a stack, with a separate state directory and lab.

    ``folder`` holds the state directory. ``enter`` is the command that runs a program on the
    computer from which the stack is used, if that is not this computer.
    """

    def __init__(self, folder: Path, stack: str = STACK, enter: Sequence[str] = ()) -> None:
        self.folder = folder
        self.stack = stack
        self._enter = enter
        self.paths = LabPaths(
            name=STACK, state=folder / "hardway" / STACK, run=Path("/run/hardway", STACK)
        )
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")},
            "XDG_STATE_HOME": str(folder),
            "HARDWAY_LAB": STACK,
            "PULUMI_STACK": stack,
        }
        self.file = PROJECT / f"Pulumi.{stack}.yaml"

    def describe(self, more: Mapping[str, Any]) -> None:
        """Write the stack's file: a copy of the default stack's, plus the machines ``more``."""
        config = default_stack()
        config[CLUSTER]["machines"].update(more)
        self.write(config)

    def write(self, config: Mapping[str, Any]) -> None:
        """Write the stack's file with this configuration."""
        # Block style: Pulumi appends the salt as a line of its own, where lab.stack finds it.
        self.file.write_text(yaml.safe_dump({"config": config}))

    def run(self, *arguments: str) -> str:
        """Run ``./hardway`` and return its output. Raises a Problem where it fails."""
        done = subprocess.run(
            [*self._enter, str(PROJECT / "hardway"), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(
                f"./hardway {' '.join(arguments)} failed: {(done.stderr or done.stdout)[-2000:]}",
                "see whether ./hardway up brings up the default stack here, and measure again",
            )
        return done.stdout

    def update(self, *options: str) -> Update:
        """Bring the stack up, with these options of ``up``, and return the times of the update."""
        self.run("up", *options)
        log = self.paths.logs / f"events-{self.stack}.json"
        spans = critical_path.spans(critical_path.read_events(log))
        path = critical_path.critical_path(spans, critical_path.dependencies(self._state()))
        return Update({span.name: span for span in spans.values()}, path)

    def lose(self, machine: str) -> None:
        """Take a machine away with its disk, as where its host is lost. Raises a Problem."""
        host = libvirt.find(self.paths)
        if host is None:
            raise Problem("the lab's libvirt does not answer", "measure again")
        domain = domain_name(self.cluster.name, machine)
        virsh(host, "destroy", domain)
        virsh(host, "undefine", domain)
        virsh(host, "vol-delete", "--pool", host.pool, f"{domain}.qcow2")

    # -- machines without a cluster ------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The cluster in the stack's file."""
        return read_cluster(self.stack)

    def prepare(self) -> LibvirtConnection:
        """Prepare the lab for machines, as ``up`` does."""
        return prepare_lab(self.stack, self.cluster, self.paths, Cache(), progress(), Phases())

    def boot(self, host: LibvirtConnection) -> Cluster:
        """Make the stack's machines, without a cluster on them, and wait for their first boot.

        Runs the usual Pulumi program without the steps after the boot. Returns the cluster's spec,
        completed by the lab's offer.
        """
        spec = self.cluster
        watch = FirstBootWatch.running(self.paths, host, domains(spec), progress())
        with progress().task(f"booting {len(spec.machines)} machines"), watch:
            self.run(
                *("pulumi", "up", "--yes", "--skip-preview"),
                *("--exclude", AFTER_BOOT, "--exclude-dependents"),
            )
        return with_offer(spec, read_offer(offer_path(self.paths, self.stack)))

    def priority(self) -> AbstractContextManager[None]:
        """Give machines the priority that an update gives them, for what is compared with one."""
        return qemu.first(self.paths.libvirt, leading_domains(self.cluster))

    def access(self) -> Access:
        """The access to the machines, also before a cluster runs on them."""
        return kept_access(self.cluster, self._state("--show-secrets"))

    @staticmethod
    def inside(host: LibvirtConnection, job: Coroutine[Any, Any, T]) -> T:
        """Run a job in the network namespace of the machines and return its result.

        Only a thread enters the namespace, since processes in it end with the lab. The job is
        cancelled where this process is interrupted.
        """
        outcome: Future[T] = Future()
        loop = asyncio.new_event_loop()
        task = loop.create_task(job)

        def work() -> None:
            try:
                namespace.enter(host.namespace)
                outcome.set_result(loop.run_until_complete(task))
            except BaseException as error:
                outcome.set_exception(error)
            finally:
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        thread = threading.Thread(target=work, name="inside-the-lab")
        try:
            thread.start()
            return outcome.result()
        except BaseException:
            with suppress(RuntimeError):  # the job has ended and its event loop is closed
                loop.call_soon_threadsafe(task.cancel)
            raise
        finally:
            thread.join()

    def _state(self, *arguments: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.run("pulumi", "stack", "export", *arguments))
        return state


def judged(ratio: float, most: float) -> str:
    """The ratio as text, which also says where it is more than ``most``."""
    return f"{ratio:.2f}" + ("" if ratio <= most else f" (more than {most})")


def default_stack() -> dict[str, Any]:
    """The configuration of the default stack."""
    return configuration(PROJECT / "Pulumi.dev.yaml")


@contextmanager
def bench_lab() -> Iterator[BenchLab]:
    """A lab with a copy of the default stack; ``./hardway down`` runs at the end in any case."""
    with tempfile.TemporaryDirectory(prefix="hardway-bench-") as folder:
        with described(BenchLab(Path(folder)), default_stack(), "down") as lab:
            yield lab


@contextmanager
def described(lab: BenchLab, config: Mapping[str, Any], *down: str) -> Iterator[BenchLab]:
    """A stack with this configuration; ``./hardway`` with ``down`` runs at the end in any case.

    Raises a Problem where the stack's file is there already.
    """
    if lab.file.exists():
        raise Problem(f"{lab.file.name} is there already", "move it away, and measure again")
    try:
        lab.write(config)
        yield lab
    finally:
        try:
            lab.run(*down)
        finally:
            lab.file.unlink(missing_ok=True)
