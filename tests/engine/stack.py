"""A Pulumi project in a temporary directory, run by the real CLI against a file backend."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from lab.process import attended
from tests.engine.terminal import Terminal

if TYPE_CHECKING:
    from lab.toolchain import Toolchain

PATIENCE = 600
"""Seconds after which a test that waits has failed: ten times what a busy computer needs."""

PROJECT = "name: engine\nruntime: python\n"

PRELUDE = """\
import json
from pathlib import Path

import pulumi
from pulumi import CustomTimeouts, Output, ResourceOptions
from pulumi_command import local, remote

connections = json.loads(Path("connections.json").read_text())


def to(name, proxy=None, **changes):
    if proxy is not None:
        changes["proxy"] = remote.ProxyConnectionArgs(**connections[proxy])
    return remote.ConnectionArgs(**connections[name] | changes)


"""


@dataclass(frozen=True)
class CliRun:
    """One finished run of the CLI."""

    status: int
    text: str
    events: list[dict[str, Any]]

    def logged(self) -> str:
        """All that providers and the engine logged during the run, transient messages too."""
        messages = (event.get("diagnosticEvent", {}).get("message", "") for event in self.events)
        return "\n".join(messages)

    def errors_of(self, name: str) -> str:
        """The errors of the resource with this name."""
        diagnostics = (event.get("diagnosticEvent", {}) for event in self.events)
        return "\n".join(
            diagnostic["message"]
            for diagnostic in diagnostics
            if diagnostic.get("severity") == "error"
            and diagnostic.get("urn", "").endswith(f"::{name}")
        )

    def steps(self) -> dict[str, list[str]]:
        """What was done or planned, by resource name, in order; unchanged ones are left out."""
        steps: dict[str, list[str]] = {}
        for event in self.events:
            data = event.get("resourcePreEvent", {}).get("metadata")
            if data and data["op"] != "same" and not data["type"].startswith("pulumi:"):
                steps.setdefault(data["urn"].rpartition("::")[2], []).append(data["op"])
        return steps


class EngineStack:
    """A project with the stack ``test``; ``write`` sets its program."""

    def __init__(self, directory: Path, pulumi: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self._pulumi = pulumi
        self._process: subprocess.Popen[str] | None = None
        self._terminal: Terminal | None = None
        self._environment = {
            **environment,
            "PULUMI_BACKEND_URL": f"file://{directory}",
            "PULUMI_CONFIG_PASSPHRASE": "engine",
            "PULUMI_DEBUG_COMMANDS": "true",  # makes --event-log known
        }

    def write(self, program: str, **connections: object) -> None:
        """Set the program; ``to("name")`` in it is the connection given by that name."""
        if connections or not (self.directory / "connections.json").exists():
            (self.directory / "connections.json").write_text(json.dumps(connections))
        (self.directory / "__main__.py").write_text(PRELUDE + dedent(program))

    def init(self) -> None:
        subprocess.run(
            [self._pulumi, "stack", "init", "test", "--non-interactive"],
            cwd=self.directory,
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def up(
        self, *options: str, fails: bool = False, environment: Mapping[str, str] | None = None
    ) -> CliRun:
        options = ("up", "--yes", "--skip-preview", *options)
        return self._run(*options, fails=fails, environment=environment)

    def preview(
        self, *options: str, fails: bool = False, environment: Mapping[str, str] | None = None
    ) -> CliRun:
        return self._run("preview", *options, fails=fails, environment=environment)

    def preview_as_json(self, *, environment: Mapping[str, str] | None = None) -> str:
        """The preview as one document."""
        done = subprocess.run(
            [self._pulumi, "preview", "--json", "--stack", "test"],
            cwd=self.directory,
            env={**self._environment, **(environment or {})},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def set_config(self, *arguments: str) -> None:
        subprocess.run(
            [self._pulumi, "config", "set", "--stack", "test", *arguments],
            cwd=self.directory,
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def export(self) -> str:
        """The state with its secrets in the clear."""
        done = subprocess.run(
            [self._pulumi, "stack", "export", "--show-secrets", "--stack", "test"],
            cwd=self.directory,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def take(self, state: str) -> None:
        """Put an exported state in the place of the stack's own."""
        subprocess.run(
            [self._pulumi, "stack", "import", "--stack", "test"],
            cwd=self.directory,
            env=self._environment,
            check=True,
            capture_output=True,
            input=state,
            text=True,
        )

    def destroy(self, *, environment: Mapping[str, str] | None = None) -> CliRun:
        return self._run("destroy", "--yes", "--skip-preview", environment=environment)

    def start_up(self, *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ``pulumi up`` for a test that meddles while it runs; then use ``finish``."""
        return self._start("up", "--yes", "--skip-preview", environment=environment)

    def attended(self, *arguments: str, each_line: Callable[[str], None]) -> int:
        """The exit status of a command whose output goes line by line to ``each_line``."""
        return attended(
            [self._pulumi, *arguments, "--stack", "test"],
            environment=self._environment,
            directory=self.directory,
            each_line=each_line,
        ).returncode

    def up_at_terminal(self, *, columns: int) -> Terminal:
        """Start ``pulumi up`` at a terminal of this width."""
        self._terminal = Terminal(
            [self._pulumi, "up", "--yes", "--skip-preview", "--stack", "test"],
            columns=columns,
            directory=self.directory,
            environment=self._environment,
        )
        return self._terminal

    def finish(self, process: subprocess.Popen[str]) -> CliRun:
        text, _ = process.communicate(timeout=PATIENCE)
        return CliRun(process.returncode, text, self._events())

    def logged_so_far(self) -> str:
        return CliRun(0, "", self._events()).logged()

    def state(self) -> str:
        """The state as it lies on the disk, with secrets encrypted."""
        return (self.directory / ".pulumi/stacks/engine/test.json").read_text()

    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources in the state by name, without the stack and its providers."""
        latest = json.loads(self.state())["checkpoint"]["latest"]
        return {
            resource["urn"].rpartition("::")[2]: resource
            for resource in latest.get("resources") or []
            if not resource["type"].startswith("pulumi:")
        }

    def pending(self) -> list[Any]:
        latest = json.loads(self.state())["checkpoint"]["latest"]
        return latest.get("pending_operations") or []

    def _start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        log = self.directory / "events"
        log.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [str(self._pulumi), *arguments, "--stack", "test", "--event-log", str(log)]
            + ["--non-interactive", "--color", "never"],
            cwd=self.directory,
            env={**self._environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self._process

    def end(self) -> None:
        """End a run that a failed test has left; its plugins follow."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._terminal is not None and self._terminal.process.poll() is None:
            self._terminal.process.kill()
            self._terminal.process.wait()

    def _run(
        self, *arguments: str, fails: bool = False, environment: Mapping[str, str] | None = None
    ) -> CliRun:
        run = self.finish(self._start(*arguments, environment=environment))
        assert (run.status != 0) == fails, run.text
        return run

    def _events(self) -> list[dict[str, Any]]:
        try:
            lines = (self.directory / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                events.append(json.loads(line))
            except ValueError:  # the last line of a run that goes on
                break
        return events


def eventually(
    what: str, condition: Callable[[], object], *, reason: Callable[[], str] = str
) -> None:
    """Wait for what must come; the limit only ends a failing test, and says the reason."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it never came true that {what}: {reason()}"
        time.sleep(0.05)


LISTED = ["list", "-v", "--format", "json"]
PIP = f"""\
import runpy, sys
from pathlib import Path

here = Path(__file__).resolve().parent
if sys.argv[1:] == {LISTED!r}:
    sys.exit(print((here / "listed.json").read_text()))
sys.path = [path for path in sys.path if Path(path).resolve() != here.parent]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def remember_packages(project: Path, toolchain: "Toolchain") -> None:
    """Put into a project what pip lists of the virtual environment.

    Each run of the engine asks pip for it, from the project's folder, to find plugins: a third of
    the processor time of a small run.
    """
    (project / "pip").mkdir()
    (project / "pip/__main__.py").write_text(PIP)
    (project / "pip/listed.json").write_text(_listed(toolchain))


@cache
def _listed(toolchain: "Toolchain") -> str:
    environment = toolchain.environment()
    python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
    return subprocess.check_output([python, "-m", "pip", *LISTED], env=environment, text=True)


@pytest.fixture(scope="session")
def empty_stack(toolchain: "Toolchain", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stack is made and empty, to copy: making one takes a second."""
    directory = tmp_path_factory.mktemp("stack")
    remember_packages(directory, toolchain)
    (directory / "Pulumi.yaml").write_text(PROJECT)
    EngineStack(directory, toolchain.pulumi, toolchain.environment()).init()
    return directory


@pytest.fixture
def stack(empty_stack: Path, toolchain: "Toolchain", tmp_path: Path) -> Iterator[EngineStack]:
    directory = shutil.copytree(empty_stack, tmp_path / "stack")
    made = EngineStack(directory, toolchain.pulumi, toolchain.environment())
    yield made
    made.end()


@pytest.fixture(scope="session")
def own_plugin(toolchain: "Toolchain") -> None:
    """Skip where Pulumi's own plugin is installed: it leaks, hangs and goes on where ours does not.

    Ours tells its version, the other knows no such switch.
    """
    folder = "plugins/resource-command-v1.2.1/pulumi-resource-command"
    program = Path(toolchain.environment()["PULUMI_HOME"]) / folder
    if subprocess.run([program, "-version"], capture_output=True).stdout != b"1.2.1\n":
        pytest.skip("the published plugin is installed, which does not promise this")
