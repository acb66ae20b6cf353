"""The command ``validate``, which checks each condition of a cluster's health."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer
from rich.markup import escape

from certs.renewal import moment
from certs.signing import TRUSTED
from lab.problem import Problem
from ops import expiry
from ops.display import HEALTHY, condition_line, note_line, option_of, progress, stdout
from ops.exit_codes import ExitCode
from ops.reach import kept_authorities, reach
from ops.stacks import StackOption
from plan.condition import Condition
from plan.conditions import conditions
from probe.api import ApiError
from probe.watch import Outcome, run_watch
from spec.refusal import listed


class Health(Enum):
    """The health of a cluster."""

    HEALTHY = ExitCode.WELL
    BROKEN = ExitCode.WRONG
    USABLE_WITH_ERRORS = ExitCode.WARNED


ESSENTIAL = ("members", "api-servers")
"""Kinds of checks whose failure makes a cluster unusable."""

WHOLLY = ("nodes", "space")
"""Kinds of checks whose failure makes a cluster unusable only if it is total: no node, no room."""

SENTENCES = {
    Health.HEALTHY: HEALTHY,
    Health.BROKEN: "[bold red]The cluster is broken.[/]",
    Health.USABLE_WITH_ERRORS: "[bold yellow]The cluster can be used, with errors.[/]",
}


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(validate)


def validate(
    stack: StackOption = "dev",
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for it to become healthy.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Ask a running cluster whether it is well, changing nothing.

    It is compared with what was applied and not with what the stack's file says since. Certificates
    that end within 30 days are named.

    Exit code 0: every condition holds. 1: broken (etcd, its room, an API server or every node). 2:
    it can be used, and a condition fails or a certificate ends within 30 days. 3: nothing can be
    asked, since the lab does not run or the stack is not up.

    Examples: `./hardway validate`, after a start `./hardway validate --wait 300`
    """
    reached = reach(stack)
    asked = conditions(reached.spec)
    try:
        outcomes = run_watch(asked, reached.access, say=progress().say, limit=wait)
    except ApiError as error:
        raise Problem(str(error), f"make it again with ./hardway up --stack {stack}") from error
    health = verdict({condition.name: condition.check.kind for condition in asked}, outcomes)
    ending = expiry.ending_soon(reached.state)
    trusted = still_trusted(reached.state, option_of(stack))
    if as_json:
        report = {
            "verdict": health.name.lower(),
            "conditions": [asdict(outcome) for outcome in outcomes],
            "certificates": expiry.as_data(ending),
            "trusted": trusted,
            "unapplied": reached.unapplied,
        }
        print(json.dumps(report, indent=1))
    else:
        stdout.print("\n".join([*_lines(asked, outcomes), SENTENCES[health]]))
        notes = (*note_line(trusted), *note_line(reached.unapplied))
        for line in (*expiry.lines(ending, option_of(stack)), *notes):
            stdout.print(line)
    raise typer.Exit(int(exit_code(health, ending)))


def still_trusted(state: Mapping[str, Any], option: str) -> str | None:
    """A sentence about key pairs whose tokens are accepted although another one signs.

    None where there are none, or the state has no keys. ``option`` names the stack.
    """
    authorities = kept_authorities(state)
    if authorities is None:
        return None
    pairs = authorities.service_accounts
    if pairs.since is None:
        return None
    return (
        f"{pairs.current} signs the tokens of service accounts, and those of "
        f"{listed(pairs.former, 'and')} are accepted until the first ./hardway up{option} after "
        f"{moment(pairs.since + TRUSTED)}"
    )


def exit_code(health: Health, ending: Sequence[expiry.Ending]) -> ExitCode:
    """The exit code; a certificate that ends soon changes it only where the cluster is healthy."""
    return ExitCode.WARNED if health is Health.HEALTHY and ending else health.value


def verdict(kinds: Mapping[str, str], outcomes: Sequence[Outcome]) -> Health:
    """The cluster's health by the outcomes; ``kinds`` is condition name to kind of check."""
    failed = [(kinds[outcome.name], outcome) for outcome in outcomes if not outcome.holds]
    if any(kind in ESSENTIAL or (kind in WHOLLY and outcome.wholly) for kind, outcome in failed):
        return Health.BROKEN
    return Health.USABLE_WITH_ERRORS if failed else Health.HEALTHY


def demand_held(
    asked: Sequence[Condition],
    outcomes: Sequence[Outcome],
    before: str,
    remedy: str,
    after: str = "",
) -> None:
    """Raise a Problem about the first of these conditions that a command awaited in vain.

    ``before`` and ``after`` stand around the reason.
    """
    for condition, outcome in zip(asked, outcomes, strict=True):
        if not outcome.holds:
            raise Problem(
                f"{before}not so after {outcome.seconds:.0f} s: {condition.waits_for} "
                f"({outcome.error}){after}",
                remedy,
            )


def again(option: str) -> str:
    """What a person does where a command may simply be run again; ``option`` names the stack."""
    return f"./hardway validate{option} says what else is not so; this command can be run again"


def _lines(asked: Sequence[Condition], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each condition, followed by a line with its last error, if any."""
    for condition, outcome in zip(asked, outcomes, strict=True):
        yield condition_line(condition.name, condition.waits_for, holds=outcome.holds)
        if outcome.error:
            yield f"       {escape(outcome.error)}"
