"""Machines go first while an update works, seen on real processes that want one processor."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import processors, qemu
from lab.paths import PROJECT
from tests.engine.stack import eventually

LOOP = "import os; os.sched_setaffinity(0, {%d}); print(flush=True)\nwhile True: pass"

privileged = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


@contextmanager
def session(*more: str) -> Iterator[int]:
    """A process in a session of its own, as a machine is, always ready for the first processor."""
    command = [sys.executable, "-c", LOOP % min(os.sched_getaffinity(0)), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def nice_of(pid: int) -> set[int]:
    """The nice values of its threads, and of its session where sessions are scheduled."""
    threads = (int(name) for name in os.listdir(f"/proc/{pid}/task"))
    values = {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
    group = Path(f"/proc/{pid}/autogroup")
    return values | ({int(group.read_text().split()[-1])} if group.exists() else set())


def ratio(first: int, second: int) -> float:
    """How much more of their processor one gets than the other, once they had enough of it."""
    before = processors.look({"one": first, "other": second})
    measured: list[processors.Shares] = []

    def enough() -> bool:
        now = processors.look({"one": first, "other": second})
        measured[:] = [processors.between(before, now)]
        return measured[0].together.got * measured[0].seconds > 1

    eventually("both have run for a while", enough)
    shares = measured[0].machines
    return shares["one"].got / max(shares["other"].got, 0.001)


@privileged
def test_who_goes_first_gets_nine_times_the_share_of_another_session_and_gives_it_back() -> None:
    """By the kernel's table of weights: 9548 for -10, 1024 for 0, 335 for 5."""
    with session() as machine, session() as terminal:
        qemu.weigh(machine, qemu.FIRST)
        assert nice_of(machine) == {qemu.FIRST}
        assert ratio(machine, terminal) > 4
        qemu.weigh(machine, qemu.YIELDING)
        assert nice_of(machine) == {qemu.YIELDING}
        assert 1.5 < ratio(terminal, machine) < 6


def test_what_has_ended_has_no_share_and_is_no_error() -> None:
    with session() as machine:
        pass
    qemu.weigh(machine, qemu.FIRST)


# -- which processes -------------------------------------------------------------------------------


def note(folder: Path, domain: str, pid: int) -> None:
    (folder / "qemu").mkdir(exist_ok=True)
    (folder / "qemu" / f"{domain}.pid").write_text(str(pid))


def test_a_number_that_another_program_has_by_now_is_no_machine(tmp_path: Path) -> None:
    with session("-name", "guest=dev-master,debug-threads=on") as machine, session() as stranger:
        note(tmp_path, "dev-master", machine)
        note(tmp_path, "dev-minion1", machine)
        note(tmp_path, "dev-minion2", stranger)
        note(tmp_path, "dev-minion3", 2**22 + 1)
        (tmp_path / "qemu" / "dev-minion4.pid").write_text("")
        assert qemu.processes(tmp_path) == {"dev-master": machine}
        assert qemu.machines("dev", ["master", "minion1"], tmp_path) == {"master": machine}
        assert qemu.machines("other", ["master"], tmp_path) == {}


def test_a_private_libvirt_that_never_ran_leaves_it_to_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qemu.processes(tmp_path) == {}
    monkeypatch.setattr(qemu, "SYSTEM", tmp_path / "system")
    (tmp_path / "system").mkdir()
    with session("guest=dev-master") as machine:
        note(tmp_path / "system", "dev-master", machine)
        assert qemu.machines("dev", ["master"], tmp_path) == {"master": machine}


# -- as long as an update works --------------------------------------------------------------------

UPDATE = """
import pathlib, sys
from lab import qemu
with qemu.first(pathlib.Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def update(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", UPDATE, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


@privileged
@pytest.mark.parametrize("end", ["by itself", signal.SIGTERM, signal.SIGKILL])
def test_machines_are_set_back_however_an_update_ends(tmp_path: Path, end: object) -> None:
    with session("guest=one") as first, session("guest=two") as second, update(tmp_path) as running:
        note(tmp_path, "one", first)
        eventually("the machine goes first", lambda: nice_of(first) == {qemu.FIRST})
        note(tmp_path, "two", second)
        eventually("so does one that starts later", lambda: nice_of(second) == {qemu.FIRST})
        if isinstance(end, signal.Signals):
            running.send_signal(end)
        else:
            assert running.stdin is not None
            running.stdin.close()
        for machine in (first, second):
            eventually("it yields again", lambda m=machine: nice_of(m) == {qemu.YIELDING})  # type: ignore[misc]


@privileged
def test_some_go_before_the_others(tmp_path: Path) -> None:
    with session("guest=a-plane") as plane, session("guest=a-minion") as minion:
        note(tmp_path, "a-plane", plane)
        note(tmp_path, "a-minion", minion)
        with qemu.first(tmp_path, ["a-plane", "another"]):
            eventually("one leads", lambda: nice_of(plane) == {qemu.LEADING})
            eventually("the other one goes first", lambda: nice_of(minion) == {qemu.FIRST})
            assert ratio(plane, minion) > 1.3
        assert nice_of(plane) == nice_of(minion) == {qemu.YIELDING}


@privileged
def test_machines_are_set_back_where_the_process_that_would_is_killed(tmp_path: Path) -> None:
    with session("guest=one") as machine:
        note(tmp_path, "one", machine)
        with qemu.first(tmp_path):
            eventually("the machine goes first", lambda: nice_of(machine) == {qemu.FIRST})
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            (keeper,) = (
                int(pid)
                for pid in children
                if b"lab.qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
            os.kill(keeper, signal.SIGKILL)
        assert nice_of(machine) == {qemu.YIELDING}


@privileged
def test_what_one_update_sets_back_another_one_raises_again(tmp_path: Path) -> None:
    with session("guest=one") as machine, qemu.first(tmp_path):
        note(tmp_path, "one", machine)
        with qemu.first(tmp_path):
            eventually("the machine goes first", lambda: nice_of(machine) == {qemu.FIRST})
        eventually("it goes first again", lambda: nice_of(machine) == {qemu.FIRST})
