"""Dynamic resources that wait hold up nothing else, and they end when their update is cancelled."""

import os
import signal
from typing import Any

import pytest
import yaml

from lab.paths import PROJECT
from lab.stack import AT_ONCE
from tests.engine.stack import EngineStack, eventually

pytestmark = pytest.mark.engine

MANY = 20
"""More than the SDK's own server has threads, and than the engine does at once on four processors.
"""

MODULE = """
import time
from pathlib import Path

from pulumi import dynamic

HERE = Path(__file__).parent
MANY = int((HERE / "many").read_text())


def together(name, how):
    # Each waits until all are there. The limit only ends a failing test.
    place = HERE / how
    place.mkdir(exist_ok=True)
    (place / name).touch()
    for _ in range(300):
        if len(list(place.iterdir())) >= MANY:
            return
        time.sleep(0.1)
    raise RuntimeError(f"only {len(list(place.iterdir()))} are worked on at the same time")


class Waiting(dynamic.ResourceProvider):
    def create(self, props):
        together(props["name"], "made")
        return dynamic.CreateResult(props["name"], dict(props))

    def read(self, id_, props):
        together(props["name"], "read")
        return dynamic.ReadResult(id_, props)


class Waiter(dynamic.Resource):
    def __init__(self, name):
        super().__init__(Waiting(), name, {"name": name})
"""

PROGRAM = """
from waiting import MANY, Waiter

for number in range(MANY):
    Waiter(f"waiter{number}")
"""

LIMIT = {"PULUMI_PARALLEL": str(AT_ONCE)}


def write(stack: EngineStack, many: int, *, plugins: bool = True) -> None:
    """A program with this many, which wait for each other, run by the project's server or not."""
    project: dict[str, Any] = {"name": "engine", "runtime": "python"}
    if plugins:
        providers = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["plugins"]["providers"]
        own = [{**provider, "path": str(PROJECT / provider["path"])} for provider in providers]
        project["plugins"] = {"providers": own}
    (stack.directory / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    (stack.directory / "many").write_text(str(many))
    (stack.directory / "waiting.py").write_text(MODULE)
    stack.write(PROGRAM)


def test_all_that_wait_are_waited_for_at_the_same_time(stack: EngineStack) -> None:
    write(stack, MANY)
    made = stack.up(environment=LIMIT)
    assert len(made.steps()) == MANY
    stack.preview("--refresh", "--expect-no-changes", environment=LIMIT)


def test_what_the_sdks_own_server_made_is_as_it_was(stack: EngineStack) -> None:
    write(stack, 2, plugins=False)
    stack.up()
    write(stack, 2)
    stack.preview("--expect-no-changes")
    stack.preview("--refresh", "--expect-no-changes")
    stack.destroy()
    assert stack.resources() == {}


PATIENT = """
import asyncio
from pathlib import Path

from pulumi import dynamic

from components.cancellation import run

HERE = Path(__file__).parent


class Patient(dynamic.ResourceProvider):
    def create(self, props):
        (HERE / "waits").touch()
        run(asyncio.sleep(3600))
        return dynamic.CreateResult("never", dict(props))


class Waiter(dynamic.Resource):
    def __init__(self, name):
        super().__init__(Patient(), name, {})
"""


def test_a_wait_ends_when_the_update_is_interrupted_once(stack: EngineStack) -> None:
    write(stack, 1)
    (stack.directory / "patient.py").write_text(PATIENT)
    stack.write("from patient import Waiter\n\nWaiter('cluster')\n")
    waits = stack.directory / "waits"
    up = stack.start_up(environment={"PYTHONPATH": str(PROJECT)})
    eventually("the resource waits", waits.exists)
    os.kill(up.pid, signal.SIGINT)
    run = stack.finish(up)
    assert run.status != 0
    assert "the update was cancelled; the same command goes on from here" in run.text
    assert not stack.resources()
    assert not stack.pending()
