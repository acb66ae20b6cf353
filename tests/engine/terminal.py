"""A terminal of a given width in which a program shows itself, as a person sees it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

CONTROL = re.compile(r"\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")
TITLE = re.compile(r"\x1b\]0;([^\x07]*)\x07")


class Terminal:
    """What a program writes to a terminal, read while it runs."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        columns: int,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        """Start the program with the terminal as its own."""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        # In a job of a CI service Pulumi shows no tree even at a terminal.
        own = {k: v for k, v in environment.items() if k not in ("CI", "GITHUB_ACTIONS")}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env={**own, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the terminal of a program that has ended
            while more := os.read(self._master, 2**16):
                self._text += more.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was shown, without colours and movements of the cursor."""
        return CONTROL.sub("", self._text)

    @property
    def titles(self) -> list[str]:
        """The titles that the window was given, in order."""
        return TITLE.findall(self._text)

    def row(self, name: str) -> str:
        """The last state of the row of a resource; empty before there is one."""
        rows = [line for line in re.split(r"[\r\n]+", self.text) if f" {name} " in line]
        return rows[-1].rstrip() if rows else ""

    def wait(self) -> int:
        """The exit status, once all that was shown is read."""
        status = self.process.wait(120)
        self._reader.join(10)
        os.close(self._master)
        return status
