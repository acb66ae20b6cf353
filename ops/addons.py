"""The command ``addons``: which add-ons there are, and how those of a cluster are."""

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lab import forwarder
from lab.paths import LabPaths, lab_paths
from lab.problem import Problem
from ops.display import note_line, option_of, progress, stdout
from ops.exit_codes import ExitCode
from ops.expose import page_forwarder
from ops.reach import Reached, reach
from ops.stacks import StackOption
from plan.addons.add_on import AddOn
from plan.addons.catalogue import ADD_ONS, enabled
from probe.api import Api, ApiError
from probe.usage import PodMemory, memory
from probe.watch import Outcome, run_watch
from spec.cluster import Cluster

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class State:
    """What is known of an add-on."""

    name: str
    about: str
    is_on: bool
    faults: tuple[str, ...] = ()
    """Why it does not work: a sentence without full stop for each condition that does not hold."""
    memory: PodMemory | None = None
    """None where it is off, or its pods cannot be asked for."""
    addresses: tuple[str, ...] = ()
    """Where people reach it, or the command that opens it."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster")(addons)


def addons(
    stack: StackOption = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the add-ons: what each is for, whether it is on and works, its memory and its URL.

    The cluster is asked, and nothing is changed. One that is off is switched on with its name
    under `addons` in the stack's file. Memory is what the kubelets measure of its pods, beside the
    limit at which a pod is ended.

    Exit code 0: each that is on works. 2: one of them does not. 3: nothing can be asked.

    Examples: `./hardway addons`, for programs `./hardway addons --json`
    """
    reached = reach(stack)
    states = states_of(reached, lab_paths())
    if as_json:
        print(json.dumps([asdict(state) for state in states], indent=1))
    else:
        stdout.print(table(states))
        for line in note_line(reached.unapplied):
            stdout.print(line)
    works = not any(state.faults for state in states)
    raise typer.Exit(int(ExitCode.WELL if works else ExitCode.WARNED))


def states_of(reached: Reached, paths: LabPaths) -> list[State]:
    """The state of every add-on of the catalogue."""
    spec = reached.spec
    having = enabled(spec)
    outcomes = _outcomes(reached, having)
    memories = asyncio.run(_memories(reached, having))
    return [
        State(
            name=name,
            about=add_on.about,
            is_on=add_on in having,
            faults=tuple(_faults(add_on, spec, outcomes)) if add_on in having else (),
            memory=memories.get(name),
            addresses=tuple(_addresses(add_on, reached, paths)) if add_on in having else (),
        )
        for name, add_on in ADD_ONS.items()
    ]


def _outcomes(reached: Reached, having: tuple[AddOn, ...]) -> dict[str, Outcome]:
    """Name of each condition of these add-ons to its outcome."""
    asked = [condition for add_on in having for condition in add_on.conditions(reached.spec)]
    try:
        outcomes = run_watch(asked, reached.access, say=lambda _: None, limit=0)
    except ApiError as error:
        again = f"make it again with ./hardway up{option_of(reached.stack.name)}"
        raise Problem(str(error), again) from error
    return {outcome.name: outcome for outcome in outcomes}


def _faults(add_on: AddOn, spec: Cluster, outcomes: dict[str, Outcome]) -> list[str]:
    return [
        f"{condition.name}: {outcome.error}"
        for condition in add_on.conditions(spec)
        if not (outcome := outcomes[condition.name]).holds
    ]


async def _memories(reached: Reached, having: tuple[AddOn, ...]) -> dict[str, PodMemory]:
    """The memory of these add-ons' pods by their names, as far as the API lists them."""
    memories: dict[str, PodMemory] = {}
    async with Api(reached.kubeconfig) as api:
        for add_on in having:
            try:
                memories[add_on.name] = await memory(api, add_on.workloads(reached.spec))
            except ApiError as error:
                progress().say(f"the pods of {add_on.name} cannot be asked for: {error}")
    return memories


def _addresses(add_on: AddOn, reached: Reached, paths: LabPaths) -> list[str]:
    """The URL of each page that is exposed already, else the command that does it."""
    stack = reached.stack.name
    addresses = []
    for page in add_on.pages(reached.spec):
        way_in = forwarder.find(paths, page_forwarder(stack, page))
        url = page.url(f"{forwarder.LOOPBACK}:{way_in.port}") if way_in else ""
        addresses.append(url or f"./hardway open{option_of(stack)} {add_on.name}")
    return addresses


# -- for people ----------------------------------------------------------------------------------


def table(states: list[State]) -> Table:
    """The add-ons as a table for a terminal."""
    columns = Table("add-on", "what it does", "state", "memory", "where")
    for state in states:
        columns.add_row(
            state.name,
            f"it {state.about}",
            _state(state),
            _memory(state.memory),
            "\n".join(map(escape, state.addresses)),
        )
    return columns


def _state(state: State) -> str:
    if not state.is_on:
        return "off"
    if not state.faults:
        return "[green]on, works[/]"
    return "\n".join(["[bold red]on, fails[/]", *map(escape, state.faults)])


def _memory(memory: PodMemory | None) -> str:
    if memory is None or not memory.pods:
        return ""
    used = "?" if memory.used is None else str(round(memory.used / MEBIBYTE))
    limit = "" if memory.limit is None else f" of {round(memory.limit / MEBIBYTE)}"
    pods = "" if memory.pods == 1 else f" in {memory.pods} pods"
    return f"{used}{limit} MiB{pods}"
