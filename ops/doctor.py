"""The command ``doctor``, which prints a table of everything that could stop an ``up``."""

import typer
from rich.table import Table

from lab.cache import Cache
from lab.doctor import Verdict, findings
from lab.paths import lab_paths
from ops.display import stdout
from ops.stacks import StackOption, read_cluster

COLOURS = {
    Verdict.GOOD: "green",
    Verdict.DONE_BY_UP: "yellow",
    Verdict.SLOW: "yellow",
    Verdict.PROBLEM: "bold red",
}


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(doctor)


def doctor(stack: StackOption = "dev") -> None:
    """Check this machine before an `up`, changing nothing; exit code 1 if something stops it.

    Examples: `./hardway doctor`, for the machines of another stack `./hardway doctor --stack lab2`
    """
    table = Table("subject", "", "seen", "what to do")
    rows = list(findings(lab_paths(), Cache(), lambda: read_cluster(stack), stack))
    for row in rows:
        colour = COLOURS[row.verdict]
        table.add_row(row.subject, f"[{colour}]{row.verdict}[/]", row.seen, row.remedy)
    stdout.print(table)
    if any(row.verdict is Verdict.PROBLEM for row in rows):
        raise typer.Exit(1)
