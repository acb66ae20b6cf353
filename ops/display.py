"""Shows progress and results: live lines on a terminal, plain lines elsewhere."""

import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from lab.progress import PlainProgress, Progress, Task
from ops.critical_path import Span, rows

stdout = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
stderr = Console(stderr=True, highlight=False)


HEALTHY = "[bold green]The cluster is healthy.[/]"


def condition_line(name: str, waits_for: str, *, holds: bool) -> str:
    """A line about one condition of a cluster that is readable at any width of the terminal."""
    mark = "[green]holds[/]" if holds else "[bold red]fails[/]"
    return f"{mark}  [bold]{name}[/]: {escape(waits_for)}"


def path_table(path: Sequence[Span], title: str) -> Table:
    """What an update waited for, one after the other: its critical path."""
    table = Table("waited for", "seconds", "share", "from", "to", title=title)
    for row in rows(path):
        table.add_row(*row)
    return table


def option_of(stack: str) -> str:
    """The ``--stack`` option to show in an advised command; empty for the default stack."""
    return "" if stack == "dev" else f" --stack {stack}"


def agreed(question: str, otherwise: str) -> bool:
    """Ask the user for consent; without a terminal print ``otherwise``, and return False."""
    if not at_terminal():
        stdout.print(otherwise, markup=False)
        return False
    return typer.confirm(question)


def at_terminal() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def note_line(sentence: str | None) -> list[str]:
    """A list of one line with something to know, such as what is not applied yet, or of none."""
    return [f"[yellow]note[/]     {escape(sentence)}"] if sentence else []


class _LiveTask:
    def __init__(self, bars: Bars, identifier: TaskID) -> None:
        self._bars = bars
        self._identifier = identifier

    def note(self, text: str) -> None:
        self._bars.update(self._identifier, detail=text)


class LiveProgress:
    """Shows a spinner, the elapsed time and the last line of the log for each step under way."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: Bars | None = None
        """One display for all steps under way, since a terminal can show only one at a time."""
        self._under_way = 0

    def say(self, text: str) -> None:
        stderr.print(text, markup=False)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        with self._lock:
            bars = self._bars = self._bars or _bars()
            bars.start()
            self._under_way += 1
            identifier = bars.add_task(title, total=1, detail="")
        try:
            yield _LiveTask(bars, identifier)
            bars.update(identifier, completed=1, detail="")
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    bars.stop()
                    self._bars = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        with self._lock:
            if self._bars:
                self._bars.stop()
            try:
                yield
            finally:
                if self._bars:
                    self._bars.start()


def _bars() -> Bars:
    return Bars(
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn(
            "[dim]{task.fields[detail]}[/]",
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=stderr,
        expand=True,
    )


@functools.cache
def progress() -> Progress:
    """The progress display for standard error: live on a terminal, else plain."""
    return LiveProgress() if stderr.is_terminal else PlainProgress()
