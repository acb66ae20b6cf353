"""A port on this computer's loopback address that leads to an address in the lab's namespace.

The machines of a private libvirt answer only in the lab's network namespace. With a forwarder the
person's own programs reach a stack's API as well, or a Service. A forwarder has a name: the stack's
for its API, and ``<stack>:<service>`` for a Service. It runs as a separate process,
``python -m lab.forwarder``: it binds its port first and then enters the namespace, so its listener
is outside and its connections begin inside. It reads nothing of what it forwards.
"""

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lab import daemon, namespace
from lab.cache import locked
from lab.paths import LabPaths
from lab.process import output

if TYPE_CHECKING:  # the process that forwards needs nothing of it
    from lab.stack import Stack

LOOPBACK = "127.0.0.1"
"""The only address on which a forwarder listens."""

API_PORT = 6443
"""The first port to try for an API: Kubernetes' own."""

PORTS = 100
"""How many ports to try, from the first one on."""

HTTPS = 443
"""The port of a URL of HTTPS that names none."""

CONNECT_WITHIN = 30.0
"""Seconds for a connection to a machine; an emulated one may be slow."""

PIECE = 64 * 1024


@dataclass(frozen=True)
class Forwarder:
    """A running forwarder."""

    pid: int
    started: str
    """The kernel's start time of the process; together with the PID it identifies the process."""
    port: int
    """On the loopback address."""
    host: str
    """The address in the namespace, and its port."""
    target: int
    inode: int
    """Of the namespace, which may have been made anew under its name."""

    @property
    def url(self) -> str:
        """The URL at which this computer's programs reach an API behind it."""
        return f"https://{LOOPBACK}:{self.port}"


def of_service(stack: str, service: str) -> str:
    """The name of the forwarder to a Service."""
    return f"{stack}:{service}"


def find(paths: LabPaths, name: str) -> Forwarder | None:
    """The forwarder of a name, if it runs and its namespace is the lab's of today."""
    record = daemon.find(_record(paths, name))
    if record is None:
        return None
    forwarder = Forwarder(**record)
    return forwarder if forwarder.inode == _inode(paths) else None


def names(paths: LabPaths) -> list[str]:
    """The names of all forwarders that have a record."""
    return sorted(path.name.removesuffix(".json") for path in paths.run.glob("forwarder/*.json"))


def of_stack(paths: LabPaths, stack: str) -> list[str]:
    """The names of a stack's forwarders that have a record."""
    return [name for name in names(paths) if name.partition(":")[0] == stack]


def start(
    paths: LabPaths, name: str, host: str, target: int, *, first: int = API_PORT
) -> Forwarder:
    """Start a forwarder to an address in the lab's namespace, or return the one there is.

    It has the same port as the last one of its name where that is free, since kubeconfigs and
    bookmarks have it, else the ``first`` free one. Raises a Problem where it does not start.
    """
    with locked(paths.run / "forwarder.lock"):
        running = find(paths, name)
        if running is not None and (running.host, running.target) == (host, target):
            return running
        daemon.stop(_record(paths, name))
        command = [sys.executable, "-m", "lab.forwarder", "--to", f"{host}:{target}"]
        command += ["--namespace", str(namespace.namespace_path(paths))]
        command += ["--record", str(_record(paths, name)), "--first", str(first)]
        last = _last_port(paths, name)
        command += ["--port", str(last)] if last else []
        forwarder = Forwarder(
            **daemon.start("forwarder", command, paths.logs / f"forwarder-{name}.log")
        )
        _remembered(paths, name).parent.mkdir(parents=True, exist_ok=True)
        _remembered(paths, name).write_text(str(forwarder.port))
        return forwarder


def is_needed(paths: LabPaths, stack: "Stack") -> bool:
    """Whether a stack's machines are in a namespace of their own, and this process is not in it."""
    return bool(stack.enter) and not namespace.inside(namespace.namespace_path(paths))


def start_to(paths: LabPaths, stack: str, url: str) -> Forwarder:
    """``start`` for the API of a stack at a URL."""
    address = urlsplit(url)
    return start(paths, stack, address.hostname or "", address.port or HTTPS)


def stop(paths: LabPaths, names: Iterable[str]) -> None:
    """End the forwarders of these names, as far as they run."""
    with locked(paths.run / "forwarder.lock"):
        for name in names:
            if running := find(paths, name):
                # A cluster address has a route of its own (ops/expose.py).
                route = ["ip", "-n", paths.namespace, "route", "delete", f"{running.host}/32"]
                output(route)
            daemon.stop(_record(paths, name))


def _record(paths: LabPaths, name: str) -> Path:
    return paths.run / "forwarder" / f"{name}.json"


def _remembered(paths: LabPaths, name: str) -> Path:
    """The file with the port, which outlives a reboot."""
    return paths.state / "forwarder" / name


def _last_port(paths: LabPaths, name: str) -> int | None:
    try:
        return int(_remembered(paths, name).read_text())
    except (OSError, ValueError):
        return None


def _inode(paths: LabPaths) -> int | None:
    try:
        return os.stat(namespace.namespace_path(paths)).st_ino
    except OSError:
        return None


# -- the process -----------------------------------------------------------------------------------


def bound(preferred: int | None, first: int) -> socket.socket:
    """A listening socket on the loopback address, on the preferred port or the first free one.

    Raises OSError where all are taken.
    """
    ports = [*([preferred] if preferred else []), *range(first, first + PORTS)]
    for port in ports:
        listener = socket.socket()
        # A port of an earlier forwarder has connections that are not quite over.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return listener
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Forward connections until a signal ends this process."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                there, back = await asyncio.open_connection(host, port, limit=PIECE)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        await asyncio.gather(_copied(reader, back), _copied(there, writer))
        back.close()
        writer.close()

    server = await asyncio.start_server(connected, sock=listener, limit=PIECE)
    await ended.wait()
    server.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, and end it on the other side: the rest goes on."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()  # the side that is still there learns that the other broke off


def main() -> int:
    """Read the command line, bind, enter the namespace and forward."""
    parser = argparse.ArgumentParser(prog="lab.forwarder", description=__doc__)
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--namespace", type=Path, required=True)
    parser.add_argument("--port", type=int, help="the port to try before all others")
    parser.add_argument("--first", type=int, default=API_PORT, help="the first of the others")
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    host, _, port = arguments.to.rpartition(":")
    try:
        listener = bound(arguments.port, arguments.first)
    except OSError as error:
        ports = f"from {arguments.first} to {arguments.first + PORTS - 1}"
        daemon.refuse(
            f"no port of {LOOPBACK} {ports} can be used ({error.strerror})",
            "end what listens there, and run the same again",
        )
        return 1
    try:
        namespace.enter(arguments.namespace)
        inode = os.stat(arguments.namespace).st_ino
    except OSError as error:
        daemon.refuse(
            f"the network namespace {arguments.namespace} cannot be entered ({error.strerror})",
            "run the same command as root, or start the lab with ./hardway up",
        )
        return 1
    properties = {"port": listener.getsockname()[1], "host": host, "target": int(port)}
    daemon.announce(arguments.record, {**properties, "inode": inode})
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(listener, host, int(port)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
