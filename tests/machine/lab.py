"""A lab of the tests' own with a stack in it, used through the door as a person would."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import libvirt, packages
from lab.cache import Cache
from lab.host import PACKAGES_FOR_LIBVIRT_ELSEWHERE
from lab.offer import Phases, machine_image
from lab.paths import PROJECT, LabPaths, lab_paths
from lab.progress import PlainProgress
from ops.critical_path import read_events
from probe.access import Access
from spec.cluster import parse

STACK = "mt"

BUSY = "TLS handshake timeout"
"""What kubectl says of an API server that has no time for a connection; nothing was sent then."""

PATIENCE = 600
"""Seconds for which a busy API server is asked again."""

at_length = pytest.mark.skipif(
    os.environ.get("HARDWAY_TEST_ALL") != "true", reason="the whole story: make test-all"
)


class Lab:
    """A lab with its state in a folder of its own; whatever is said through it is kept."""

    def __init__(self, folder: Path, stack: str = STACK) -> None:
        self.folder = folder
        self.stack = stack
        self.program = PROJECT
        """The checkout whose ``./hardway`` is used."""
        self.enter: list[str] = []
        """The command that runs a program on the lab's host, where that is a host of its own."""
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "HARDWAY_LAB": f"m{os.getpid() % 10**6}",
            "PULUMI_STACK": stack,
        }
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "KUBECONFIG"):
            self.environment.pop(name, None)
        self.transcript = ""

    @property
    def paths(self) -> LabPaths:
        saved = {name: os.environ.get(name) for name in ("XDG_STATE_HOME", "HARDWAY_LAB")}
        os.environ.update({name: self.environment[name] for name in saved})
        try:
            return lab_paths()
        finally:
            for name, value in saved.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    # -- the stack's description ---------------------------------------------------------------

    @property
    def file(self) -> Path:
        return self.program / f"Pulumi.{self.stack}.yaml"

    def describe(self, cluster: dict[str, Any]) -> None:
        """Write the stack's file, of machines that reach nothing outside of the lab."""
        # Earlier programs have no way out, and other hypervisors another one.
        if self.program == PROJECT and "hypervisor" not in cluster:
            cluster = {**cluster, "networks": {"outside": False, **cluster["networks"]}}
        text = yaml.safe_dump({"config": {"hardway:cluster": cluster}}, sort_keys=False)
        self.file.write_text(text)

    @property
    def cluster(self) -> dict[str, Any]:
        value: dict[str, Any] = yaml.safe_load(self.file.read_text())["config"]["hardway:cluster"]
        return value

    # -- the door ------------------------------------------------------------------------------

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``./hardway`` and come back at once."""
        return subprocess.Popen(
            [*self.enter, str(self.program / "hardway"), *arguments],
            env=self.environment,
            cwd=self.program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_up(self) -> "RunningUpdate":
        """Start ``./hardway up`` for a test that meddles while it runs."""
        log = self.paths.logs / f"events-{self.stack}.json"
        log.unlink(missing_ok=True)  # what an earlier update began is no sign of this one
        return RunningUpdate(self.start("up"), log)

    def hardway(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        secret = "--show-secrets" in arguments or arguments == ("kubeconfig",)
        return self._run([str(self.program / "hardway"), *arguments], ok=ok, secret=secret)

    def prepare_image(self, *, boots_itself: bool) -> None:
        """Make the base image here, for an ``up`` on a host that reaches no mirror of Debian's."""
        spec = parse(self.cluster, name=self.stack)
        progress = PlainProgress()
        packages.install(PACKAGES_FOR_LIBVIRT_ELSEWHERE, self.paths, progress)
        machine_image(spec, self.paths, Cache(), progress, Phases(), boots_itself=boots_itself)

    def make(self, target: str) -> None:
        """``make up`` and ``make down``, as the README has them."""
        self._run(["make", "--no-print-directory", "--directory", str(self.program), target])

    def _run(
        self, command: list[str], *, ok: bool = True, secret: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.enter, *command],
            env=self.environment,
            # Earlier versions of the program take their modules from the current folder first.
            cwd=self.program,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = "(secrets)\n" if secret else done.stdout
        self.transcript += f"$ {' '.join(command)}\n{printed}{done.stderr}\n"
        if ok:
            assert done.returncode == 0, f"{command}:\n{printed[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def pulumi(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.hardway("pulumi", *arguments, ok=ok)

    def kubectl(self, *arguments: str, ok: bool = True) -> str:
        """What ``kubectl`` prints. Where ``ok``, it asks again while the API server is busy."""
        end = time.monotonic() + PATIENCE
        while True:
            done = self.hardway("kubectl", *arguments, ok=False)
            if done.returncode == 0 or not ok:
                return done.stdout
            waits = BUSY in done.stderr and time.monotonic() < end
            assert waits, f"{arguments}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"

    def objects(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def on(self, node: str, command: str, *, ok: bool = True) -> str:
        """What a command prints on a machine."""
        return self.hardway("ssh", node, "--", command, ok=ok).stdout

    def outputs(self) -> dict[str, Any]:
        command = ("stack", "output", "--json", "--show-secrets")
        outputs: dict[str, Any] = json.loads(self.pulumi(*command).stdout)
        return outputs

    def access(self) -> Access:
        return Access.from_outputs(self.outputs())

    def changes(self, *options: str) -> dict[str, str]:
        """Name to operation of what a preview would do."""
        preview = json.loads(self.pulumi("preview", "--json", *options).stdout)
        return {
            step["urn"].rpartition("::")[2]: step["op"]
            for step in preview["steps"]
            if step["op"] not in ("same", "refresh")
        }

    # -- its libvirt ---------------------------------------------------------------------------

    def libvirt(self) -> libvirt.LibvirtConnection:
        connection = libvirt.find(self.paths)
        assert connection is not None
        return connection

    def virsh(self, *arguments: str) -> str:
        return libvirt.virsh(self.libvirt(), *arguments)

    def inside(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program where the machines' network is."""
        return subprocess.run(
            [*self.enter, *libvirt.enter(self.libvirt()), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    # -- the end -------------------------------------------------------------------------------

    def close(self, *, failed: bool) -> None:
        """End everything; of a failure keep what ``diagnose`` finds."""
        try:
            if failed:
                folder = Path(os.environ.get("HARDWAY_DIAGNOSES", self.folder))
                folder.mkdir(parents=True, exist_ok=True)
                self.hardway("diagnose", "--output", str(folder / f"{self.stack}.tar.gz"), ok=False)
                print(f"diagnosis: {folder / self.stack}.tar.gz")
        finally:
            self.hardway("down", ok=False)
            self.file.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "state", ignore_errors=True)
        if failed:
            print(self.transcript[-60000:])


class RunningUpdate:
    """An ``up`` under way."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self._printed = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._printed += line

    def begins(self, resource: str, operation: str, seconds: float = 3600) -> None:
        """Wait until it does something to a resource, given as a pattern of its name."""
        end = time.monotonic() + seconds
        while not self._has_begun(resource, operation):
            assert self.process.poll() is None, f"it ended before {resource}:\n{self._printed}"
            assert time.monotonic() < end, f"it never came to {resource}:\n{self._printed}"
            time.sleep(0.2)

    def _has_begun(self, resource: str, operation: str) -> bool:
        events = read_events(self._log) if self._log.is_file() else []
        begun = [event.get("resourcePreEvent", {}).get("metadata") for event in events]
        return any(
            re.fullmatch(resource, metadata["urn"].rpartition("::")[2])
            and metadata["op"] == operation
            for metadata in begun
            if metadata
        )

    def printed(self) -> str:
        """All that it has printed, once it has ended."""
        self.process.wait()
        self._reader.join()
        return self._printed


@contextmanager
def meanwhile(work: Callable[[threading.Event], None], *, threads: int = 1) -> Iterator[None]:
    """Run work in threads while the context lasts; an event says to the work that it is over."""
    over = threading.Event()
    running = [threading.Thread(target=work, args=(over,)) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()


def brought_up(
    stack: str,
    cluster: dict[str, Any],
    factory: pytest.TempPathFactory,
    session: pytest.Session,
    up: Callable[[Lab], object],
) -> Iterator[Lab]:
    """The lab of a module's tests: brought up by ``up``, ended with them; failures are kept."""
    lab = Lab(factory.mktemp("lab"), stack)
    lab.describe(cluster)
    before = session.testsfailed
    try:
        up(lab)
        yield lab
    except BaseException:
        before = -1
        raise
    finally:
        lab.close(failed=session.testsfailed > before)
