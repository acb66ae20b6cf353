"""The verb of the tests: repeated, beside busy loops, and with nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import PROJECT
from lab.process import descendants, start_time
from ops.tests import BUSY
from tests.engine.stack import PATIENCE, eventually

LEAVES = """\
import os, pathlib, signal, subprocess, sys, time
folder, end = pathlib.Path(sys.argv[1]), sys.argv[2]
words = ["setsid", "sh", "-c", "sleep 600 & echo $!; wait"]
other = subprocess.Popen(words, stdout=subprocess.PIPE)
(folder / "new").write_text(f"{other.pid} {int(other.stdout.readline())}")
(folder / "new").rename(folder / "left")
try:
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "asked":
        time.sleep(600)
except KeyboardInterrupt:
    (folder / "interrupted").touch()
    sys.exit(5)
sys.exit(3)
"""
"""A program that leaves two processes in another session."""


@pytest.mark.parametrize(("end", "status"), [("by itself", 3), ("killed", 256 - 9), ("asked", 5)])
def test_what_tests_leave_ends_with_them(tmp_path: Path, end: str, status: int) -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-m", "ops.keeper", sys.executable, "-c", LEAVES, str(tmp_path), end],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
    )
    eventually("it has begun", (tmp_path / "left").exists)
    if end == "asked":
        keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(PATIENCE) == status
    assert (tmp_path / "interrupted").exists() == (end == "asked")
    assert not any(start_time(int(pid)) for pid in (tmp_path / "left").read_text().split())


TESTS = """\
from pathlib import Path
import time

def test_is_green_once():
    runs = Path(__file__).with_name("runs")
    runs.write_text((runs.read_text() if runs.exists() else "") + "x")
    while Path(__file__).with_name("wait").exists():
        time.sleep(0.1)
    assert runs.read_text() == "x"
"""


def _begun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "test_own.py").write_text(TESTS)
    return subprocess.Popen(
        [PROJECT / "hardway", "test", "--load", "1", *arguments, str(folder / "test_own.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _loops(parent: int) -> list[int]:
    loops = []
    for pid in descendants(parent):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if BUSY.encode() in arguments and arguments[0] == b"sh":
            loops.append(pid)
    return loops


def test_they_are_repeated_until_the_first_red_run(tmp_path: Path) -> None:
    process = _begun(tmp_path, "--times", "5")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert (tmp_path / "runs").read_text() == "xx"
    first, second = (line for line in output.splitlines() if line.startswith("Run "))
    assert first.startswith("Run 1 of 5 was green after ")
    assert second.startswith("Run 2 of 5 was red after ")
    assert "beside 1 busy loops for each processor; the load was " in second
    assert re.search("^FAILED .*test_own.py::test_is_green_once", output, re.MULTILINE)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_busy_loops_end_with_the_verb(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "wait").touch()
    process = _begun(tmp_path)
    eventually("a test runs", (tmp_path / "runs").exists)
    started = descendants(process.pid)
    loops = _loops(process.pid)
    assert len(loops) == os.cpu_count()
    process.send_signal(end)
    process.wait(PATIENCE)
    eventually("all has ended", lambda: not any(map(start_time, started)))
