"""Functions that run other programs, log their output and leave no child process behind."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TypeVar

from lab.problem import Problem
from lab.progress import Task

T = TypeVar("T")

_running: set[int] = set()
"""The process group leaders that ``run`` started and that still run."""


def run(
    command: Sequence[object],
    *,
    log: Path,
    task: Task | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float,
    failure: str,
) -> None:
    """Run a program to its end; append its output to ``log`` and show its latest line in ``task``.

    The words of ``command`` are strings or paths; ``environment`` is added to this process's own;
    ``timeout`` is in seconds. The program has no standard input. It has its own process group; the
    whole group is killed on a time-out or when this process is interrupted. Raises a Problem where
    the program cannot be started, fails or takes too long; its message starts with ``failure``.
    """
    arguments = [str(argument) for argument in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=4)
    with log.open("a", encoding="utf-8", errors="replace") as record:
        record.write(f"$ {shlex.join(arguments)}\n")
        record.flush()
        try:
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise Problem(f"{failure}: {arguments[0]}: {error.strerror}", "install it") from error
        _running.add(child.pid)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            end_group(child.pid)

        timer = threading.Timer(timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                record.write(line)
                record.flush()
                if text := line.strip():
                    last.append(text)
                    if task:
                        task.note(text)
            status = child.wait()
        except BaseException:
            end_group(child.pid)
            child.wait()
            raise
        finally:
            _running.discard(child.pid)
            timer.cancel()
    if expired.is_set():
        raise Problem(f"{failure}: not done after {timeout:.0f} s", f"look into {log}")
    if status != 0:
        last_lines = f" ({' / '.join(last)})" if last else ""
        raise Problem(f"{failure}: exit status {status}{last_lines}", f"look into {log}")


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Run ``work`` in a thread while the context runs.

    The context manager yields a function that waits for the result of ``work`` and returns it, or
    raises the error of ``work``. Where the context ends with an exception (Ctrl-C included), every
    program that ``run`` has started is killed, and the thread gets at most twice ``END_WITHIN``
    seconds to end.
    """
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # future.result raises it again
            future.set_exception(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    try:
        yield future.result
        thread.join()
    except BaseException:
        for _ in range(2):  # the second round kills a program that started during the first
            for leader in tuple(_running):
                end_group(leader)
            thread.join(END_WITHIN)
        raise


END_WITHIN = 5
"""Seconds to wait for a thread to end after its programs were killed."""


@contextmanager
def acting(acts: Iterable[tuple[float, Callable[[], None]]]) -> Iterator[None]:
    """Call functions in turn in a thread while the context lasts.

    Each item of ``acts`` is a number of seconds to wait and the function to call after that wait.
    An OSError (a closed terminal, a full disk) ends only the call that raised it.
    """
    ended = threading.Event()

    def keep_acting() -> None:
        for seconds, act in acts:
            if ended.wait(seconds):
                return
            with contextlib.suppress(OSError):
                act()

    thread = threading.Thread(target=keep_acting, name="acting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a process to end: Ctrl-C, a cancelled job, a closed terminal."""

STOPPING = (
    "Stopping: what has begun is brought to its end or to its time limit, and what was done is "
    "kept. The same signal once more ends everything at once."
)


def attended(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    directory: Path,
    capture: bool = False,
    each_line: Callable[[str], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program on this process's terminal; the program may stop in its own time on a signal.

    ``environment`` is the program's whole environment. Where ``each_line`` is given, it gets each
    line of the program's standard output instead of the terminal.

    The first of the ``ENDINGS`` that this process receives is passed on to the program once, and
    this process waits for the program to end. A second signal kills the program and all its
    descendants. After the program has ended, this process raises the first signal for itself again,
    with the handler that was set before. Where this process is killed, the program gets SIGTERM, if
    the system has ``setpriv``.
    """
    arguments = [str(argument) for argument in command]
    # A terminal sends Ctrl-C to every process of its foreground process group, so there the program
    # stays in this group. Elsewhere the program gets its own group: a signal to the whole group
    # would reach it twice, directly and through this process.
    terminal = in_foreground()
    asked = _Asked()
    with _handled(dict.fromkeys(ENDINGS, asked)):
        with _handled({signal.SIGHUP: signal.SIG_IGN}):  # the program inherits that
            child = subprocess.Popen(
                [*_follows_its_parent(), *arguments],
                env=environment,
                cwd=directory,
                text=True,
                errors="replace",
                stdout=subprocess.PIPE if capture or each_line else None,
                stderr=subprocess.PIPE if capture else None,
                process_group=None if terminal else 0,
            )
        asked.pass_on_to(child, terminal=terminal)
        try:
            if each_line and child.stdout:
                for line in child.stdout:
                    with contextlib.suppress(OSError):  # a closed output must not end the program
                        each_line(line.rstrip("\n"))
            out, err = child.communicate()
        except BaseException:
            end_tree(child.pid)
            child.wait()
            raise
    if asked.numbers:
        signal.raise_signal(asked.numbers[0])
    return subprocess.CompletedProcess(arguments, child.returncode, out, err)


class _Asked:
    """Signal handler for a running program: passes the first signal on, kills at the second."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._child: subprocess.Popen[str] | None = None
        self._terminal = False

    def pass_on_to(self, child: subprocess.Popen[str], *, terminal: bool) -> None:
        """Pass signals on to ``child``, also a signal that came while ``child`` was started."""
        self._terminal = terminal
        self._child = child
        if self.numbers:
            self._first(child)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP and self.numbers:
            return  # a closed terminal causes two SIGHUP: one of the shell, one of the kernel
        self.numbers.append(number)
        if self._child is None or self._child.returncode is not None:
            return
        if len(self.numbers) == 1:
            self._first(self._child)
        else:
            end_tree(self._child.pid)

    def _first(self, child: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed
            print(STOPPING, file=sys.stderr, flush=True)
        number = self.numbers[0]
        if number == signal.SIGINT and self._terminal:
            return  # the terminal has sent SIGINT to the program as well
        # Pulumi's engine reacts to SIGINT and SIGTERM only (pkg/backend/cancellation_scope.go).
        child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


@contextmanager
def _handled(handlers: Mapping[signal.Signals, _Asked | signal.Handlers]) -> Iterator[None]:
    """Set signal handlers while the context lasts.

    Does nothing outside the main thread: only the main thread may set handlers and receives
    signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@cache
def _follows_its_parent() -> tuple[str, ...]:
    """The command prefix that sends SIGTERM to a program when its parent dies.

    Empty on a system without a ``setpriv`` that can do so.
    """
    prefix = ("setpriv", "--pdeathsig", "TERM")
    return prefix if output([*prefix, "true"]) is not None else ()


def in_foreground() -> bool:
    """Whether the standard input is a terminal whose keys reach this process as signals."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def output(command: Sequence[str | Path], *, timeout: float = 30) -> str | None:
    """The standard output of a program; None where it is absent, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def start_time(pid: int) -> str | None:
    """The start time of a running process, in the kernel's ticks since boot.

    None where the process has ended, also where it is a zombie that its parent has not reaped yet.
    """
    fields = _fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def started_at(pid: int) -> float | None:
    """The start time of a running process, in seconds since 1970 by the present system clock."""
    ticks = start_time(pid)
    if ticks is None:
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(ticks) / os.sysconf("SC_CLK_TCK")


def parent_of(pid: int) -> int | None:
    """The PID of a process's parent (or of the process that adopted it); None where it is gone."""
    fields = _fields(pid)
    return None if fields is None else int(fields[1])


def _fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command name; the first is the process state.

    proc_pid_stat(5) describes them. None where there is no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the command name may contain spaces and parentheses


def descendants(pid: int) -> list[int]:
    """The PIDs of a process's children, and of their children in turn."""
    parents = {int(name): parent_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    pids, looked = [pid], 0
    while looked < len(pids):
        pids += [child for child, parent in parents.items() if parent == pids[looked]]
        looked += 1
    return pids[1:]


def end_tree(pid: int) -> None:
    """Kill a child of this process and all its descendants, whatever process group each is in."""
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def end_group(leader: int) -> None:
    """Kill the process group that ``run`` made for a program."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
