"""How the lab's progress is shown: live lines on a terminal, plain ones elsewhere."""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from lab.progress import PlainProgress, Progress, Task

stdout = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
stderr = Console(stderr=True, highlight=False)


HEALTHY = "[bold green]The cluster is healthy.[/]"


def condition_line(name: str, waits_for: str, *, holds: bool) -> str:
    """One condition of a cluster, in a form that is readable at any width."""
    mark = "[green]holds[/]" if holds else "[bold red]fails[/]"
    return f"{mark}  [bold]{name}[/]: {escape(waits_for)}"


def option_of(stack: str) -> str:
    """What names a stack in a command for people: nothing for the default one."""
    return "" if stack == "dev" else f" --stack {stack}"


def unapplied_line(sentence: str | None) -> list[str]:
    """A line where the stack's file does not say what was applied, else none."""
    return [f"[yellow]note[/]     {escape(sentence)}"] if sentence else []


class _LiveTask:
    def __init__(self, bars: Bars, identifier: TaskID) -> None:
        self._bars = bars
        self._identifier = identifier

    def note(self, text: str) -> None:
        self._bars.update(self._identifier, detail=text)


class LiveProgress:
    """A spinner, the elapsed time and the last line of the log for each step under way."""

    def say(self, text: str) -> None:
        stderr.print(text, markup=False)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        with Bars(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn(
                "[dim]{task.fields[detail]}[/]",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=stderr,
            expand=True,
        ) as bars:
            identifier = bars.add_task(title, total=1, detail="")
            yield _LiveTask(bars, identifier)
            bars.update(identifier, completed=1, detail="")


@functools.cache
def progress() -> Progress:
    """The progress display that fits where standard error goes."""
    return LiveProgress() if stderr.is_terminal else PlainProgress()
