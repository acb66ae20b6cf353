"""What is said of machines that get too little while an update works, from looks as they come."""

import os
from collections.abc import Mapping

import pytest

from lab.processors import Look, Program
from ops import shortage
from ops.shortage import INTERVAL, SILENCE, Shortage
from tests.engine.stack import eventually

MACHINES = {"master": 1, "minion": 2}
"""Their processors."""
BOTH = {"master": 71, "minion": 72}
"""Their processes."""


class Host:
    """A computer with two processors whose clock and whose programs a test moves on."""

    def __init__(self, running: Mapping[str, int]) -> None:
        self.running = running
        self.now = 1000.0
        self.idle = self.compiler = 0.0
        self.ran = dict.fromkeys(MACHINES, 0.0)
        self.waited = dict.fromkeys(MACHINES, 0.0)
        self.messages: list[str] = []
        self.looked = 0
        """How often both machines were."""
        self.shortage = Shortage(
            MACHINES,
            lambda: self.running,
            self.messages.append,
            look=self.look,
            clock=lambda: self.now,
        )

    def look(self, machines: Mapping[str, int]) -> Look:
        self.looked += len(machines) == len(MACHINES)
        return Look(
            at=self.now,
            idle=self.idle,
            stolen=0.0,
            periods={},
            programs={4242: Program("cc1", 1, "7", self.compiler, 0.0)},
            machines={name: {1: (self.ran[name], self.waited[name])} for name in machines},
        )

    def passes(
        self, seconds: float = INTERVAL, got: float = 0.5, asked: float = 0.5, taken: float = 0.0
    ) -> None:
        """Each machine that runs gets so much of what it asks for, and another program so much."""
        self.now += seconds
        for name in self.running:
            self.ran[name] += got * seconds
            self.waited[name] += (asked - got) * seconds
        self.compiler += taken * seconds
        self.idle += max(0.0, 2 - taken - got * len(self.running)) * seconds


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_a_host_without_room_for_machines_is_told_once_before_they_run() -> None:
    host = Host({})
    host.passes(1, taken=1.8)
    host.shortage.first()
    (line,) = host.messages
    assert line == (
        "This computer is busy: 0.2 of this computer's 2 processors are free, and the machines ask "
        "for 3; most is taken by cc1 (4242) 1.8. The update works and takes longer."
    )


def test_it_is_measured_as_long_as_an_update_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "BEGINS", 0.01)
    monkeypatch.setattr(shortage, "INTERVAL", 0.01)
    host = Host({})
    host.passes(1, taken=1.8)
    with host.shortage.watched():
        eventually("the host is looked at", lambda: len(host.messages) == 1)
        host.running = BOTH
        eventually("so are machines that start", lambda: host.looked > 2)
        host.passes(SILENCE, got=0.1, asked=0.9)
        eventually("what they get is said", lambda: len(host.messages) == 2)
    assert "the machines get 0.2 of the 1.8 processors" in host.messages[1]


def test_a_quiet_host_and_machines_that_run_already_are_not_worth_a_word() -> None:
    quiet, running = Host({}), Host(BOTH)
    quiet.passes(1)
    quiet.shortage.first()
    running.passes(1, got=0.1, asked=0.1, taken=1.8)
    running.shortage.first()
    running.passes(got=0.3, asked=0.5)
    running.shortage.next()
    assert (quiet.messages, running.messages) == ([], [])


def test_machines_that_starve_are_told_when_it_has_changed_and_once_a_minute_at_most() -> None:
    host = Host(BOTH)
    for got in (0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9):
        host.passes(got=got, asked=0.95, taken=1.2)
        host.shortage.next()
    assert [line.partition(";")[0] for line in host.messages] == [
        "This computer is busy: the machines get 0.6 of the 1.9 processors that they ask for",
        "This computer is busy: the machines get 0.2 of the 1.9 processors that they ask for",
        "The machines get the processors that they ask for again.",
    ]
    assert host.messages[0].endswith("; most is taken by cc1 (4242) 1.2.")
    assert SILENCE > 3 * INTERVAL


def test_what_a_machine_lacked_while_a_step_ran_is_known_afterwards() -> None:
    host = Host(BOTH)
    for got in (0.9, 0.1, 0.3, 0.9):
        host.passes(got=got, asked=0.9, taken=1)
        host.shortage.next()
    begin = 1000 + INTERVAL
    between = begin, begin + 2 * INTERVAL
    lacked = host.shortage.during
    assert lacked("minion", *between) == "minion got 0.2 of the 0.9 processors that it asked for"
    assert lacked(None, *between) == (
        "the machines got 0.4 of the 1.8 processors that they asked for"
    )
    assert lacked("minion", 1000, begin) == ""
    assert lacked("minion", 0, 900) == "", "nobody measured then"
    assert lacked("another", *between) == ""
