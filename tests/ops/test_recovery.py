"""What an update that was cut off leaves, and one whose machine dies of its kernel."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.consoles import Consoles
from lab.problem import Problem
from lab.process import start_time
from lab.stack import Stack
from ops.recovery import going_on, recover
from tests.engine.stack import eventually

HOLDS = """\
import pulumi
from pulumi_command import local

local.Command("held", create="touch begun; while test -e hold; do sleep 0.1; done")
pulumi.export("done", True)
"""


@pytest.fixture
def update(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """An update in the middle of making its one resource; not asked for when it was killed."""
    folder = stack.file.parent
    (folder / "__main__.py").write_text(HOLDS)
    (folder / "hold").touch()
    stack.create()
    process = subprocess.Popen(
        [stack.toolchain.pulumi, "up", "--yes", "--skip-preview", "--stack", stack.name],
        cwd=folder,
        env=stack.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started: list[int] = []
    try:
        eventually("it has begun", lambda: (folder / "begun").exists() or process.poll())
        assert process.poll() is None
        started = below(process.pid)
        yield process
    finally:
        (folder / "hold").unlink(missing_ok=True)
        if process.returncode is None:
            process.kill()
            process.wait()
        # The language host and its program outlive an engine that was killed.
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children(pid: int, name: str = ".") -> list[int]:
    """The processes that it has started whose command line has this name."""
    command = ["pgrep", "--full", "--parent", str(pid), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def below(pid: int) -> list[int]:
    """The processes that it has started, and those that these have."""
    return [descendant for child in children(pid) for descendant in (child, *below(child))]


@pytest.mark.engine
def test_a_killed_update_is_begun_again_before_anybody_asked_how_it_ended(
    stack: Stack, update: subprocess.Popen[bytes]
) -> None:
    os.kill(update.pid, signal.SIGKILL)
    messages: list[str] = []
    recover(stack, None, messages.append)
    assert messages == [
        f"the update with the process {update.pid} has died; its lock is taken away",
        "an earlier update was cut off in 1 operations; they are begun again",
    ]
    folder = stack.file.parent
    (folder / "hold").unlink()
    done = stack.pulumi("up", "--yes", "--skip-preview", capture=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    state = json.loads(stack.pulumi("stack", "export", capture=True).stdout)
    assert not state["deployment"].get("pending_operations")


@pytest.mark.engine
def test_a_plugin_does_not_outlive_its_engine(
    stack: Stack, update: subprocess.Popen[bytes]
) -> None:
    (plugin,) = children(update.pid, "resource-command")
    os.kill(update.pid, signal.SIGKILL)
    (stack.file.parent / "hold").unlink()
    eventually("it ends with its engine", lambda: start_time(plugin) is None)


@pytest.mark.engine
def test_an_update_that_runs_is_left_alone(stack: Stack, update: subprocess.Popen[bytes]) -> None:
    before = [path.read_bytes() for path in sorted(stack.paths.backend.rglob("*.json"))]
    with pytest.raises(Problem, match=f"'dev' runs .process {update.pid} on "):
        recover(stack, None, lambda message: pytest.fail(message))
    assert [path.read_bytes() for path in sorted(stack.paths.backend.rglob("*.json"))] == before
    assert update.poll() is None


@pytest.mark.engine
@pytest.mark.parametrize(("program", "age"), [("sleep", 0), ("pulumi", 3600)])
def test_a_lock_is_not_held_by_whatever_has_its_number_after_a_reboot(
    stack: Stack, tmp_path: Path, program: str, age: int
) -> None:
    stack.create()
    (tmp_path / program).symlink_to("/bin/sleep")
    process = subprocess.Popen([tmp_path / program, "600"])
    try:
        lock = stack.paths.backend / ".pulumi/locks/organization/hardway/dev/lock.json"
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text(json.dumps({"pid": process.pid, "hostname": socket.gethostname()}))
        os.utime(lock, (time.time() - age, time.time() - age))
        messages: list[str] = []
        recover(stack, None, messages.append)
        assert messages == [
            f"the update with the process {process.pid} has died; its lock is taken away"
        ]
        assert not lock.exists()
    finally:
        process.kill()
        process.wait()


DEATH = "[  333.7] Kernel panic - not syncing: Fatal exception in interrupt\r\n"


class Updates:
    """Updates of a machine: their exit statuses in order, and in which of them its kernel dies."""

    def __init__(self, folder: Path, statuses: list[int], *deadly: int) -> None:
        self.statuses, self.deadly = statuses, deadly
        self.log = folder / "dev-master.log"
        self.log.write_text(DEATH)  # of an earlier day
        self.consoles = Consoles(folder, ["dev-master"])
        self.messages: list[str] = []
        self.begun = 0

    def __call__(self) -> int:
        self.begun += 1
        if self.begun in self.deadly:
            with self.log.open("a") as console:
                console.write(DEATH)
        return self.statuses[self.begun - 1]

    def end(self) -> int:
        return going_on(self, self.consoles, self.messages.append)


def test_an_update_whose_machine_died_is_begun_again(tmp_path: Path) -> None:
    updates = Updates(tmp_path, [255, 0], 1)
    assert updates.end() == 0
    assert updates.messages == [
        "the kernel of dev-master ended itself (Fatal exception in interrupt) and boots again",
        "the update goes on from there, once",
    ]


def test_it_is_begun_again_once(tmp_path: Path) -> None:
    updates = Updates(tmp_path, [255, 255], 1, 2)
    assert updates.end() == 255
    assert updates.begun == 2


def test_an_update_that_failed_of_itself_is_not_begun_again(tmp_path: Path) -> None:
    updates = Updates(tmp_path, [255])
    assert updates.end() == 255
    assert updates.messages == []


def test_an_update_that_ended_well_is_not_begun_again(tmp_path: Path) -> None:
    updates = Updates(tmp_path, [0], 1)
    assert updates.end() == 0
    assert updates.begun == 1
