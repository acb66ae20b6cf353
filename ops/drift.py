"""The command ``drift``, which compares the machines with the applied plan."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Annotated, Any

import typer
from rich.markup import escape

from lab.problem import Problem
from ops import expiry
from ops.display import option_of, stdout, unapplied_line
from ops.exit_codes import ExitCode
from ops.reach import (
    kept_backup_keys,
    kept_by_cluster,
    kept_by_machines,
    reach,
    resources,
    revealed,
)
from ops.stacks import StackOption
from plan import layout
from plan.cluster import cluster_plan
from plan.contents import ITEMS, Unreadable, unpacked
from plan.held import Difference, absent, compared, held, scripts, secret_digests
from plan.material import kept_material
from preview import kinds
from probe.machines import Unreachable
from probe.observation import Wanted, everywhere
from spec.cluster import Cluster, SpecError
from spec.resource_names import AUTHORITIES

Found = Mapping[str, tuple[Difference, ...] | Unreachable]


class Comparison(Enum):
    """The result of the comparison of all machines."""

    CLEAN = ExitCode.WELL
    DRIFTED = ExitCode.WRONG
    UNKNOWN = ExitCode.UNASKED


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(drift)


def drift(
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare every machine with what was applied, changing nothing.

    Files, services, programs, kernel settings, Node objects. What the stack's file says since, and
    what others own, such as what a kubelet writes, is no drift. Certificates that end within 30
    days are named.

    Exit code 0: all is as it was applied. 1: a machine has drifted. 2: none has, and a certificate
    ends within 30 days. 3: a machine does not answer, or nothing can be asked at all, since the lab
    does not run or the stack is not up.

    Examples: `./hardway drift`, for programs `./hardway drift --json`
    """
    reached = reach(stack)
    try:
        wanted = wanted_of(reached.spec, reached.state)
    except SpecError as error:
        raise Problem(str(error), "change it and run the same command again") from error
    up = {name: machine for name, machine in wanted.items() if name in reached.access.machines}
    asked = asyncio.run(everywhere(reached.access, up))
    differences = {name: asked.get(name, Unreachable("it is not up yet")) for name in wanted}
    ending = expiry.ending_soon(reached.state)
    if as_json:
        more = {"certificates": expiry.as_data(ending), "unapplied": reached.unapplied}
        print(json.dumps(as_data(differences) | more, indent=1))
    else:
        result, option = verdict(differences), option_of(stack)
        counts = {name: len(machine.items) for name, machine in wanted.items()}
        every = [*lines(differences, counts), *_next(result, option), *expiry.lines(ending, option)]
        stdout.print("\n".join([*every, *unapplied_line(reached.unapplied)]))
    raise typer.Exit(int(exit_code(verdict(differences), ending)))


def exit_code(result: Comparison, ending: Sequence[expiry.Ending]) -> ExitCode:
    """The exit code; a certificate that ends soon changes it only where no machine has drifted."""
    if result is Comparison.CLEAN and ending:
        return ExitCode.WARNED
    return result.value


def wanted_of(spec: Cluster, state: Mapping[str, Any]) -> dict[str, Wanted]:
    """Machine name to the content that the machine must have.

    ``state`` is an exported state with secrets in plain text. The machine's guard in it keeps the
    plan that was applied, whichever version of the program made it. Where a machine has no guard
    yet, or one in another version's format, the content comes from this program's plan for the
    spec. Raises SpecError where there is no such plan.
    """
    guarded = dict(_guarded(state))
    rest = [node for node in spec.machines if node not in guarded]
    planned = _planned(spec, rest, state) if rest else {}
    return {node: (guarded | planned)[node] for node in spec.machines}


def _guarded(state: Mapping[str, Any]) -> Iterator[tuple[str, Wanted]]:
    """Pairs of machine name and expected content, from the guards in the state."""
    for _, resource in resources(state):
        if resource["type"] != kinds.GUARD:
            continue
        kept = revealed(resource["outputs"])
        with suppress(Unreadable):
            items, secrets = unpacked(ITEMS, kept.get("items", "")), json.loads(kept["secrets"])
            yield json.loads(kept["login"])["node"], Wanted(items=items, secrets=secrets)


def _planned(spec: Cluster, nodes: Iterable[str], state: Mapping[str, Any]) -> dict[str, Wanted]:
    """The content of machines by this program's plan, with the keys of a state.

    A machine without keys gets an empty digest for each secret file, which no file matches: the
    machine was not set up yet. The passwords of registries are only in guards, so their file is
    not compared. Raises SpecError where there is no plan.
    """
    authorities = kept_by_cluster(state).get(AUTHORITIES)
    kept, backups = kept_by_machines(state), kept_backup_keys(state)
    plan, every = cluster_plan(spec), {}
    for node in nodes:
        whole = compared(spec, plan.nodes[node])
        keys = kept.get(node)
        digests = dict.fromkeys((file.path for file in whole.secret_files), "")
        if keys and authorities and (backups or not spec.backup):
            unknown = dict.fromkeys(spec.registries, "")
            made = kept_material(spec.name, authorities, keys, unknown, backups)
            digests = secret_digests(whole, made)
        items = (*scripts(), *held(whole), *absent(whole))
        every[node] = Wanted(
            items=tuple(item for item in items if item.name != layout.REGISTRY_CREDENTIALS),
            secrets=digests,
        )
    return every


def verdict(differences: Found) -> Comparison:
    """The overall result.

    UNKNOWN has precedence over DRIFTED: a machine that could not be asked may differ as well.
    """
    if any(isinstance(answer, Unreachable) for answer in differences.values()):
        return Comparison.UNKNOWN
    return Comparison.DRIFTED if any(differences.values()) else Comparison.CLEAN


def as_data(differences: Found) -> dict[str, Any]:
    """The result as JSON data."""
    machines = {
        name: {"asked": False, "error": str(answer)}
        if isinstance(answer, Unreachable)
        else {
            "asked": True,
            "differences": [
                {
                    "kind": difference.item.kind,
                    "name": difference.item.name,
                    "is": difference.observed,
                    "should_be": difference.item.wanted,
                    "step": difference.item.step,
                }
                for difference in answer
            ],
        }
        for name, answer in differences.items()
    }
    return {"verdict": verdict(differences).name.lower(), "machines": machines}


def lines(differences: Found, compared: Mapping[str, int]) -> Iterator[str]:
    """Lines of text: one for each difference, and one for each machine without differences."""
    for name, answer in differences.items():
        machine = f"[bold]{escape(name)}[/]"
        if isinstance(answer, Unreachable):
            yield f"[bold yellow]unknown[/]  {machine}: {escape(str(answer))}"
        elif not answer:
            yield f"[green]holds[/]    {machine}: all of {compared[name]} things"
        for difference in () if isinstance(answer, Unreachable) else answer:
            yield f"[bold red]differs[/]  {machine}: {escape(_short(difference.sentence))}"


def _short(sentence: str) -> str:
    """The sentence with digests shortened to 12 digits, which suffice to tell them apart."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", sentence)


def _next(result: Comparison, option: str) -> Iterator[str]:
    match result:
        case Comparison.CLEAN:
            yield "[bold green]No machine has drifted.[/]"
        case Comparison.DRIFTED:
            yield f"Mend exactly that with ./hardway up --refresh{option}"
        case Comparison.UNKNOWN:
            yield "[bold yellow]Not every machine could be asked.[/]"
            yield f"./hardway status shows what runs. ./hardway up --refresh{option} mends the rest"
