"""Runs a program and kills the processes it leaves: ``python -m ops.keeper PROGRAM ARGUMENTS``.

Tests start servers, containers and whole engines, many of them in separate sessions. Where the
tests are killed, nothing else ends these processes. The kernel makes this process the parent of
every descendant whose parent has died (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from lab.process import ENDINGS, descendants, in_foreground

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PATIENCE = 60
"""Seconds within which an interrupted program has to end before it is killed."""


def keep(command: Sequence[str]) -> int:
    """Run a program to its end, kill the processes it leaves, and return its exit status.

    A signal that asks this process to end sends SIGINT to the program, as Ctrl-C does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    program = subprocess.Popen(command).pid

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        # In the foreground the terminal has sent SIGINT to the program as well.
        if number != signal.SIGINT or not in_foreground():
            os.kill(program, signal.SIGINT)
        signal.alarm(PATIENCE)

    for number in ENDINGS:
        signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(program, signal.SIGKILL))
    ended = 0
    while ended != program:
        ended, status = os.wait()
    for number in (*ENDINGS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while left := descendants(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.wait()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
