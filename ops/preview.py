"""The command ``preview``, which shows what a change will do to each machine."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lab.cache import write_atomically
from lab.paths import PROJECT, lab_paths
from lab.problem import Problem
from ops.display import stdout
from ops.stacks import StackOption, read_cluster, ready_stack
from policy.rules import judge
from preview.change import ResourceChange
from preview.comparing import changes
from preview.engine import NotPreviewed, changes_of
from preview.markdown import markdown
from preview.recording import NotDeclared, Recording, recorded
from preview.registration import Registration
from preview.review import Finding, Review
from preview.reviewing import NoSpecification, reviewed
from preview.revision import NoRevision, checked_out, compared_with, named
from preview.terminal import shown
from preview.urn import name_of

REFUSED = "refused-change"
"""The name of the rule in a finding that comes from a provider."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(preview)


def preview(
    stack: StackOption = "dev",
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION",
            help="What to compare with; left out, where the checkout left the main branch.",
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Compare with the stack's state, as `pulumi preview` does."),
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="With `--live`: ask the machines for drift first.")
    ] = False,
    to_markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="For a comment on a pull request."),
    ] = None,
    to_page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="One HTML file with everything in it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a change does: machines, files line by line, certificates, restarts.

    Without `--live` nothing but the checkout is needed: no state, no secret, no machine. Exit code
    0: it can be done. 1: a rule of the policy is broken, or a living cluster cannot take it.

    Examples: `./hardway preview` for what this branch changes, `./hardway preview --base HEAD~1`
    for the last commit, `./hardway preview --live --refresh` for what `up --refresh` would do to
    the cluster that runs, `./hardway preview --page report.html` for a large change
    """
    if refresh and not live:
        raise Problem(
            "--refresh asks the machines, which a comparison of revisions does not know",
            "add --live",
        )
    if base and live:
        raise Problem("--base and --live are two things to compare with", "give one of them")
    started = time.monotonic()
    review = _live(stack, refresh=refresh) if live else _of_revisions(stack, base)
    for file, text in ((to_markdown, markdown), (to_page, _page)):
        if file:
            write_atomically(file, text(review).encode())
    if as_json:
        print(json.dumps(asdict(review), indent=1))
    else:
        for line in shown(review):
            stdout.print(line)
        stdout.print(f"[dim]{time.monotonic() - started:.1f} s[/]")
    if review.findings:
        raise typer.Exit(1)


def _page(review: Review) -> str:
    from preview.page import page  # imported here, since only --page needs it

    return page(review)


# -- two revisions ---------------------------------------------------------------------------------


def _of_revisions(stack: str, base: str | None) -> Review:
    try:
        revision = base or compared_with(PROJECT)
        name = named(PROJECT, revision)
        with checked_out(PROJECT, revision) as folder:
            before = _recorded(folder, stack, name, ())
        after = _recorded(PROJECT, stack, "this checkout", before.registrations)
    except NoRevision as error:
        sentence, _, step = str(error).partition(": ")
        raise Problem(sentence, step or "name another one with --base") from error
    changed = changes(before.registrations, after.registrations)
    return _meaning(
        changed,
        before=name,
        after="this checkout",
        refused=[
            Finding(rule=REFUSED, resource=name_of(urn), sentence=sentence)
            for urn, sentences in after.refused.items()
            for sentence in sentences
        ],
        notes=_notes(after),
        stack=stack,
    )


def _recorded(folder: Path, stack: str, name: str, held: Sequence[Registration]) -> Recording:
    try:
        return recorded(folder, stack, held)
    except NotDeclared as error:
        raise Problem(
            f"Pulumi.{stack}.yaml of {name} cannot be declared: {error}",
            "mend that, or compare with another revision (--base)",
        ) from error


def _notes(after: Recording) -> list[str]:
    names = ", ".join(after.unknown)
    note = f"What is known only once it is built has a digest of its name here: {names}."
    return [note] if names else []


# -- the real stack --------------------------------------------------------------------------------


def _live(stack: str, *, refresh: bool) -> Review:
    read_cluster(stack)
    ready = ready_stack(stack, lab_paths())
    ready.create()
    arguments = ["preview", "--json", "--show-sames", *(["--refresh"] if refresh else [])]
    done = ready.pulumi(*arguments, capture=True)
    try:
        changed = changes_of(done.stdout, succeeded=done.returncode == 0)
    except NotPreviewed as error:
        raise Problem(
            f"pulumi preview cannot say what would be done: {error} {done.stderr.strip()}".strip(),
            "mend that and run it again",
        ) from error
    return _meaning(
        changed,
        before="the stack's state",
        after="this checkout",
        refused=(),
        notes=(),
        stack=stack,
    )


def _meaning(
    changed: Sequence[ResourceChange],
    *,
    before: str,
    after: str,
    refused: Sequence[Finding],
    notes: Sequence[str],
    stack: str,
) -> Review:
    known = {finding.sentence for finding in refused}
    broken = [finding for finding in judge(changed) if finding.sentence not in known]
    try:
        return reviewed(
            changed, before=before, after=after, findings=(*refused, *broken), notes=notes
        )
    except NoSpecification as error:
        raise Problem(
            f"the stack '{stack}' has no Pulumi.{stack}.yaml, neither here nor in {before}",
            "write one, or name another stack with --stack",
        ) from error
