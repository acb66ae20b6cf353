"""Programs end with those who started them, and failures say where to look."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lab.paths import PROJECT
from lab.problem import Problem
from lab.process import beside, output, run, start_time
from tests.engine.stack import PATIENCE, eventually


class TaskNotes:
    """A task that keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_output_goes_to_the_log_and_its_lines_to_the_task(tmp_path: Path) -> None:
    notes = TaskNotes()
    run(
        ["sh", "-c", "echo one; echo two >&2; echo $EXTRA"],
        log=tmp_path / "log",
        task=notes,
        environment={"EXTRA": "three"},
        timeout=600,
        failure="no",
    )
    assert notes.texts == ["one", "two", "three"]
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["one", "two", "three"]


def test_a_failure_names_the_status_the_last_lines_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        run(
            ["sh", "-c", "echo broken pipe; exit 7"],
            log=tmp_path / "log",
            timeout=600,
            failure="the build failed",
        )
    assert str(caught.value) == (
        f"the build failed: exit status 7 (broken pipe): look into {tmp_path / 'log'}."
    )


def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no-such-program"):
        run(["no-such-program"], log=tmp_path / "log", timeout=600, failure="no")
    assert output(["no-such-program"]) is None


def test_a_timeout_ends_the_whole_process_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(Problem, match="not done after 1 s"):
        run(
            ["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"],
            log=tmp_path / "log",
            timeout=1,
            failure="slow",
        )
    _await_end(int(pid_file.read_text()))


def test_an_interrupted_run_leaves_no_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                from pathlib import Path
                from lab.process import run
                pid = "{pid_file}"
                run(["sh", "-c", f"echo $$ > {{pid}}.new; mv {{pid}}.new {{pid}}; sleep 600"],
                    log=Path("{tmp_path}/log"), timeout=600, failure="no")
                """
            ),
        ],
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
    )
    eventually("it runs", lambda: pid_file.exists() or parent.poll() is not None)
    parent.send_signal(signal.SIGINT)
    parent.wait(PATIENCE)
    _await_end(int(pid_file.read_text()))


def _await_end(pid: int) -> None:
    eventually("it has ended", lambda: start_time(pid) is None)


def test_work_beside_has_its_result_or_its_error_where_that_is_asked_for() -> None:
    with beside(lambda: "made") as result:
        assert result() == "made"

    def failing() -> None:
        raise Problem("it is broken", "mend it")

    with beside(failing) as failed:
        with pytest.raises(Problem, match="it is broken"):
            failed()


def test_work_beside_goes_on_while_the_context_does(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = ["sh", "-c", f"read line < {pipe}"]
    with beside(lambda: run(command, log=tmp_path / "log", timeout=600, failure="it")) as result:
        pipe.write_text("go on\n")  # each waits for the other here
        result()


def test_work_beside_ends_with_the_error_of_the_context(tmp_path: Path) -> None:
    script = "echo $$ > pid.part; mv pid.part pid; exec sleep 3600"

    def work() -> None:
        command = ["sh", "-c", script]
        run(command, directory=tmp_path, log=tmp_path / "log", timeout=3600, failure="it")

    def failing() -> None:
        with beside(work):
            eventually("the work has begun", (tmp_path / "pid").exists)
            raise Problem("the context failed", "mend it")

    with pytest.raises(Problem, match="the context failed"):
        failing()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
