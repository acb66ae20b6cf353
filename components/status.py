"""How far an update is, shown beside the row of the stack."""

import contextvars
import threading
import time
from contextlib import suppress
from pathlib import Path

import pulumi

INTERVAL = 1.0
"""Seconds between two looks at the file."""


def follow(file: Path) -> None:
    """Show what is in the file whenever it is another line, while the program runs.

    Whoever runs Pulumi hears the engine's events and writes the file: only the program can tell the
    engine something that belongs to no other resource than the stack.
    """
    # The SDK keeps the engine's address in context variables.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_show, file), daemon=True).start()


def _show(file: Path) -> None:
    shown = ""
    while True:
        with suppress(OSError):  # not there yet, or not any more
            if (line := file.read_text()) and line != shown:
                shown = line
                pulumi.log.info(line, ephemeral=True)
        time.sleep(INTERVAL)
