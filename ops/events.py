"""Keeps the engine's events of an update in a file, without the values of resources.

An event log (``--event-log``) also contains the output of plugins. The debug lines of the libvirt
provider contain whole user data, with a machine's private key. So the engine writes its log into a
pipe, and only names, operations, times and one sentence for each failure are written to a file.
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
"""Most characters of a failure's reason that are kept."""

OF_A_PROVIDER = "Exception calling application: "
"""The prefix that gRPC adds to the message of a dynamic resource's exception."""


@contextmanager
def kept_events(
    target: Path, say: Callable[[str], None], see: Callable[[dict[str, Any]], None]
) -> Iterator[Path]:
    """Yield the path for ``--event-log``; write the reduced events to ``target`` as they come.

    ``see`` gets each whole event as it comes, to show progress.

    Where ``target`` cannot be written, as on a full disk, ``say`` gets the reason, the file is
    removed and the update goes on.
    """
    pipe = target.with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe, 0o600)
    done = threading.Event()
    # Opened for writing as well, so that there is no end of file when the engine closes the pipe.
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
    """Read the pipe to the end, also after errors: a full pipe would block the engine."""
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
        kept.write(
            b"".join(f"{json.dumps(event)}\n".encode() for event in map(kept_of, events) if event)
        )
        for event in events:
            with suppress(OSError, *STRANGE):  # a failing display must not stop the engine
                see(event)


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):
            if isinstance(event := json.loads(line), dict):
                yield event


class _KeptEvents:
    """The file of reduced events, as long as it can be written."""

    def __init__(self, target: Path, say: Callable[[str], None]) -> None:
        self._target = target
        self._say = say
        self._mode = "wb"

    def write(self, text: bytes) -> None:
        """Append to the file; after a failure remove it for good, since half a file misleads."""
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
"""The exceptions that an event in another engine version's format may cause."""


def kept_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """Reduce an engine event about a resource to its time, kind and names; None for other events.

    An error event also keeps its reason: the step's own sentence, or else the first line of the
    message.
    """
    with suppress(*STRANGE):
        diagnostic = event.get("diagnosticEvent", {})
        if diagnostic.get("severity") == "error" and diagnostic.get("urn"):
            error = {
                "urn": diagnostic["urn"],
                "severity": "error",
                "message": _sentence(diagnostic["message"]),
            }
            return {"timestamp": event["timestamp"], "diagnosticEvent": error}
        for kind in KEPT:
            if metadata := event.get(kind, {}).get("metadata"):
                return {
                    "timestamp": event["timestamp"],
                    kind: {"metadata": {field: metadata[field] for field in FIELDS}},
                }
    return None


def _sentence(message: str) -> str:
    """The reason of a failure in one line, without anything that looks like a key."""
    first = message.strip().removeprefix(OF_A_PROVIDER).partition("\n")[0]
    text = Redaction(())(render.failure(message) or first.rstrip(": "))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
