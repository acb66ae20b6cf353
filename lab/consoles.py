"""Reads the serial consoles of machines for kernel panics and clock errors."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PANIC = re.compile(rb"Kernel panic - not syncing: ([^\r\n]+)")
OOPS = re.compile(rb"Oops: ([^\r\n\[]+)")
CLOCK = re.compile(rb"hardway: the clock of this machine (is [^\r\n]+)")
"""The message of ``check-clock.sh`` in the lab's image, printed before anybody can log in."""


class Consoles:
    """The text that machines write to their consoles from now on.

    libvirt writes each console to ``<folder>/<domain>.log``.
    """

    def __init__(self, folder: Path, domains: Iterable[str]) -> None:
        self._files = {domain: folder / f"{domain}.log" for domain in domains}
        self._from = {domain: _size(file) for domain, file in self._files.items()}

    def panics(self) -> dict[str, str]:
        """Domain to the reason of its kernel panic, for the machines that panicked since then.

        An emulated machine with two processors (QEMU 7.2) panics with ``Oops: int3`` where its
        kernel changes its own code while the other processor runs that code.
        """
        reasons_of = {}
        for domain in self._files:
            text = self._new(domain)
            if panic := PANIC.search(text):
                oops = OOPS.findall(text, 0, panic.start())
                reasons = [panic[1], *oops[-1:]]
                reasons_of[domain] = ", ".join(
                    line.decode(errors="replace").strip() for line in reasons
                )
        return reasons_of

    def wrong_clock(self, domain: str) -> str:
        """The last clock error on a machine's console, such as ``is 280 s ahead of its host's``.

        Empty where there is none.
        """
        errors = CLOCK.findall(self._new(domain))
        return errors[-1].decode(errors="replace").strip() if errors else ""

    def forget(self, domain: str) -> None:
        """Ignore the text so far of a machine's console; for a machine that is started anew."""
        self._from[domain] = _size(self._files[domain])

    def _new(self, domain: str) -> bytes:
        file, start = self._files[domain], self._from[domain]
        with suppress(OSError), file.open("rb") as console:
            # A shorter file than before is a new file: the log was rotated, or the machine is new.
            console.seek(start if _size(file) >= start else 0)
            return console.read()
        return b""


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
