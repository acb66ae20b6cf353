"""``drift``: whether the machines still hold what the stack's plan says."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.markup import escape

from lab.problem import Problem
from ops.display import stdout
from ops.reach import AUTHORITIES, KEYS, reach, resources, revealed, state_of
from ops.stacks import StackOption
from plan.cluster import cluster_plan
from plan.held import Difference, compared, held, secret_digests
from plan.material import kept_material
from probe.machines import Unreachable
from probe.observation import Wanted, everywhere
from spec.cluster import Cluster, SpecError

Found = Mapping[str, tuple[Difference, ...] | Unreachable]


class Verdict(IntEnum):
    """What became of the question; the exit code."""

    CLEAN = 0
    DRIFTED = 1
    UNKNOWN = 2


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command(rich_help_panel="A cluster")(drift)


def drift(
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare every machine with its plan, changing nothing: files, services, programs, settings.

    Exit code 0: no drift. 1: a machine is not as its plan says. 2: a machine could not be asked.
    What others own, such as a certificate that the kubelet rotates, is no drift.
    """
    reached = reach(stack)
    try:
        wanted = wanted_of(reached.spec, state_of(reached.stack))
    except SpecError as error:
        raise Problem(str(error), "change it and run the same command again") from error
    up = {name: one for name, one in wanted.items() if name in reached.access.machines}
    asked = asyncio.run(everywhere(reached.access, up))
    found = {name: asked.get(name, Unreachable("it is not up yet")) for name in wanted}
    result = verdict(found)
    if as_json:
        print(json.dumps(told(found), indent=1))
    else:
        stdout.print(
            "\n".join(lines(found, {name: len(one.items) for name, one in wanted.items()}))
        )
        stdout.print("\n".join(_next(result, "" if stack == "dev" else f" --stack {stack}")))
    raise typer.Exit(int(result))


def wanted_of(spec: Cluster, state: Mapping[str, Any]) -> dict[str, Wanted]:
    """What every machine must hold: the plan's, with the keys of an exported state.

    Raises SpecError where there is no plan. Of a machine without keys no secret file is compared
    with success, since it was not made yet.
    """
    kept = {name: revealed(one.get("outputs", {})).get("kept") for name, one in resources(state)}
    plan, every = cluster_plan(spec), {}
    for node in spec.machines:
        whole = compared(spec, plan, node)
        keys = kept.get(f"{node}{KEYS}")
        digests = dict.fromkeys((file.path for file in whole.secret_files), "")
        if keys and kept.get(AUTHORITIES):
            digests = secret_digests(whole, kept_material(spec.name, kept[AUTHORITIES], keys))
        every[node] = Wanted(items=held(whole), secrets=digests)
    return every


def verdict(found: Found) -> Verdict:
    """A machine that could not be asked counts more than one that differs: it may differ too."""
    if any(isinstance(one, Unreachable) for one in found.values()):
        return Verdict.UNKNOWN
    return Verdict.DRIFTED if any(found.values()) else Verdict.CLEAN


def told(found: Found) -> dict[str, Any]:
    """The same for programs."""
    machines = {
        name: {"asked": False, "error": str(one)}
        if isinstance(one, Unreachable)
        else {
            "asked": True,
            "differences": [
                {
                    "kind": each.item.kind,
                    "name": each.item.name,
                    "is": each.observed,
                    "should_be": each.item.wanted,
                    "step": each.item.step,
                }
                for each in one
            ],
        }
        for name, one in found.items()
    }
    return {"verdict": verdict(found).name.lower(), "machines": machines}


def lines(found: Found, compared: Mapping[str, int]) -> Iterator[str]:
    """A line for each thing that differs and for each machine where none does."""
    for name, one in found.items():
        machine = f"[bold]{escape(name)}[/]"
        if isinstance(one, Unreachable):
            yield f"[bold yellow]unknown[/]  {machine}: {escape(str(one))}"
        elif not one:
            yield f"[green]holds[/]    {machine}: all of {compared[name]} things"
        for each in () if isinstance(one, Unreachable) else one:
            yield f"[bold red]differs[/]  {machine}: {escape(_short(each.sentence))}"


def _short(sentence: str) -> str:
    """With the beginnings of digests, by which people tell them apart."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", sentence)


def _next(result: Verdict, option: str) -> Iterator[str]:
    match result:
        case Verdict.CLEAN:
            yield "[bold green]No machine has drifted.[/]"
        case Verdict.DRIFTED:
            yield f"Mend exactly that with ./hardway up --refresh{option}"
        case Verdict.UNKNOWN:
            yield "[bold yellow]Not every machine could be asked.[/]"
            yield f"./hardway status shows what runs. ./hardway up --refresh{option} mends the rest"
