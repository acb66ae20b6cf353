"""Rules about the remote commands that run steps on machines, and about plugins."""

import re
from collections.abc import Callable, Iterator, Mapping, Set

from hypervisors.adapters import is_machine
from plan import library
from plan.reading import read
from policy.rule import Changes, Violations, inside, is_unknown
from preview.kinds import COMMAND, COPY, has_scripts
from preview.registration import Registration, is_secret
from probe.sudo import BY_SUDO

AS_ROOT = f"({re.escape(BY_SUDO)})?"
SHELL = re.compile(
    AS_ROOT
    + re.escape(library.command(0, ()))
    .replace(re.escape("10 0 "), r"10 \d+ ")
    .replace(re.escape("step.sh 2>&1"), r"step\.sh(\ [a-z-]+\.sh)*\ 2>&1")
    .replace(library.digest((library.RUNNER,)), "[0-9a-f]{64}")
)
"""The command line of any step."""
LEAVES = re.compile(
    rf"({AS_ROOT}timeout -k \d+ \d+ bash -euo pipefail "
    rf"{library.PLACE}/scripts/leave\.sh [a-z=\d -]+)?"
)
LIMIT = re.compile(r"\d+(\.\d+)?(ms|s|m|h)")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
VERSION = re.compile(r"\d+\.\d+\.\d+")

LOGINS = frozenset({COMMAND, COPY})
"""The kinds of resources that log in to machines."""

OWN = frozenset({"pulumi", "pulumi-python"})
"""Plugins that come with the engine and its SDK. requirements.txt and lab/ pin their versions."""


def each_command(judge: Callable[[Registration], Iterator[str]]) -> Callable[[Changes], Violations]:
    """Make a rule about all commands from a rule about a single command."""
    return _of_kinds(judge, {COMMAND})


def each_login(judge: Callable[[Registration], Iterator[str]]) -> Callable[[Changes], Violations]:
    """Make a rule about all resources that log in to machines from a rule about a single one."""
    return _of_kinds(judge, LOGINS)


def _of_kinds(
    judge: Callable[[Registration], Iterator[str]], kinds: Set[str]
) -> Callable[[Changes], Violations]:
    def of_all(changes: Changes) -> Violations:
        for change in changes:
            if change.after is not None and change.kind in kinds:
                yield from ((change.name, sentence) for sentence in judge(change.after))

    return of_all


def dies_with_its_machine(changes: Changes) -> Violations:
    """``deleted_with`` of each command names the domain of a machine."""
    there = [change.after for change in changes if change.after is not None]
    machines = {resource.name for resource in there if is_machine(resource.kind)}
    for command in there:
        if command.kind in LOGINS and command.deleted_with not in machines:
            sentence = (
                f"{command.name} is not deleted with its machine, so a destroy would log in to a "
                "machine that is gone; give it the machine's resource as deleted_with"
            )
            yield command.name, sentence


@each_login
def has_limits(command: Registration) -> Iterator[str]:
    """The command has a time limit for each operation."""
    missing = [
        name
        for name in ("create", "update", "delete")
        if not LIMIT.fullmatch(limit := command.timeouts.get(name, ""))
        or float(re.split("[a-z]", limit)[0]) == 0
    ]
    if missing:
        yield (
            f"{command.name} has no limit for {', '.join(missing)}, so a machine that does not "
            "answer would hold up the update for ever; give it custom_timeouts"
        )


@each_login
def knows_its_host(command: Registration) -> Iterator[str]:
    """The connection of the command has a host key; the rule does not check which."""
    connection = inside(command.inputs.get("connection", {}))
    if is_unknown(connection):
        return
    if not (isinstance(connection, Mapping) and inside(connection.get("hostKey"))):
        yield (
            f"{command.name} knows no host key, so it would give its data to whoever answers at "
            "the address; give its connection a host_key"
        )


@each_command
def is_only_updated(command: Registration) -> Iterator[str]:
    """No trigger replaces the command, and its deletion only takes away what it brought."""
    if command.inputs.get("triggers"):
        yield (
            f"{command.name} has triggers, which replace it whenever they change; leave them out: "
            "a step whose data change is run again"
        )
    if not LEAVES.fullmatch(inside(command.inputs.get("delete", ""))):
        yield (
            f"{command.name} runs a command of its own when it is deleted, on a machine that "
            "perhaps has its successor's files already; let plan/render.py make the command"
        )


@each_command
def is_the_shell(command: Registration) -> Iterator[str]:
    """The command line is that of a step, whose data come by standard input."""
    create = inside(command.inputs.get("create", ""))
    if has_scripts(command) and create == f"{BY_SUDO}{library.LAY_DOWN}":
        return
    update = inside(command.inputs.get("update", create))
    if not SHELL.fullmatch(create) or update != create:
        yield (
            f"{command.name} runs something else than a step with its time limit, so all of it "
            "would be printed when it fails; give the step's data as stdin and let "
            "plan/library.py make the command"
        )
    elif not inside(command.inputs.get("stdin")):
        yield f"{command.name} has no data; give it a step's as stdin"


@each_command
def hides_its_secrets(command: Registration) -> Iterator[str]:
    """If the step's data are secret, its output is secret too and is not logged."""
    if not is_secret(command.inputs.get("stdin")):
        return
    if inside(command.inputs.get("logging")) != "none":
        yield (f"{command.name} has secret data and logs what it prints; give it logging none")
    if not {"stdout", "stderr"} <= set(command.additional_secret_outputs):
        yield (
            f"{command.name} has secret data and keeps what it prints in the clear; give it "
            "stdout and stderr as additional_secret_outputs"
        )


@each_command
def names_digests(command: Registration) -> Iterator[str]:
    """Each artifact in the step has a digest."""
    data = inside(command.inputs.get("stdin", ""))
    if is_unknown(data) or has_scripts(command):
        return
    try:
        artifacts = read(data).artifacts
    except ValueError:
        yield f"{command.name} has a step whose data cannot be read; see plan/render.py"
        return
    for name in sorted(name for name, digest in artifacts.items() if not DIGEST.fullmatch(digest)):
        yield (
            f"{command.name} takes {name} without a digest, so the machine would run whatever it "
            f"is sent; write its sha256 into artifacts.digests"
        )


def plugins_have_versions(changes: Changes) -> Violations:
    """Each resource names the exact version of its plugin."""
    for change in changes:
        resource = change.after
        if resource is None or not resource.custom:
            continue
        plugin = resource.kind.removeprefix("pulumi:providers:").partition(":")[0]
        if plugin not in OWN and not VERSION.match(resource.version):
            sentence = (
                f"{resource.name} takes any version of the plugin {plugin}, so the same program "
                "would do something else tomorrow; pin its package in requirements.txt"
            )
            yield resource.name, sentence
