"""Other programs: run to their end, with a log file to look into and no child left behind."""

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
"""The leaders of the groups that ``run`` made and that live."""


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
    """Run a program to its end, its output going to ``log`` and its last line to ``task``.

    The words of ``command`` are strings or paths; ``environment`` is added to this process's own;
    ``timeout`` is in seconds. The program has no standard input and a process group of its own,
    which is ended with it on a time-out or when this process is interrupted. Raises a Problem that
    starts with ``failure`` and names the log.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=4)
    with log.open("a", encoding="utf-8", errors="replace") as record:
        record.write(f"$ {shlex.join(words)}\n")
        record.flush()
        try:
            child = subprocess.Popen(
                words,
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
            raise Problem(f"{failure}: {words[0]}: {error.strerror}", "install it") from error
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
        said = f" ({' / '.join(last)})" if last else ""
        raise Problem(f"{failure}: exit status {status}{said}", f"look into {log}")


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Do work in a thread beside what the context does; the function given waits for its result.

    An error of the work is raised there. Where the context ends with an error, or with a signal,
    the programs that the work runs are ended and nothing waits for it.
    """
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whoever asks for the result gets it
            future.set_exception(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    try:
        yield future.result
        thread.join()
    except BaseException:
        for _ in range(2):  # the second time ends what was just about to be started
            for leader in tuple(_running):
                end_group(leader)
            thread.join(END_WITHIN)
        raise


END_WITHIN = 5
"""Seconds for a thread whose programs were ended."""


@contextmanager
def acting(acts: Iterable[tuple[float, Callable[[], None]]]) -> Iterator[None]:
    """Do each act so many seconds after the last one, in a thread, while the context lasts.

    An OSError, as of a terminal that has gone or of a full disk, ends that act alone.
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
"""Ctrl-C, a job that is cancelled, a terminal that is closed."""

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
    """Run a program with this process's terminal and let it stop by itself when asked to end.

    ``environment`` is the whole of its environment. ``each_line`` gets the lines of the program's
    standard output as they come, in the terminal's place. The first signal that asks this process
    to end reaches the program once, and its end is waited for; a second one kills the program and
    all that it started. Once the program has ended, the signal does what it would have done to this
    process. Where this process is killed, the program is asked to end as well.
    """
    words = [str(word) for word in command]
    # A terminal gives Ctrl-C to every process of the group in its foreground. Anywhere else the
    # program has a group of its own, or a signal to the whole group would reach it twice.
    terminal = in_foreground()
    asked = _Asked()
    with _handled(dict.fromkeys(ENDINGS, asked)):
        with _handled({signal.SIGHUP: signal.SIG_IGN}):  # which the program inherits
            child = subprocess.Popen(
                [*_follows_its_parent(), *words],
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
                    with contextlib.suppress(OSError):  # nobody reads on, and the program goes on
                        each_line(line.rstrip("\n"))
            out, err = child.communicate()
        except BaseException:
            end_tree(child.pid)
            child.wait()
            raise
    if asked.numbers:
        signal.raise_signal(asked.numbers[0])
    return subprocess.CompletedProcess(words, child.returncode, out, err)


class _Asked:
    """The signals that asked this process to end while a program runs, and what they do to it."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._child: subprocess.Popen[str] | None = None
        self._terminal = False

    def pass_on_to(self, child: subprocess.Popen[str], *, terminal: bool) -> None:
        """Pass signals on to a program, also those that came while it was started."""
        self._terminal = terminal
        self._child = child
        if self.numbers:
            self._first(child)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP and self.numbers:
            return  # a terminal that is closed sends it twice: by its shell and by the kernel
        self.numbers.append(number)
        if self._child is None or self._child.returncode is not None:
            return
        if len(self.numbers) == 1:
            self._first(self._child)
        else:
            end_tree(self._child.pid)

    def _first(self, child: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print(STOPPING, file=sys.stderr, flush=True)
        number = self.numbers[0]
        if number == signal.SIGINT and self._terminal:
            return  # it has got it itself
        # Pulumi's engine stops for two of the three (pkg/backend/cancellation_scope.go).
        child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)


@contextmanager
def _handled(handlers: Mapping[signal.Signals, _Asked | signal.Handlers]) -> Iterator[None]:
    """Have signals handled so; only the main thread may say it, and only it gets them."""
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
    """The words before a command that end it with its parent, on a system that has them."""
    words = ("setpriv", "--pdeathsig", "TERM")
    return words if output([*words, "true"]) is not None else ()


def in_foreground() -> bool:
    """Whether the standard input is a terminal whose keys reach this process as signals."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def output(command: Sequence[str | Path], *, timeout: float = 30) -> str | None:
    """What a program prints, or nothing where it is absent, fails or takes too long."""
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
    """When a living process started, in the kernel's ticks since boot.

    A process that was killed and that its parent has not asked for yet does not live any more.
    """
    fields = _fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def started_at(pid: int) -> float | None:
    """When a living process started, in seconds since 1970 by today's clock."""
    ticks = start_time(pid)
    if ticks is None:
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(ticks) / os.sysconf("SC_CLK_TCK")


def parent_of(pid: int) -> int | None:
    """The process that started a process, or that took it over; nothing where it has ended."""
    fields = _fields(pid)
    return None if fields is None else int(fields[1])


def _fields(pid: int) -> list[str] | None:
    """The fields of a process behind its name (proc_pid_stat(5)), the state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the command before it may hold anything


def descendants(pid: int) -> list[int]:
    """The living processes that a process started, and those that these started."""
    parents = {int(name): parent_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found, looked = [pid], 0
    while looked < len(found):
        found += [child for child, parent in parents.items() if parent == found[looked]]
        looked += 1
    return found[1:]


def end_tree(pid: int) -> None:
    """Kill a child of this process and all that it started, in whatever groups they are."""
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def end_group(leader: int) -> None:
    """Kill the process group that ``run`` made for a child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
