"""The command ``drift``, which compares the machines and the API with the applied plan."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

import typer
from rich.markup import escape

from lab.problem import Problem
from ops import expiry
from ops.display import note_line, option_of, stdout
from ops.exit_codes import ExitCode
from ops.reach import (
    kept_backup_keys,
    kept_by_cluster,
    kept_by_machines,
    kept_logins,
    reach,
    resources,
    revealed,
)
from ops.stacks import StackOption
from plan import addons, layout
from plan.cluster import cluster_plan
from plan.contents import ITEMS, OBJECTS, Unreadable, unpacked
from plan.declared import DeclaredObject
from plan.held import (
    Difference,
    absent,
    compared,
    held,
    scripts,
    secret_digests,
    secret_keys,
)
from plan.material import admin_kubeconfig, kept_material
from preview import kinds
from probe.access import Access
from probe.api import ApiError
from probe.machines import Unreachable
from probe.objects import differing
from probe.observation import Wanted, everywhere
from spec.bucket_key import HALVES
from spec.cluster import Cluster, SpecError
from spec.resource_names import AUTHORITIES, PEOPLE_KEYS

API = "the API"
"""Stands beside the names of machines, none of which has a space."""

ONLY_IN_GUARDS = (layout.REGISTRY_CREDENTIALS, layout.BACKUP_BUCKET)
"""Files with secrets of the stack's configuration, which the state has nowhere else."""

Answer = tuple[Difference, ...] | Unreachable | ApiError
Found = Mapping[str, Answer]


class Comparison(Enum):
    """The result of the comparison of all machines and the API."""

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
    """Compare every machine and the API with what was applied, changing nothing.

    Files, services, programs, kernel settings, Node objects; in the API the objects of access
    rights and add-ons, field by field. What the stack's file says since, and what others own, such
    as what a kubelet writes, is no drift. Certificates that end within 30 days are named.

    Exit code 0: all is as it was applied. 1: a machine or an object has drifted. 2: none has, and a
    certificate ends within 30 days. 3: a machine or the API does not answer, or nothing can be
    asked at all, since the lab does not run or the stack is not up.

    Examples: `./hardway drift`, for programs `./hardway drift --json`
    """
    reached = reach(stack)
    try:
        wanted = wanted_of(reached.spec, reached.state)
    except SpecError as error:
        raise Problem(str(error), "change it and run the same command again") from error
    up = {name: machine for name, machine in wanted.items() if name in reached.access.machines}
    objects = objects_of(reached.spec, reached.state)
    asked = asyncio.run(_asked(reached.access, up, objects))
    not_up = Unreachable("it is not up yet")
    differences = {name: asked.get(name, not_up) for name in (*wanted, API)}
    ending = expiry.ending_soon(reached.state)
    if as_json:
        more = {"certificates": expiry.as_data(ending), "unapplied": reached.unapplied}
        print(json.dumps(as_data(differences) | more, indent=1))
    else:
        result, option = verdict(differences), option_of(stack)
        counts = {name: len(machine.items) for name, machine in wanted.items()}
        counts[API] = len(objects.declared) if objects else 0
        every = [*lines(differences, counts), *_next(result, option), *expiry.lines(ending, option)]
        stdout.print("\n".join([*every, *note_line(reached.unapplied)]))
    raise typer.Exit(int(exit_code(verdict(differences), ending)))


async def _asked(
    access: Access, machines: Mapping[str, Wanted], objects: "WantedObjects | None"
) -> dict[str, Answer]:
    """What differs on each of these machines and in the API, which are asked at the same time."""

    async def in_api(wanted: WantedObjects) -> Answer:
        try:
            return await differing(wanted.kubeconfig, wanted.declared)
        except ApiError as error:
            return error

    if objects is None:
        return {**await everywhere(access, machines)}
    answers, answer = await asyncio.gather(everywhere(access, machines), in_api(objects))
    return {**answers, API: answer}


def exit_code(result: Comparison, ending: Sequence[expiry.Ending]) -> ExitCode:
    """The exit code; a certificate that ends soon changes it only where nothing has drifted."""
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


@dataclass(frozen=True, kw_only=True)
class WantedObjects:
    """What the API must have."""

    declared: tuple[DeclaredObject, ...]
    kubeconfig: str = field(repr=False)
    """With the admin's certificate that needs no object for its rights."""


def objects_of(spec: Cluster, state: Mapping[str, Any]) -> WantedObjects | None:
    """The objects that the API must have, from where ``wanted_of`` has what machines must have.

    None where the state has no keys yet with which the API can be asked.
    """
    kept = kept_by_cluster(state)
    if AUTHORITIES not in kept or PEOPLE_KEYS not in kept:
        return None
    kubeconfig = admin_kubeconfig(spec, kept[AUTHORITIES], kept[PEOPLE_KEYS], addons.ADMIN)
    declared = None
    for _, resource in resources(state):
        if resource["type"] == kinds.OBJECTS:
            with suppress(Unreadable):
                declared = unpacked(OBJECTS, revealed(resource["outputs"]).get("objects", ""))
    return WantedObjects(
        declared=addons.declared(spec) if declared is None else declared, kubeconfig=kubeconfig
    )


def _planned(spec: Cluster, nodes: Iterable[str], state: Mapping[str, Any]) -> dict[str, Wanted]:
    """The content of machines by this program's plan, with the keys of a state.

    A machine without keys gets an empty digest for each secret file, which no file matches: the
    machine was not set up yet. The passwords of registries and a bucket's access key are only in
    guards, so their files are not compared. Raises SpecError where there is no plan.
    """
    authorities = kept_by_cluster(state).get(AUTHORITIES)
    kept, backups = kept_by_machines(state), kept_backup_keys(state)
    logins = kept_logins(spec, state)
    plan, every = cluster_plan(spec), {}
    for node in nodes:
        whole = compared(spec, plan.nodes[node])
        keys = kept.get(node)
        digests = dict.fromkeys(secret_keys(whole), "")
        known = (backups or not spec.backup) and (logins or not spec.ssh_keys)
        if keys and authorities and known:
            unknown, halves = dict.fromkeys(spec.registries, ""), dict.fromkeys(HALVES, "")
            made = kept_material(
                spec.name, authorities, keys, unknown, backups, halves, logins or ""
            )
            digests = secret_digests(whole, made)
        items = (*scripts(), *held(whole), *absent(whole))
        every[node] = Wanted(
            items=tuple(item for item in items if item.name not in ONLY_IN_GUARDS),
            secrets=digests,
        )
    return every


def verdict(differences: Found) -> Comparison:
    """The overall result.

    UNKNOWN has precedence over DRIFTED: a machine that could not be asked may differ as well.
    """
    if any(isinstance(answer, Exception) for answer in differences.values()):
        return Comparison.UNKNOWN
    return Comparison.DRIFTED if any(differences.values()) else Comparison.CLEAN


def as_data(differences: Found) -> dict[str, Any]:
    """The result as JSON data."""
    answers = {name: _answer_as_data(answer) for name, answer in differences.items()}
    api = answers.pop(API)
    return {"verdict": verdict(differences).name.lower(), "machines": answers, "api": api}


def _answer_as_data(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"asked": False, "error": str(answer)}
    return {
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


def lines(differences: Found, compared: Mapping[str, int]) -> Iterator[str]:
    """Lines of text: one for each difference, and one for whatever has no differences."""
    for name, answer in differences.items():
        asked = f"[bold]{escape(name)}[/]"
        if isinstance(answer, Exception):
            yield f"[bold yellow]unknown[/]  {asked}: {escape(str(answer))}"
        elif not answer:
            yield f"[green]holds[/]    {asked}: all of {compared[name]} things"
        for difference in () if isinstance(answer, Exception) else answer:
            yield f"[bold red]differs[/]  {asked}: {escape(_short(difference.sentence))}"


def _short(sentence: str) -> str:
    """The sentence with digests shortened to 12 digits, which suffice to tell them apart."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", sentence)


def _next(result: Comparison, option: str) -> Iterator[str]:
    match result:
        case Comparison.CLEAN:
            yield "[bold green]Nothing has drifted.[/]"
        case Comparison.DRIFTED:
            yield f"Mend exactly that with ./hardway up --refresh{option}"
        case Comparison.UNKNOWN:
            yield "[bold yellow]Not all could be asked.[/]"
            yield f"./hardway status shows what runs. ./hardway up --refresh{option} mends the rest"
