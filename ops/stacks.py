"""The stacks of this checkout, as verbs ask for them."""

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
from spec.cluster import Cluster, SpecError, parse
from spec.configuration import CLUSTER, configuration, text_of
from spec.supported import demand_supported

StackOption = Annotated[
    str,
    typer.Option("--stack", "-s", envvar="PULUMI_STACK", help="The stack, Pulumi.STACK.yaml."),
]

PASSED_ON = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""How a verb takes the words of another program, options and all."""

HELP = ("--help", "-h")


def asks_own_help(words: Sequence[str] | None) -> bool:
    """Whether a verb that passes its words on is asked what it is itself."""
    return not words or (len(words) == 1 and words[0] in HELP)


def asks_help_of_program(words: Sequence[str] | None) -> bool:
    """Whether the other program is only asked how it is used, which needs no stack and no lab."""
    own = list(takewhile(lambda word: word != "--", words or ()))
    return bool(own) and (own[0] == "help" or not set(HELP).isdisjoint(own))


AGAIN = "change it and run the same command again"


def read_cluster(stack: str) -> Cluster:
    """The cluster of a stack's file; a Problem tells every mistake in it."""
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        raise Problem(
            f"the stack '{stack}' has no {file.name}",
            f"write one, starting from a copy of Pulumi.dev.yaml, or use one of "
            f"{', '.join(stack_names())}",
        )
    try:
        described = configuration(file).get(CLUSTER)
    except SpecError as error:
        raise Problem(str(error), AGAIN) from error
    try:
        spec = parse(described, name=stack)
        demand_supported(spec)
    except SpecError as error:
        raise Problem(f"{file.name}: {error}", AGAIN) from error
    return spec


def ready_stack(stack: str, paths: LabPaths) -> Stack:
    """A stack to run ``pulumi`` on; its lab is started again if it stopped (after a reboot).

    Raises a Problem where the stack's file is no text, of which ``pulumi`` is given a copy.
    """
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if file.is_file():
        try:
            text_of(file)
        except SpecError as error:
            raise Problem(str(error), AGAIN) from error
    tools = toolchain.prepare(Cache(), paths, progress())
    stopped = offer_path(paths, stack).exists() and libvirt.find(paths) is None
    if stopped and read_cluster(stack).hypervisor is None:
        libvirt.start(paths, progress())
    return stack_in_lab(stack, paths, tools)
