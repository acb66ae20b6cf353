"""An update through the door that is asked to end, with the real engine and a step that waits."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lab import libvirt, namespace
from lab.paths import LabPaths
from lab.process import STOPPING, descendants, start_time
from lab.progress import Silence
from tests.checkout import Checkout
from tests.engine.stack import PATIENCE, eventually

pytestmark = pytest.mark.engine

PROGRAM = """\
import pulumi
from pulumi_command import local

first = local.Command("first", create="touch first")
held = local.Command(
    "held",
    create="touch begun; while test -e hold; do sleep 0.1; done",
    opts=pulumi.ResourceOptions(depends_on=[first]),
)
local.Command("last", create="touch last", opts=pulumi.ResourceOptions(depends_on=[held]))
"""

UP = ("./hardway", "pulumi", "up", "--yes", "--skip-preview", "--non-interactive")


class Door:
    """A checkout whose program waits, and an update in it that goes through the door."""

    def __init__(self, folder: Path) -> None:
        self.checkout = Checkout(folder)
        (self.checkout.folder / "__main__.py").write_text(PROGRAM)
        self.hold = self.checkout.folder / "hold"
        self.hold.touch()
        state = self.checkout.state / "hardway" / "checkout"
        self.paths = LabPaths("checkout", state, folder / "run")
        self.process = subprocess.Popen(
            UP,
            cwd=self.checkout.folder,
            env=self.checkout.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started: list[int] = []
        begun = self.checkout.folder / "begun"
        eventually("it has begun", lambda: begun.exists() or self.process.poll())
        assert self.process.poll() is None, self.process.communicate()[0]
        self.started = descendants(self.process.pid)

    def output(self) -> str:
        """All that it said, once it has ended."""
        text, _ = self.process.communicate(timeout=PATIENCE)
        return text

    def state(self) -> dict[str, Any]:
        (file,) = (self.paths.backend / ".pulumi/stacks").rglob("dev.json")
        latest: dict[str, Any] = json.loads(file.read_text())["checkpoint"]["latest"]
        return latest

    def made(self) -> set[str]:
        """The names of the commands in the state."""
        names = (
            resource["urn"].rpartition("::") for resource in self.state().get("resources") or ()
        )
        return {name for _, _, name in names} & {"first", "held", "last"}

    def locks(self) -> list[Path]:
        return list((self.paths.backend / ".pulumi/locks").rglob("*.json"))

    def engine(self) -> int:
        (engine,) = (p for p in self.started if _name(p) == "pulumi")
        return engine

    def again(self) -> subprocess.CompletedProcess[str]:
        self.hold.unlink(missing_ok=True)
        return self.checkout.run(*UP)

    def end(self) -> None:
        self.hold.unlink(missing_ok=True)
        for pid in (self.process.pid, *self.started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_the_engine_stops_and_saves_and_the_same_command_goes_on(
    door: Door, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    send(door.process.pid, number)
    output = door.output()
    assert door.process.returncode == 130
    assert "the same command goes on from here" in output
    assert "was stopped" in output, "the engine has told its plugin"
    assert door.made() == {"first"}
    assert not door.state().get("pending_operations")
    assert door.locks() == []
    eventually("all have ended", lambda: not any(map(start_time, door.started)))
    done = door.again()
    assert done.returncode == 0, done.stdout + done.stderr
    assert door.made() == {"first", "held", "last"}


def test_a_second_signal_ends_it_at_once_and_the_same_command_goes_on(door: Door) -> None:
    os.kill(door.engine(), signal.SIGSTOP)  # it hears of nothing
    door.process.send_signal(signal.SIGTERM)
    assert door.process.stdout is not None
    while STOPPING not in (line := door.process.stdout.readline()):
        assert line, "it ended without a word"
    door.process.send_signal(signal.SIGTERM)
    assert "the same command goes on from here" in door.output()
    eventually("all have ended", lambda: not any(map(start_time, door.started)))
    assert len(door.locks()) == 1
    done = door.again()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its lock is taken away" in done.stderr
    assert door.made() == {"first", "held", "last"}


def test_what_an_engine_left_that_was_killed_is_ended_before_the_next_update(door: Door) -> None:
    engine = door.engine()
    for pid in (door.process.pid, engine):
        os.kill(pid, signal.SIGKILL)
    door.process.wait()
    eventually("the engine has ended", lambda: start_time(engine) is None)
    left = [p for p in door.started if start_time(p) is not None]
    assert left, "otherwise this test asks nothing"
    done = door.again()
    assert done.returncode == 0, done.stdout + done.stderr
    eventually("all have ended", lambda: not any(map(start_time, left)))


def test_what_an_engine_left_that_was_killed_ends_with_the_lab(door: Door) -> None:
    engine = door.engine()
    assert namespace.orphans(door.paths) == []
    for pid in (door.process.pid, engine):
        os.kill(pid, signal.SIGKILL)
    door.process.wait()
    eventually("the engine has ended", lambda: start_time(engine) is None)
    # Some end by themselves when they notice, sooner or later: what lives is an orphan.
    assert namespace.orphans(door.paths) or not any(map(start_time, door.started))
    libvirt.stop(door.paths, Silence())
    # The kernel takes a process that exits out of the lab a moment before it is a zombie.
    eventually(
        "all have ended",
        lambda: not any(map(start_time, door.started)),
        reason=lambda: ", ".join(_name(p) for p in door.started if start_time(p)),
    )
