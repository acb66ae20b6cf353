"""Whatever becomes of a measure, its lab is taken down and the checkout is as it was."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lab.connection import LibvirtConnection
from lab.problem import Problem
from ops import bench_lab
from ops.bench_lab import AFTER_BOOT, BenchLab
from ops.pulumi import _means
from spec.configuration import CLUSTER, configuration

HERE = LibvirtConnection(
    uri="test:///default",
    private=False,
    namespace=None,
    domain_type="qemu",
    reason="a test",
    pool="none",
    disks=Path("/nonexistent"),
)


class Stop(BaseException):
    """As the door's own: no `except Exception` takes it."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, ...]]]:
    """What is said through the door, in a checkout of the test's own."""
    (tmp_path / "Pulumi.dev.yaml").write_text(json.dumps({"config": {CLUSTER: {"machines": {}}}}))
    monkeypatch.setattr(bench_lab, "PROJECT", tmp_path)
    commands: list[tuple[str, ...]] = []

    def run(self: BenchLab, *command: str) -> str:
        commands.append(command)
        if command == ("down",):
            assert self.file.is_file(), "the door reads the stack's file for it"
        return "{}"

    monkeypatch.setattr(BenchLab, "run", run)
    yield commands
    assert [path.name for path in tmp_path.iterdir()] == ["Pulumi.dev.yaml"]


@pytest.mark.parametrize("end", [Problem("no", "yes"), Stop(), RuntimeError("a mistake")])
def test_a_lab_goes_down_whatever_ends_the_measure(
    commands: list[tuple[str, ...]], end: BaseException
) -> None:
    def measure() -> None:
        with bench_lab.bench_lab() as lab:
            assert lab.file.is_file()
            raise end

    with pytest.raises(type(end)):
        measure()
    assert commands == [("down",)]


def test_the_file_goes_even_where_the_lab_does_not_go_down(
    commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: BenchLab, *arguments: str) -> str:
        raise Problem("./hardway down failed", "look")

    monkeypatch.setattr(BenchLab, "run", fails)
    with pytest.raises(Problem, match="down failed"), bench_lab.bench_lab():
        pass
    assert commands == []


def test_the_stack_of_a_bench_that_runs_is_left_alone(
    commands: list[tuple[str, ...]], tmp_path: Path
) -> None:
    with bench_lab.bench_lab():
        with pytest.raises(Problem, match=r"Pulumi\.bench\.yaml is there already"):
            with bench_lab.bench_lab():
                pytest.fail("two at once")
        assert (tmp_path / "Pulumi.bench.yaml").is_file()
        assert commands == []


def test_the_stack_is_the_default_one_with_more_machines(
    commands: list[tuple[str, ...]],
) -> None:
    del commands
    with bench_lab.bench_lab() as lab:
        lab.describe({"minion9": {"address": "192.168.1.19"}})
        machines = configuration(lab.file)[CLUSTER]["machines"]
        assert machines == {"minion9": {"address": "192.168.1.19"}}
        # In a mapping on one line Pulumi would put its salt where nobody takes it out again.
        assert lab.file.read_text().startswith("config:\n")


# -- machines alone --------------------------------------------------------------------------------

MACHINE = "hardway:index:Cluster$hardway:index:Machine"


@pytest.mark.parametrize(
    ("ending", "excluded"),
    [
        (f"{MACHINE}$command:remote:Command::master-identity", True),
        (f"{MACHINE}$command:remote:Command::master-ready", False),
        (f"{MACHINE}$libvirt:index/domain:Domain::master", False),
        ("hardway:index:Cluster$hardway:index:Network::machines", False),
    ],
)
def test_what_is_left_out_begins_behind_the_boot(ending: str, excluded: bool) -> None:
    assert _means(AFTER_BOOT, ending, "bench") == excluded


# -- where machines answer -------------------------------------------------------------------------


def test_a_job_inside_gives_what_comes_of_it() -> None:
    async def job() -> str:
        return threading.current_thread().name

    assert BenchLab.inside(HERE, job()) == "inside-the-lab"


def test_a_job_that_fails_inside_fails_outside() -> None:
    async def job() -> None:
        raise Problem("it does not work", "try again")

    with pytest.raises(Problem, match="it does not work"):
        BenchLab.inside(HERE, job())


def test_a_job_is_cancelled_where_the_measure_is_interrupted() -> None:
    ends: list[str] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise Stop

    async def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    before: Any = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with pytest.raises(Stop):
            BenchLab.inside(HERE, job())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ends == ["cancelled"]
    assert all(thread.name != "inside-the-lab" for thread in threading.enumerate())
