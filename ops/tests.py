"""The command ``test``, which runs every check of the project and installs what they need."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lab import artifacts, gobuild, image, packages, toolchain
from lab.cache import Cache
from lab.git import git
from lab.host import (
    PACKAGES_FOR_TESTS,
    PACKAGES_FOR_THE_BROWSER,
    packages_for_machines,
)
from lab.paths import PROJECT, lab_paths
from lab.problem import Problem
from lab.process import attended, output, run
from lab.recipe import recipes
from ops.display import progress
from spec.versions import versions_for

BIN = Path(sys.executable).parent

SIDE_BY_SIDE = (
    *("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--ignore=tests/machine", "--durations=30", "--durations-min=10"),
)
"""Options of pytest for all tests but those with whole clusters, in two processes.

The slowest tests are listed at the end, since the time of a whole run is scarce.
"""
MACHINES = ("-p", "no:xdist", "-v", "tests/machine")
"""Options of pytest for the tests with real machines.

They run last and alone: an API server that gets only half a processor gives up.
"""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(
        "test",
        rich_help_panel="Development",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(test)


def test(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="Given to pytest instead of the whole suite, without other checks."),
    ] = None,  # noqa: PT028
    load: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="LOOPS",
            help="Only tests, without those of whole clusters where no other are named, beside so "
            "many busy loops for each processor. Stands before pytest's own words, as --times.",
        ),
    ] = None,  # noqa: PT028
    times: Annotated[
        int, typer.Option(min=1, help="Run the tests so often, and stop at the first red run.")
    ] = 1,  # noqa: PT028
) -> None:
    """Run every check: style, types, imports, shell, Go, and the tests of all tiers.

    Examples: `./hardway test` for everything, `./hardway test tests/lab -k cache` for a part,
    `./hardway test --load 2 --times 10` for what fails on a busy host only.
    """
    prepare_host()
    parts: Sequence[Sequence[str]]
    if arguments:
        parts = [arguments]
    elif load is not None:
        parts = [SIDE_BY_SIDE]
    else:
        static_checks()
        go_checks()
        prepare_parts()
        parts = [SIDE_BY_SIDE, MACHINES]
    with busy_loops((load or 0) * (os.cpu_count() or 1)):
        for number in range(1, times + 1):
            begun = time.monotonic()
            status = next(filter(None, map(run_tests, parts)), 0)
            if load is not None or times > 1:
                _say_how_it_went(number, times, status, time.monotonic() - begun, load or 0)
            if status != 0:
                raise typer.Exit(status)


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest and return its exit status; no process of it remains, however it ends."""
    return attended(
        [sys.executable, "-m", "ops.keeper", sys.executable, "-m", "pytest", *arguments],
        environment={**os.environ, "PULUMI_ERROR_OUTPUT_STRING": "true"},
        directory=PROJECT,
    ).returncode


BUSY = "ulimit -t 21600; while :; do :; done"
"""Script of a busy loop; it ends by itself after six hours of processor time."""


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Run ``number`` busy loops while the context lasts.

    The loops end with this process, even where it is killed.
    """
    command = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", BUSY]
    loops = []
    try:
        for _ in range(number):
            loops.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _say_how_it_went(number: int, times: int, status: int, seconds: float, load: int) -> None:
    """Print a line about a run below pytest's output, which names the tests that failed."""
    print(
        f"Run {number} of {times} was {'red' if status else 'green'} after {seconds:.0f} s beside "
        f"{load} busy loops for each processor; the load was {os.getloadavg()[0]:.1f}.",
        flush=True,
    )


def prepare_host() -> None:
    """Install the Debian packages for tests, if this is root on a supported system."""
    if not packages.supported_system() or os.geteuid() != 0:
        return
    had_sshd = not packages.missing(["openssh-server"])
    wanted = {**packages_for_machines(), **PACKAGES_FOR_TESTS}
    if packages.operating_system().startswith("debian"):
        wanted.update(PACKAGES_FOR_THE_BROWSER)
    packages.install(wanted, lab_paths(), progress())
    if not had_sshd and Path("/run/systemd/system").is_dir():
        # Only the program sshd is needed: nobody asked for a server on this host's port 22.
        output(["systemctl", "disable", "--now", "ssh.service", "ssh.socket"])


def prepare_parts() -> None:
    """Build or fetch what the tests need before they start, so that the user sees the progress."""
    cache, paths = Cache(), lab_paths()
    toolchain.prepare(cache, paths, progress())
    stored = artifacts.Store(cache, progress(), paths.logs).fetch(versions_for())
    if os.geteuid() == 0:
        image.base_image(cache, image.node_store(stored), progress(), logs=paths.logs)


def static_checks() -> None:
    """Check style, format, types, imports and shell scripts."""
    listed = git(PROJECT, "ls-files", "-co", "--exclude-standard").stdout.decode()
    scripts = [path for path in listed.splitlines() if path.endswith(".sh") or path == ".ci/run"]
    checks: list[tuple[str, list[str]]] = [
        ("style", [str(BIN / "ruff"), "check", "."]),
        ("format", [str(BIN / "ruff"), "format", "--check", "."]),
        ("types", [str(BIN / "mypy")]),
        ("imports", [str(BIN / "lint-imports")]),
    ]
    if shutil.which("shellcheck"):
        checks.append(("shell", ["shellcheck", *scripts]))
    for name, command in checks:
        _check(name, command, PROJECT)


def go_checks() -> None:
    """Run ``gofmt``, ``go vet`` and the Go tests of every module with source in this project."""
    cache, logs = Cache(), lab_paths().logs
    go = gobuild.find_go(cache, progress(), logs)
    modules = sorted({recipe.path for recipe in recipes() if any(recipe.path.glob("*.go"))})
    environment = dict(gobuild.go_environment(cache, cache.root))
    del environment["GOTMPDIR"]  # Go reuses a test's cached result only in the same environment
    for module in modules:
        name = module.relative_to(PROJECT)
        unformatted = output([go.parent / "gofmt", "-l", module])
        if unformatted is None or unformatted.strip():
            raise Problem(f"gofmt would change {unformatted}", f"run gofmt -w {name}")
        _check(f"go vet {name}", [str(go), "vet", "./..."], module, environment)
        _check(f"go test {name}", [str(go), "test", "./..."], module, environment)


def _check(
    name: str, command: list[str], directory: Path, environment: dict[str, str] | None = None
) -> None:
    log = lab_paths().logs / f"check-{name.replace(' ', '-').replace('/', '-')}.log"
    log.unlink(missing_ok=True)
    try:
        with progress().task(f"checking {name}") as task:
            run(
                command,
                log=log,
                task=task,
                environment=environment,
                directory=directory,
                timeout=1200,
                failure=f"the check '{name}' failed",
            )
    except Problem:
        if log.is_file():
            sys.stderr.write(log.read_text())
        raise
