"""A server of the lab that outlives the command that started it, and is found again and ended.

Its record is a JSON file with its process and its properties. The new process writes it and prints
the same as one line on standard output, or the two parts of a Problem.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.cache import write_atomically
from lab.paths import PROJECT
from lab.problem import Problem
from lab.process import start_time

START_WITHIN = 120.0
"""Seconds until a process serves. It needs a tenth of one, and a hundred times that beside machines
that boot. A process that ends before is noticed at once."""
END_WITHIN = 5.0


def find(record: Path) -> dict[str, Any] | None:
    """The properties of the process of a record, if it runs.

    A record of a process that has died, or from before a reboot, does not count.
    """
    try:
        properties: dict[str, Any] = json.loads(record.read_text())
        is_running = start_time(properties["pid"]) == properties["started"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return properties if is_running else None


def start(name: str, command: Sequence[str], log: Path) -> dict[str, Any]:
    """Start a process that calls ``announce`` or ``refuse``, and return its properties.

    ``name`` is used in messages. Raises a Problem where it does not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=PROJECT,
                start_new_session=True,
            )
        except OSError as error:
            raise Problem(f"the {name} does not start ({error})", f"look into {log}") from error
    answer = _answer(child)
    if "pid" in answer:
        child.returncode = 0  # it outlives this process, which need not wait for its end
        return answer
    child.kill()
    child.wait()
    if "what" in answer:
        raise Problem(answer["what"], answer["remedy"])
    raise Problem(f"the {name} does not start", f"look into {log}")


def _answer(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The line of JSON that the new process prints; empty where none comes in time."""
    assert child.stdout is not None
    with child.stdout as pipe:
        ready = select.select([pipe], [], [], START_WITHIN)[0]
        line = pipe.readline() if ready else b""
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return answer


def stop(record: Path) -> None:
    """End the process of a record if it runs, and remove the record."""
    running = find(record)
    if running is not None:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(running["pid"])
            try:
                # Check again: the PID could pass to another process before the pidfd was open.
                if find(record) == running:
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                    if not select.select([descriptor], [], [], END_WITHIN)[0]:
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        select.select([descriptor], [], [], END_WITHIN)
            finally:
                os.close(descriptor)
    record.unlink(missing_ok=True)


# -- in the new process ----------------------------------------------------------------------------


def announce(record: Path | None, properties: Mapping[str, Any]) -> None:
    """Write this process's record and tell its parent that it serves; no output follows."""
    facts = {"pid": os.getpid(), "started": start_time(os.getpid()) or "", **properties}
    content = json.dumps(facts)
    if record:
        write_atomically(record, content.encode())
    print(content, flush=True)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.chdir("/")


def refuse(what: str, remedy: str) -> None:
    """Tell the parent why this process cannot serve."""
    print(json.dumps({"what": what, "remedy": remedy}), flush=True)
