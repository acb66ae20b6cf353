"""Other programs: run to their end, with a log file to look into and no child left behind."""

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.problem import Problem
from lab.progress import Task


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
            timer.cancel()
    if expired.is_set():
        raise Problem(f"{failure}: not done after {timeout:.0f} s", f"look into {log}")
    if status != 0:
        said = f" ({' / '.join(last)})" if last else ""
        raise Problem(f"{failure}: exit status {status}{said}", f"look into {log}")


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
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command before it may hold anything
    return None if fields[0] in "ZX" else fields[19]


def end_group(leader: int) -> None:
    """Kill the process group that ``run`` made for a child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
