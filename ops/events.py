"""What the engine said of each resource during an update, without what it said of their values.

An event log (``--event-log``) also has what plugins print for themselves: the libvirt provider's
debug lines are whole user data, with a machine's private key. So the engine writes into a pipe, and
only names, operations, times and of each failure one sentence ever reach a file.
"""

import json
import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ops.redaction import Redaction
from plan import render

KEPT = ("resourcePreEvent", "resOutputsEvent", "resOpFailedEvent")
FIELDS = ("urn", "type", "op")

LONGEST = 400
"""Characters that are kept of why a resource failed."""

OF_A_PROVIDER = "Exception calling application: "
"""What gRPC puts before the words of a dynamic resource's exception."""


@contextmanager
def kept_events(
    target: Path, say: Callable[[str], None], see: Callable[[dict[str, Any]], None]
) -> Iterator[Path]:
    """Give the path for ``--event-log``; what is kept of the events is in ``target`` at once.

    ``see`` gets each event as it comes, whole, to show at once what Pulumi would show.

    Where it cannot be written, as on a full disk, ``say`` gets the reason and there is no
    ``target``: an update goes on without it.
    """
    pipe = target.with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe, 0o600)
    done = threading.Event()
    # Opened for writing as well: there is no end of file while the engine comes and goes.
    source = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    reader = threading.Thread(target=_read, args=(source, _KeptEvents(target, say), see, done))
    reader.start()
    try:
        yield pipe
    finally:
        done.set()
        reader.join()
        os.close(source)
        pipe.unlink(missing_ok=True)


def _read(
    source: int, kept: "_KeptEvents", see: Callable[[dict[str, Any]], None], done: threading.Event
) -> None:
    """Read to the end, whatever becomes of it: the engine waits while its pipe is full."""
    rest = b""
    kept.write(b"")
    while True:
        more, _, _ = select.select([source], [], [], 0.2)
        if not more:
            if done.is_set():
                return
            continue
        *lines, rest = (rest + os.read(source, 2**16)).split(b"\n")
        events = list(_events(lines))
        kept.write(b"".join(f"{json.dumps(one)}\n".encode() for one in map(kept_of, events) if one))
        for event in events:
            with suppress(OSError, *STRANGE):  # who looks on may have gone, and the engine goes on
                see(event)


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):
            if isinstance(event := json.loads(line), dict):
                yield event


class _KeptEvents:
    """The file of what is kept, as long as it can be written."""

    def __init__(self, target: Path, say: Callable[[str], None]) -> None:
        self._target = target
        self._say = say
        self._mode = "wb"

    def write(self, text: bytes) -> None:
        """Add to the file; after the first failure there is none, since half a file misleads."""
        if not self._mode:
            return
        try:
            with self._target.open(self._mode) as file:
                file.write(text)
            self._mode = "ab"
        except OSError as error:
            self._mode = ""
            with suppress(OSError):
                self._target.unlink(missing_ok=True)
            with suppress(OSError):
                self._say(
                    f"{self._target} cannot be written ({error.strerror}): what this update waits "
                    "for is not kept"
                )


STRANGE = (ValueError, LookupError, TypeError, AttributeError)
"""What an event of another version of the engine may cause."""


def kept_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """Of an event of the engine about a resource, its time, kind and names; else nothing.

    Of an error also why: a step's own sentence or else the first line, and nothing of a log.
    """
    with suppress(*STRANGE):
        said = event.get("diagnosticEvent", {})
        if said.get("severity") == "error" and said.get("urn"):
            told = {"urn": said["urn"], "severity": "error", "message": _sentence(said["message"])}
            return {"timestamp": event["timestamp"], "diagnosticEvent": told}
        for kind in KEPT:
            if metadata := event.get(kind, {}).get("metadata"):
                return {
                    "timestamp": event["timestamp"],
                    kind: {"metadata": {field: metadata[field] for field in FIELDS}},
                }
    return None


def _sentence(message: str) -> str:
    """Why a resource failed, in one line; nothing that looks like a key."""
    first = message.strip().removeprefix(OF_A_PROVIDER).partition("\n")[0]
    text = Redaction(())(render.failure(message) or first.rstrip(": "))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
