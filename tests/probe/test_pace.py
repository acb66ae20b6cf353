"""How slow machines are, asked of a real OpenSSH server."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from plan import library
from probe import pace
from probe.conditions import Doors
from probe.machines import Machines
from tests.engine.sshd import Sshd
from tests.probe.machine import access

pytestmark = pytest.mark.engine


def asked(sshd: Sshd, before: float, **changes: object) -> float:
    opened = access(m1=sshd, m2=sshd)
    gone = replace(opened.machines["m2"], port=1)
    machines = {"m1": replace(opened.machines["m1"], **changes), "m2": gone}  # type: ignore[arg-type]

    async def whole() -> float:
        async with Machines(replace(opened, machines=machines)) as there:
            return await pace.slowest(there, before)

    return asyncio.run(whole())


def test_a_machine_says_how_slow_it_is(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = library.script("pace")
    assert asked(sshd, 7.0) >= 1
    slow = pace.SCRIPT.replace(measure, f"{measure}\nquiet=1\n")
    assert slow != pace.SCRIPT
    monkeypatch.setattr(pace, "SCRIPT", slow)
    assert asked(sshd, 7.0) > 10


def test_of_machines_that_cannot_be_asked_what_was_known_is_kept(sshd: Sshd) -> None:
    assert asked(sshd, 7.0, port=1) == 7.0


def test_what_is_asked_of_slow_machines_has_more_time(sshd: Sshd) -> None:
    def status(act: Callable[[Doors], None]) -> int:
        async def whole() -> int:
            async with Machines(access(m1=sshd)) as there:
                act(Doors(there, None))
                return (await there.run("m1", "sleep 2", timeout=1)).status

        return asyncio.run(whole())

    assert status(lambda _: None) == 124
    assert status(lambda doors: doors.slow_by(60)) == 0
