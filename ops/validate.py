"""``validate``: whether a cluster is well, condition by condition."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import IntEnum
from typing import Annotated

import typer
from rich.markup import escape

from lab.problem import Problem
from ops.display import HEALTHY, condition_line, progress, stdout
from ops.reach import reach
from ops.stacks import StackOption
from plan.conditions import Condition, conditions
from probe.api import ApiError
from probe.watch import Outcome, run_watch


class Verdict(IntEnum):
    """How a cluster is; the exit code."""

    HEALTHY = 0
    BROKEN = 1
    USABLE_WITH_ERRORS = 2


ESSENTIAL = ("members", "api-servers")
"""Kinds of checks without which a cluster cannot be used at all."""

SENTENCES = {
    Verdict.HEALTHY: HEALTHY,
    Verdict.BROKEN: "[bold red]The cluster is broken.[/]",
    Verdict.USABLE_WITH_ERRORS: "[bold yellow]The cluster can be used, with errors.[/]",
}


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command(rich_help_panel="A cluster")(validate)


def validate(
    stack: StackOption = "dev",
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for it to become healthy.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Ask a running cluster whether it is well, changing nothing.

    Exit code 0: every condition holds. 1: broken (etcd, an API server or every node fails). 2: it
    can be used, with errors.
    """
    reached = reach(stack)
    asked = conditions(reached.spec)
    try:
        outcomes = run_watch(asked, reached.access, say=progress().say, limit=wait)
    except ApiError as error:
        raise Problem(str(error), f"make it again with ./hardway up --stack {stack}") from error
    found = verdict({one.name: one.check.kind for one in asked}, outcomes)
    if as_json:
        told = {"verdict": found.name.lower(), "conditions": [asdict(one) for one in outcomes]}
        print(json.dumps(told, indent=1))
    else:
        stdout.print("\n".join(_lines(asked, outcomes)))
        stdout.print(SENTENCES[found])
    raise typer.Exit(int(found))


def verdict(kinds: Mapping[str, str], outcomes: Sequence[Outcome]) -> Verdict:
    """What the outcomes come to; ``kinds`` is the kind of check of each condition by name."""
    failed = [(kinds[one.name], one) for one in outcomes if not one.holds]
    if any(kind in ESSENTIAL or (kind == "nodes" and one.wholly) for kind, one in failed):
        return Verdict.BROKEN
    return Verdict.USABLE_WITH_ERRORS if failed else Verdict.HEALTHY


def _lines(asked: Sequence[Condition], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each condition, and its last error below."""
    for condition, outcome in zip(asked, outcomes, strict=True):
        yield condition_line(condition.name, condition.waits_for, holds=outcome.holds)
        if outcome.error:
            yield f"       {escape(outcome.error)}"
