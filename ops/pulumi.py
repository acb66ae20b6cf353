"""The command ``pulumi``, which runs Pulumi with the lab's tools, state and network."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from hypervisors.adapters import data_types, is_machine
from lab import command_line, libvirt, qemu, toolchain
from lab.cache import Cache
from lab.command_line import CommandLine
from lab.paths import lab_paths
from lab.problem import Problem
from lab.stack import TAKES_CONFIG_FILE, UPDATES, Stack
from ops.display import progress
from ops.numbers import demand_numbers
from ops.reach import applied
from ops.recovery import recover
from ops.stacks import (
    PASSED_ON,
    asks_help_of_program,
    asks_own_help,
    read_cluster,
    ready_stack,
)
from preview.kinds import CLUSTER, MACHINE
from spec.cluster import SpecError
from spec.resource_names import DISK, part

SPECIFICATION = f"{CLUSTER}$pulumi-python:dynamic/hardway:Specification::specification"
"""The end of the URN of this resource, after the stack and the project."""

TARGETED = frozenset({"up", "update", "preview", "pre", "watch"})
"""The commands that run the program and accept ``--target`` and ``--exclude``."""

APPLYING = frozenset({"up", "update", "watch"})
"""The commands that bring a cluster to what its file says."""

FORGETTING = (("remove",), ("rm",), ("delete",))
"""The names of the subcommand of ``pulumi state`` that removes a resource from the state."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command(rich_help_panel="A cluster", context_settings=PASSED_ON)(pulumi)


def pulumi(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on as they are.")] = None,
) -> None:
    """Run `pulumi` with the lab's tools, state and network: `./hardway pulumi preview --diff`.

    Its commands work on the stack of `--stack` or `PULUMI_STACK`, else on the default one.

    Examples: `./hardway pulumi preview --diff`, `./hardway pulumi stack output endpoint`,
    `./hardway pulumi cancel` after an update that was killed elsewhere; what Pulumi itself can do
    says `./hardway pulumi help`, and of one of its commands `./hardway pulumi up --help`
    """
    given = arguments or []
    if asks_own_help(given):
        typer.echo(context.get_help())
        return
    if asks_help_of_program(given):
        tools = toolchain.prepare(Cache(), lab_paths(), progress())
        called = [str(tools.pulumi), *given]
        done = subprocess.run(called, env=tools.environment(), check=False)
        raise typer.Exit(done.returncode)
    line = command_line.read(given)
    stack = line.stack or os.environ.get("PULUMI_STACK", "").rpartition("/")[2] or "dev"
    paths = lab_paths()
    ready = ready_stack(stack, paths)
    if ready.at_home(line):
        if line.verb in TAKES_CONFIG_FILE and (ready.file.is_file() or not line.has("config-file")):
            ready.create()
        if refused := next(refusals(line, stack, lambda: _members(ready)), None):
            raise refused
        if line.verb in UPDATES and ready.exists():
            recover(ready, libvirt.find(paths), progress().say)
            if line.verb in APPLYING and not line.has("config-file"):
                demand_numbers(ready, read_cluster(stack))
    with qemu.first(paths.libvirt) if line.verb in UPDATES else nullcontext():
        status = ready.pulumi(*given).returncode
    raise typer.Exit(status)


def refusals(
    line: CommandLine, stack: str, members: Callable[[], Sequence[str]]
) -> Iterator[Problem]:
    """The reasons to refuse a command line that would circumvent the checks of a running cluster.

    The engine runs these checks in the ``check`` of the specification resource. It does not run
    them where a command line leaves out the specification, and they do not cover a resource that
    is replaced without a change to it. ``members`` returns the names of etcd's members.
    """
    if line.verb in TARGETED:
        yield from _past_the_specification(line, stack)
    if line.verbs[:1] == ("state",) and line.verbs[1:2] in FORGETTING:
        for pattern in line.verbs[2:]:
            if _means(pattern, SPECIFICATION, stack):
                yield Problem(
                    "without the specification in the state nothing would be refused any more of "
                    "what a living cluster cannot take",
                    "leave it there; ./hardway down removes the whole stack",
                )
    if anew := _made_anew(line):
        every = members()
        for option, pattern in anew:
            for member in every:
                if any(_means(pattern, disk, stack) for disk in disk_urns(member)):
                    yield _lost(option, member, alone=len(every) == 1)


def disk_urns(machine: str) -> tuple[str, ...]:
    """The ends of the URNs that the disk of a machine can have, one for each kind of hypervisor."""
    return tuple(
        f"{CLUSTER}${MACHINE}${kind}::{machine if is_machine(kind) else part(machine, DISK)}"
        for kind in data_types()
    )


def _members(stack: Stack) -> Sequence[str]:
    """The etcd members of the spec that was applied last, else of the stack's file."""
    exported = stack.pulumi("stack", "export", capture=True)
    if exported.returncode == 0:
        with suppress(SpecError):  # an older version applied a spec that this version refuses
            if spec := applied(json.loads(exported.stdout)):
                return spec.etcd_members
    return read_cluster(stack.name).etcd_members


def _past_the_specification(line: CommandLine, stack: str) -> Iterator[Problem]:
    only = [*line.values("target"), *line.values("target-replace")]
    if only and not any(_means(pattern, SPECIFICATION, stack) for pattern in only):
        option = "--target" if line.has("target") else "--target-replace"
        yield Problem(
            f"{option} without the specification goes past its check, which refuses what a living "
            "cluster cannot take",
            f"leave {option} out: what has not changed is left alone",
        )
    if any(_means(pattern, SPECIFICATION, stack) for pattern in line.values("exclude")):
        yield Problem(
            "--exclude of the specification goes past its check, which refuses what a living "
            "cluster cannot take",
            "exclude something else",
        )


def _made_anew(line: CommandLine) -> list[tuple[str, str]]:
    """The resources that a command line replaces or removes by name.

    Each is a pair of the option or subcommand, for messages, and the pattern of URNs.
    """
    if line.verbs[:2] == ("state", "taint"):
        return [("state taint", urn) for urn in line.verbs[2:]]
    options = ["replace", "target-replace"] if line.verb in TARGETED else []
    if line.verb in ("destroy", "down", "dn"):
        options = ["target"]
    return [(f"--{option}", pattern) for option in options for pattern in line.values(option)]


def _lost(option: str, member: str, *, alone: bool) -> Problem:
    what = "all that the cluster knows" if alone else "what this member of etcd has agreed to"
    return Problem(
        f"{option} of the disk of {member} loses {what}: etcd's data are on it, and no member with "
        "an empty disk can take its place in a living cluster yet",
        "name a machine that is no member of etcd, or make the whole cluster anew with "
        "./hardway down and ./hardway up",
    )


def _means(pattern: str, ending: str, stack: str) -> bool:
    """Whether a URN, or a pattern of URNs, matches a resource, as the engine does it.

    ``ending`` is the end of the resource's URN. In a pattern ``*`` matches any characters but
    colons and ``**`` any characters (pkg/resource/deploy/deployment.go).
    """
    parts = re.split(r"(\*\*|\*)", pattern)
    kinds = {"**": ".*", "*": "[^:]*"}
    expression = "".join(kinds.get(part) or re.escape(part) for part in parts)
    return bool(re.fullmatch(expression, f"urn:pulumi:{stack}::hardway::{ending}"))
