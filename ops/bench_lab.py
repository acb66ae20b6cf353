"""A lab of ``bench``'s own with a stack in it, and nothing left of it afterwards."""

import asyncio
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lab import namespace
from lab.cache import Cache
from lab.libvirt import LibvirtConnection
from lab.offer import Phases, prepare_lab
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.stack import offer_path
from lab.watch import FirstBootWatch
from ops import critical_path
from ops.display import progress
from ops.lifecycle import domains
from ops.reach import kept_access
from ops.stacks import read_cluster
from probe.access import Access
from spec.cluster import Cluster
from spec.configuration import CLUSTER, configuration
from spec.offer import read_offer, with_offer
from spec.resource_names import machine_of, owner

T = TypeVar("T")

STACK = "bench"

AFTER_BOOT = "urn:pulumi:*::hardway::**::*-artifacts"
"""The first step of each machine behind its boot; what comes after it is excluded with it."""


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
        ready = [one.end for name, one in self.spans.items() if name != owner(name, "ready")]
        return max(ready) - self._began

    def joined(self, machine: str) -> float:
        """From the first resource until a machine has carried out its last step."""
        steps = [one.end for name, one in self.spans.items() if machine_of(name, [machine])]
        return max(steps) - self._began

    @property
    def _began(self) -> float:
        return min(one.start for one in self.spans.values())


class BenchLab:
    """The door, with a state and a lab of its own."""

    def __init__(self, folder: Path) -> None:
        self.paths = LabPaths(
            name=STACK, state=folder / "hardway" / STACK, run=Path("/run/hardway", STACK)
        )
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")},
            "XDG_STATE_HOME": str(folder),
            "HARDWAY_LAB": STACK,
            "PULUMI_STACK": STACK,
        }
        self.file = PROJECT / f"Pulumi.{STACK}.yaml"

    def describe(self, more: Mapping[str, Any]) -> None:
        """Write the stack's file: the default stack's, with more machines."""
        config = configuration(PROJECT / "Pulumi.dev.yaml")
        config[CLUSTER]["machines"].update(more)
        # A block a key: Pulumi adds its salt behind them, where the door finds it again.
        self.file.write_text(yaml.safe_dump({"config": config}))

    def run(self, *words: str) -> str:
        """What ``./hardway`` prints. Raises a Problem where it fails."""
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
        """Bring the stack up."""
        self.run("up")
        log = self.paths.logs / f"events-{STACK}.json"
        found = critical_path.spans(critical_path.read_events(log))
        path = critical_path.critical_path(found, critical_path.dependencies(self._state()))
        return Update({one.name: one for one in found.values()}, path)

    # -- its machines alone --------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """What the stack's file describes."""
        return read_cluster(STACK)

    def prepare(self) -> LibvirtConnection:
        """Make the lab ready for machines, as ``up`` does it first."""
        return prepare_lab(STACK, self.cluster, self.paths, Cache(), progress(), Phases())

    def boot(self, host: LibvirtConnection) -> Cluster:
        """Make the stack's machines and wait for their first boot; none of them holds anything.

        By the same program as ever, of which only the steps behind the boot are left out. Returns
        the cluster that they are for, with what the lab offers it.
        """
        spec = self.cluster
        watch = FirstBootWatch.running(self.paths, host, domains(spec), progress())
        with progress().task(f"booting {len(spec.machines)} machines"), watch:
            self.run(
                *("pulumi", "up", "--yes", "--skip-preview"),
                *("--exclude", AFTER_BOOT, "--exclude-dependents"),
            )
        return with_offer(spec, read_offer(offer_path(self.paths, STACK)))

    def access(self) -> Access:
        """What opens the machines, before anything of a cluster runs on them."""
        return kept_access(self.cluster, self._state("--show-secrets"))

    @staticmethod
    def inside(host: LibvirtConnection, job: Coroutine[Any, Any, T]) -> T:
        """Run a job where the machines answer, and return what comes of it.

        A thread alone goes there: what is in the lab's network namespace is ended with the lab. The
        job is cancelled where this process is interrupted.
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
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
            raise
        finally:
            thread.join()

    def _state(self, *words: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.run("pulumi", "stack", "export", *words))
        return state


@contextmanager
def bench_lab() -> Iterator[BenchLab]:
    """A lab with the default stack's description; whatever happens, ``down`` is its end."""
    with tempfile.TemporaryDirectory(prefix="hardway-bench-") as folder:
        lab = BenchLab(Path(folder))
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
