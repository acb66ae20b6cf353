"""Shows the progress of an update in the stack's row of Pulumi's display."""

import contextvars
import threading
import time
from contextlib import suppress
from pathlib import Path

import pulumi

INTERVAL = 1.0
"""Seconds between two reads of the file."""


def follow(file: Path) -> None:
    """Show the line in the file whenever it changes, while the program runs.

    The caller of Pulumi receives the engine's events and writes the file. This program passes the
    line on, since only the program can send the engine a message that belongs to the stack itself.
    """
    # The SDK keeps the engine's address in context variables.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_show, file), daemon=True).start()


def _show(file: Path) -> None:
    shown = ""
    while True:
        with suppress(OSError):  # the file does not exist yet, or no longer
            if (line := file.read_text()) and line != shown:
                shown = line
                pulumi.log.info(line, ephemeral=True)
        time.sleep(INTERVAL)
