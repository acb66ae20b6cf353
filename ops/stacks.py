"""The stacks of this checkout, and the options by which commands name them."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

import typer

from lab import libvirt, toolchain
from lab.cache import Cache
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.stack import Stack, offer_path, stack_in_lab, stack_names
from ops.display import progress
from spec import bucket_key, passwords
from spec.cluster import Cluster, SpecError, parse
from spec.configuration import CLUSTER, configuration, text_of

StackOption = Annotated[
    str,
    typer.Option("--stack", "-s", envvar="PULUMI_STACK", help="The stack, Pulumi.STACK.yaml."),
]

PASSED_ON = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Settings of a command that passes all its words, options included, on to another program."""

HELP = ("--help", "-h")


def asks_own_help(arguments: Sequence[str] | None) -> bool:
    """Whether a command line asks for the help of a command that passes its words on."""
    return not arguments or (len(arguments) == 1 and arguments[0] in HELP)


def asks_help_of_program(arguments: Sequence[str] | None) -> bool:
    """Whether a command line asks for the other program's help, which needs no stack and no lab."""
    own = list(takewhile(lambda argument: argument != "--", arguments or ()))
    return bool(own) and (own[0] == "help" or not set(HELP).isdisjoint(own))


AGAIN = "change it and run the same command again"


def read_cluster(stack: str) -> Cluster:
    """The cluster in a stack's file. Raises a Problem with all mistakes in the file."""
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        raise Problem(
            f"the stack '{stack}' has no {file.name}",
            f"write one, starting from a copy of Pulumi.dev.yaml, or use one of "
            f"{', '.join(stack_names())}",
        )
    try:
        values = configuration(file)
    except SpecError as error:
        raise Problem(str(error), AGAIN) from error
    try:
        spec = parse(values.get(CLUSTER), name=stack)
        passwords.demand_passwords(spec, values.get(passwords.FULL_KEY, {}))
        bucket_key.demand_bucket_key(spec, values.get(bucket_key.FULL_KEY, {}))
    except SpecError as error:
        raise Problem(f"{file.name}: {error}", AGAIN) from error
    return spec


def ready_stack(stack: str, paths: LabPaths) -> Stack:
    """A stack on which ``pulumi`` can run; starts its lab again if it stopped (after a reboot).

    Raises a Problem where the stack's file is not text, since ``pulumi`` gets a copy of its text.
    """
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if file.is_file():
        try:
            text_of(file)
        except SpecError as error:
            raise Problem(str(error), AGAIN) from error
    tools = toolchain.prepare(Cache(), paths, progress())
    stopped = offer_path(paths, stack).exists() and libvirt.find(paths) is None
    if stopped and read_cluster(stack).in_lab:
        libvirt.start(paths, progress())
    return stack_in_lab(stack, paths, tools)
