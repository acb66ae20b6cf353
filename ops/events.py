"""What the engine said of each resource during an update, without what it said of their values.

An event log (``--event-log``) also has what plugins print for themselves: the libvirt provider's
debug lines are whole user data, with a machine's private key. So the engine writes into a pipe, and
only names, operations and times ever reach a file.
"""

import json
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KEPT = ("resourcePreEvent", "resOutputsEvent", "resOpFailedEvent")
FIELDS = ("urn", "type", "op")


@contextmanager
def kept_events(target: Path) -> Iterator[Path]:
    """Give the path for ``--event-log``; what is kept of the events is in ``target`` at once."""
    pipe = target.with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe, 0o600)
    done = threading.Event()
    # Opened for writing as well: there is no end of file while the engine comes and goes.
    source = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    reader = threading.Thread(target=_keep, args=(source, target, done))
    reader.start()
    try:
        yield pipe
    finally:
        done.set()
        reader.join()
        os.close(source)
        pipe.unlink(missing_ok=True)


def _keep(source: int, target: Path, done: threading.Event) -> None:
    rest = b""
    with target.open("w") as file:
        while True:
            more, _, _ = select.select([source], [], [], 0.2)
            if not more:
                if done.is_set():
                    return
                continue
            *lines, rest = (rest + os.read(source, 2**16)).split(b"\n")
            for line in lines:
                if event := kept(line):
                    file.write(json.dumps(event) + "\n")
            file.flush()


def kept(line: bytes) -> dict[str, Any] | None:
    """Of an event of the engine about a resource, its time, kind and names; else nothing."""
    with suppress(ValueError):
        event = json.loads(line)
        for kind in KEPT:
            if metadata := event.get(kind, {}).get("metadata"):
                return {
                    "timestamp": event["timestamp"],
                    kind: {"metadata": {field: metadata[field] for field in FIELDS}},
                }
    return None
