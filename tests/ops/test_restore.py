"""A restore's way around machines that are off, and what it says once writes are taken again."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.problem import Problem
from ops import restore
from ops.restore import FLANNEL, Doing, Restoration
from ops.snapshot import Snapshot
from plan.conditions import conditions
from probe.machines import Done, Unreachable
from probe.watch import Outcome
from tests.certs.clusters import cluster

SPEC = cluster(
    {"m": ("192.168.1.10", "ai"), "w": ("192.168.1.11", "i"), "x": ("192.168.1.12", "i")}
)


class PartlyOff:
    """Machines of which some are off."""

    def __init__(self, *off: str) -> None:
        self._off = off
        self.started: set[str] = set()

    async def run(self, node: str, *_: str, **__: float) -> Done:
        if node in self._off:
            raise Unreachable(f"{node} does not answer")
        self.started.add(node)
        return Done(status=0, stdout="", stderr="")


def restoration() -> Restoration:
    reached = SimpleNamespace(spec=SPEC, access=None, stack=SimpleNamespace(name="dev"))
    return Restoration(cast(Any, reached), Path(), cast(Snapshot, None), cast(Any, None))


def start_everywhere(machines: PartlyOff) -> None:
    doing = Doing(cast(Any, machines), "")
    asyncio.run(restoration()._start(doing, SPEC.nodes, FLANNEL))


def test_a_node_that_is_off_does_not_keep_the_api_away() -> None:
    machines = PartlyOff("w")
    start_everywhere(machines)
    assert machines.started == {"m", "x"}


def test_a_control_plane_that_is_off_ends_the_restore() -> None:
    with pytest.raises(Problem, match="m does not answer"):
        start_everywhere(PartlyOff("m"))


@pytest.mark.parametrize("restored", [False, True])
def test_nobody_is_led_to_restore_again_what_is_restored(
    monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    async def watched(asked: Any, *_: object, **__: object) -> list[Outcome]:
        return [Outcome(name=entry.name, holds=False, seconds=1, error="why") for entry in asked]

    monkeypatch.setattr(restore, "watch", watched)
    (condition, *_) = conditions(SPEC)
    with pytest.raises(Problem) as refused:
        asyncio.run(restoration()._until(condition.name, restored=restored))
    assert ("do not restore again" in str(refused.value)) is restored
    assert ("can be run again" in str(refused.value)) is not restored
