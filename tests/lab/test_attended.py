"""A program that is asked to end is let end by itself; asked twice, nothing of it is left."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.paths import PROJECT
from lab.process import STOPPING, attended, descendants, start_time

# What it runs notes each signal, and ends two signals or one "go" later.
PROGRAM = """\
import os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def note(number, frame):
    with (folder / "got").open("a") as file:
        file.write(signal.Signals(number).name + " ")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
other = subprocess.Popen(["sleep", "600"], start_new_session=True)
(folder / "other").write_text(str(other.pid))
(folder / "begun").touch()
end = time.monotonic() + 600
while not (folder / "go").exists() and time.monotonic() < end:
    time.sleep(0.05)
other.kill()
(folder / "saved").touch()
"""

RUNNER = """\
import os, signal, sys
from pathlib import Path
from lab.process import attended

class Interrupted(BaseException):
    pass

def interrupted(number, frame):
    raise Interrupted

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, interrupted)
folder = Path(sys.argv[1])
try:
    done = attended(
        [sys.executable, folder / "program.py", folder],
        environment=dict(os.environ),
        directory=folder,
        capture="captured" in sys.argv,
        each_line=print if "line by line" in sys.argv else None,
    )
    print("ended", done.returncode)
except Interrupted:
    print("interrupted", (folder / "saved").exists())
"""


def begun(folder: Path, *more: str, session: bool = True) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "runner.py").write_text(RUNNER)
    process = subprocess.Popen(
        [sys.executable, str(folder / "runner.py"), str(folder), *more],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
    )
    eventually(lambda: (folder / "begun").exists())
    return process


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def pending(pid: int) -> int:
    """The signals that a process has not been given yet, as a mask (proc_pid_status(5))."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("ShdPnd:")[2].split()[0], 16)


def got(folder: Path) -> list[str]:
    file = folder / "got"
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("more", [(), ("captured",), ("line by line",)])
@pytest.mark.parametrize(
    ("sent", "received"),
    [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGTERM")],
)
@pytest.mark.parametrize("whole_group", [False, True])
def test_the_first_signal_reaches_it_once_and_its_end_is_waited_for(
    tmp_path: Path, sent: str, received: str, whole_group: bool, more: tuple[str, ...]
) -> None:
    process = begun(tmp_path, *more)
    send = os.killpg if whole_group else os.kill
    send(process.pid, signal.Signals[sent])
    eventually(lambda: got(tmp_path) != [])
    assert process.poll() is None
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=600)
    assert out.strip() == "interrupted True"
    assert err.strip() == STOPPING
    assert got(tmp_path) == [received]


def test_the_second_signal_kills_it_and_what_it_started(tmp_path: Path) -> None:
    process = begun(tmp_path)
    started = int((tmp_path / "other").read_text())
    assert started in descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    eventually(lambda: got(tmp_path) != [])
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=600)
    assert out.strip() == "interrupted False"
    eventually(lambda: start_time(started) is None)


def test_it_is_asked_to_end_where_who_started_it_is_killed(tmp_path: Path) -> None:
    process = begun(tmp_path)
    process.kill()
    process.wait()
    eventually(lambda: got(tmp_path) != [])
    (tmp_path / "go").touch()
    eventually(lambda: (tmp_path / "saved").exists())
    assert got(tmp_path) == ["SIGTERM"]


def test_without_a_signal_it_ends_as_it_ends(tmp_path: Path) -> None:
    process = begun(tmp_path)
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=600)
    assert (out.strip(), err) == ("ended 0", "")


def test_its_lines_are_given_on_as_they_come_and_who_takes_them_may_go_away(
    tmp_path: Path,
) -> None:
    seen, taken = tmp_path / "seen", []
    program = f"print('one', flush=True)\nwhile not os.path.exists({str(seen)!r}): time.sleep(0.05)"
    end = "for number in range(20000): print('x' * 20)"

    def take(line: str) -> None:
        taken.append(line)
        seen.touch()
        raise BrokenPipeError

    done = attended(
        [sys.executable, "-c", f"import os, time\n{program}\n{end}"],
        environment=dict(os.environ),
        directory=tmp_path,
        each_line=take,
    )
    assert done.returncode == 0
    assert taken == ["one", *["x" * 20] * 20000]


def test_a_key_of_the_terminal_reaches_it_once_and_it_may_read_there(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        PROGRAM.replace('(folder / "begun")', 'print(input());(folder / "begun")')
    )
    (tmp_path / "runner.py").write_text(RUNNER)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(PROJECT)
        os.execv(sys.executable, [sys.executable, str(tmp_path / "runner.py"), str(tmp_path)])
    try:
        os.write(terminal, b"a word\n")
        eventually(lambda: (tmp_path / "begun").exists())
        os.write(terminal, b"\x03")
        eventually(lambda: got(tmp_path) != [])
        (tmp_path / "go").touch()
        output = b""
        while b"interrupted True" not in output:
            output += os.read(terminal, 4096)
        assert STOPPING[:40].encode() in output
        assert got(tmp_path) == ["SIGINT"]
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_it_outlives_a_terminal_that_is_closed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "runner.py").write_text(RUNNER)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(PROJECT)
        os.execv(sys.executable, [sys.executable, str(tmp_path / "runner.py"), str(tmp_path)])
    try:
        eventually(lambda: (tmp_path / "begun").exists())
        os.killpg(pid, signal.SIGHUP)  # by the shell, to its job
        eventually(lambda: got(tmp_path) != [])
        (program, *_) = descendants(pid)
        os.kill(program, signal.SIGSTOP)
        os.close(terminal)  # and by the kernel, once the shell has ended
        eventually(lambda: not pending(pid) & 1 << signal.SIGHUP - 1)
        (tmp_path / "go").touch()
        os.kill(program, signal.SIGCONT)
        eventually(lambda: (tmp_path / "saved").exists())
        assert got(tmp_path) == ["SIGTERM"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_another_thread_may_run_one_too(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, threading
        from lab.process import attended
        done = []
        def run():
            words = ["echo", "said"]
            done.append(attended(words, environment=os.environ, directory="/", capture=True))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        print(done[0].stdout, done[0].returncode)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["said", "0"]
