"""The interface by which the lab reports its work, and two simple implementations."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class Task(Protocol):
    """A step that is under way."""

    def note(self, text: str) -> None:
        """Show a detail of the step: the last line of its log, or how much of it is done."""


class Progress(Protocol):
    """Shows steps and facts to the user."""

    def say(self, text: str) -> None:
        """Show a fact: what was chosen and why."""

    def task(self, title: str) -> AbstractContextManager[Task]:
        """Show a step with its elapsed time while the context lasts; steps may overlap."""

    def asking(self) -> AbstractContextManager[None]:
        """Stop drawing on the terminal while the context lasts, so that it can show a question."""


class _PlainTask:
    def __init__(self) -> None:
        self.text = ""

    def note(self, text: str) -> None:
        self.text = text


class PlainProgress:
    """Prints lines on standard error: for logs, for pipes, and before any library is installed.

    During a long step it prints a line every ``heartbeat`` seconds, so that a log shows activity.
    """

    def __init__(self, heartbeat: float = 30.0) -> None:
        self._heartbeat = heartbeat

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        started = time.monotonic()
        task = _PlainTask()
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._heartbeat):
                detail = f": {task.text}" if task.text else ""
                self.say(f"  {title}, {time.monotonic() - started:.0f} s so far{detail}")

        self.say(f"- {title} ...")
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        outcome = "failed"
        try:
            yield task
            outcome = "done"
        finally:
            ended.set()
            thread.join()
            self.say(f"  {title}: {outcome} after {time.monotonic() - started:.1f} s")

    def asking(self) -> AbstractContextManager[None]:
        return nullcontext()


class Silence:
    """Shows nothing."""

    def say(self, text: str) -> None:
        del text

    def asking(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        del title
        yield _PlainTask()
