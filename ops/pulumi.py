"""``pulumi`` as the lab runs it."""

from typing import Annotated

import typer

from lab.paths import lab_paths
from ops.stacks import PASSED_ON, ready_stack


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command(rich_help_panel="A cluster", context_settings=PASSED_ON)(pulumi)


def pulumi(
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on as they are.")] = None,
    stack: Annotated[str, typer.Option(envvar="PULUMI_STACK", hidden=True)] = "dev",
) -> None:
    """Run `pulumi` with the lab's tools, state and network: `./hardway pulumi preview --diff`."""
    paths = lab_paths()
    ready = ready_stack(stack, paths)
    if arguments and arguments[0] not in ("stack", "version", "plugin", "help"):
        ready.create()
    raise typer.Exit(ready.pulumi(*(arguments or [])).returncode)
