"""The command ``picture``, which draws a stack's cluster."""

from pathlib import Path
from typing import Annotated

import typer

from lab.paths import PROJECT
from ops.display import stdout
from ops.stacks import StackOption, read_cluster
from preview.picture import picture as drawn
from preview.still import still

README_PICTURE = PROJECT / "docs" / "cluster.svg"
"""The picture of the default stack."""


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command("picture", rich_help_panel="Development")(picture)


def picture(
    stack: StackOption = "dev",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The SVG file that is written.")
    ] = README_PICTURE,
) -> None:
    """Draw a stack's cluster from its file alone; nothing is asked and nothing is run.

    The default is the picture of the README.

    Example: `./hardway picture --stack lab2 --output lab2.svg`
    """
    output.write_text(drawn(still(read_cluster(stack))))
    stdout.print(f"Written: {output}", soft_wrap=True)
