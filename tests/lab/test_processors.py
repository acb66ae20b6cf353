"""Who has the processors, seen on real processes that keep one of them busy."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from lab import processors
from lab.processors import Got, Shares, Taker
from tests.engine.stack import eventually
from tests.quota import quota

Busy = Callable[..., int]

between = partial(processors.between, own=0)
"""All that these tests start themselves counts as others'."""

LOOP = "import os; os.sched_setaffinity(0, {%d}); print(flush=True)\nwhile True: pass"
EARLIER = """for _ in range(3 * 10**7): pass
print(flush=True)
input()"""
"""Uses the processor for a while and then waits."""
BRIEF = "while :; do python3 -c 'for _ in range(10**6): pass'; done"


@pytest.fixture
def busy() -> Iterator[Busy]:
    """Starts processes that are never idle, all on one and the same processor."""
    started: list[subprocess.Popen[bytes]] = []
    processor = min(os.sched_getaffinity(0))

    def start() -> int:
        command = [sys.executable, "-c", LOOP % processor]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_machine_that_shares_a_processor_with_three_others_starves(busy: Busy) -> None:
    machine = busy()
    others = [busy() for _ in range(3)]
    before = processors.look({"master": machine})
    measured: list[Shares] = []

    def enough() -> bool:
        measured[:] = [between(before, processors.look({"master": machine}), {machine})]
        return measured[0].together.got * measured[0].seconds > 0.2

    eventually("the machine has run for a while", enough)
    (shares,) = measured
    assert shares.machines["master"].asked > 0.8, "whatever else runs, it is always ready"
    assert shares.together.starves
    assert processors.starved(shares).startswith(f"the machines get {shares.together} that they ")
    names = [taker.name for taker in shares.takers]
    assert all(any(name.endswith(f" ({pid})") for name in names) for pid in others)
    assert not any(f"({machine})" in name for name in names)


def test_programs_that_have_ended_count_with_what_waited_for_them() -> None:
    """As compilers do, of which none lives as long as a look."""
    before = processors.look()
    with subprocess.Popen(["sh", "-c", BRIEF], start_new_session=True) as shell:
        try:
            taken: list[Taker] = []

            def seen() -> bool:
                every = between(before, processors.look()).takers
                taken[:] = [taker for taker in every if taker.name == f"sh ({shell.pid})"]
                return bool(taken) and taken[0].processors > 0.05

            eventually("the shell has what its programs used", seen)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, 9)


def test_what_ended_is_counted_once() -> None:
    """What a process had used before the first look was not used since."""
    command = ["sh", "-c", f"{sys.executable} -c '{EARLIER}'; echo; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin
        assert shell.stdout
        shell.stdout.readline()
        before = processors.look()
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        shell.stdout.readline()
        after = processors.look()
        used = sum(
            taker.processors * (after.at - before.at)
            for taker in between(before, after).takers
            if taker.name == f"sh ({shell.pid})"
        )
        assert after.programs[shell.pid].children > 0.5
        assert used < 0.25
        shell.stdin.write(b"\n")


# -- sentences -------------------------------------------------------------------------------------


def shares(free: float = 0.0, got: float = 0.0, asked: float = 0.0, **more: object) -> Shares:
    values = {"takers": (), "own": 0.0, "quota": "", **more}
    return Shares(10, free, {"master": Got(got, asked)}, **values)  # type: ignore[arg-type]


TAKERS = tuple(Taker(f"cc1 ({n})", n / 10) for n in (9, 4, 3, 2))


def test_machines_that_get_less_than_half_are_told_with_who_takes_most() -> None:
    assert processors.starved(shares(got=0.6, asked=1.9, takers=TAKERS)) == (
        "the machines get 0.6 of the 1.9 processors that they ask for; most is taken by "
        "cc1 (9) 0.9, cc1 (4) 0.4, cc1 (3) 0.3"
    )


def test_machines_that_are_too_many_for_a_quiet_host_are_told_that_nobody_else_is_there() -> None:
    takers = (Taker("systemd (1)", 0.01),)
    assert processors.starved(shares(got=2, asked=6, takers=takers)) == (
        "the machines get 2.0 of the 6.0 processors that they ask for; "
        f"nobody else uses this computer's {os.cpu_count()}"
    )


def test_a_quota_is_named() -> None:
    used_up = "the quota of the control group /x is used up 90% of the time"
    sentence = processors.starved(shares(got=0.5, asked=3, quota=used_up))
    assert sentence.endswith(f"ask for; {used_up}")


@pytest.mark.parametrize(("got", "asked"), [(1.0, 1.9), (0.0, 0.4), (0.0, 0.0)])
def test_half_is_enough_and_who_asks_for_little_does_not_starve(got: float, asked: float) -> None:
    assert processors.starved(shares(got=got, asked=asked)) == ""


def test_a_host_without_room_is_told_before_machines_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert processors.crowded(shares(free=0.4, takers=TAKERS[:1]), 3) == (
        "0.4 of this computer's 2 processors are free, and the machines ask for 3; "
        "most is taken by cc1 (9) 0.9"
    )
    assert processors.crowded(shares(free=1.1), 3) == "", "no more than two can be had"
    assert processors.crowded(shares(free=0.4, own=0.7), 3) == "", "what asks is no obstacle"
    assert processors.crowded(shares(free=0.0), 0) == "", "all of them run"


# -- a quota ---------------------------------------------------------------------------------------


MEASURE = """
import sys
from lab import processors
before = processors.look()
while not (quota := processors.between(before, processors.look()).quota): pass
print(quota)
"""


@pytest.mark.container
def test_a_quota_that_is_used_up_is_seen_from_inside() -> None:
    with quota(0.05) as group:
        join = f"echo $$ >{group}/cgroup.procs"
        command = ["sh", "-c", f"{join} && exec {sys.executable} -c '{MEASURE}'"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith(f"the quota of the control group {group} is used up ")


def test_what_this_process_starts_is_its_own_and_no_taker(busy: Busy) -> None:
    before = processors.look()
    pid = busy()
    measured: list[Shares] = []

    def used() -> bool:
        measured[:] = [processors.between(before, processors.look())]
        return measured[0].own * measured[0].seconds > 0.2

    eventually("it has used a processor for a while", used)
    assert not any(f"({pid})" in taker.name for taker in measured[0].takers)
