"""The site mirror: serves the cache's files over HTTP to the machines of one network.

``GET /sha256/<digest>`` returns a file and ``GET /index.json`` the list of files; every other path
is answered with 404. The mirror runs as a separate process, in the lab's network namespace where
there is one: ``python -m lab.mirror --bind ADDRESS --port PORT``.
"""

import argparse
import errno
import http
import json
import os
import re
import socket
import socketserver
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast

from lab import daemon
from lab.cache import Cache, locked
from lab.paths import LabPaths

PORT = 6480
SILENT_CLIENT = 60.0
"""Seconds after which a connection is closed on which the client is silent."""

_IP_FREEBIND = 15  # linux/in.h: an address can be bound before the bridge that will have it exists


# -- the server --------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests for files by digest and for the index."""

    protocol_version = "HTTP/1.1"
    server_version = "hardway-mirror"
    sys_version = ""
    timeout = SILENT_CLIENT

    @property
    def _cache(self) -> Cache:
        return cast(MirrorServer, self.server).cache

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path == "/index.json":
            self._index()
        elif match := re.fullmatch(r"/sha256/([0-9a-f]{64})", self.path):
            self._file(match[1])
        else:
            self._refuse(http.HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815

    def _index(self) -> None:
        content = json.dumps(index(self._cache), indent=1).encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _file(self, digest: str) -> None:
        try:
            stream = self._cache.blob(digest).open("rb")
        except OSError:
            self._refuse(http.HTTPStatus.NOT_FOUND)
            return
        with stream:
            self._send(stream, digest)

    def _send(self, stream: BinaryIO, digest: str) -> None:
        size = os.fstat(stream.fileno()).st_size
        tag = f'"{digest}"'
        if self.headers.get("If-None-Match") in (tag, "*"):
            self._head(http.HTTPStatus.NOT_MODIFIED, tag, 0)
            return
        wanted = self.headers.get("Range", "")
        if self.headers.get("If-Range", tag) != tag:
            wanted = ""
        try:
            span = _span(wanted, size)
        except ValueError:
            self._refuse(http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
            return
        if span is None:
            first, length = 0, size
            self._head(http.HTTPStatus.OK, tag, size)
        else:
            first, length = span
            content_range = f"bytes {first}-{first + length - 1}/{size}"
            self._head(http.HTTPStatus.PARTIAL_CONTENT, tag, length, content_range)
        if self.command == "GET" and length:
            self.connection.sendfile(stream, first, length)

    def _head(
        self, status: http.HTTPStatus, tag: str, length: int, content_range: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        if status != http.HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _refuse(self, status: http.HTTPStatus, content_range: str = "") -> None:
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and length of a Range header; None where the whole file is to be sent.

    A header that is malformed or asks for several ranges is ignored, as RFC 9110, section 14,
    allows. Raises ValueError for a range outside the file.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    if not match[1]:
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    if first >= size or last < first:
        raise ValueError(wanted)
    return first, last - first + 1


class MirrorServer(ThreadingHTTPServer):
    """An HTTP server that can bind an address before any interface has that address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, cache: Cache) -> None:
        self.cache = cache
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """Bind without http.server's name look-up, which can take long without a network."""
        if sys.platform == "linux":
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a request, except that the client closed the connection or timed out."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def index(cache: Cache) -> list[dict[str, str | int]]:
    """The list of the mirror's files, for people and for programs that only know names."""
    return [
        {
            "name": name,
            "version": receipt.facts.get("version", ""),
            "sha256": digest,
            "size": cache.blob(digest).stat().st_size,
            "origin": receipt.origin,
            "source": receipt.source,
        }
        for receipt in cache.receipts()
        for name, digest in sorted(receipt.files.items())
        if cache.blob(digest).is_file()
    ]


# -- the process -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mirror:
    """A running mirror."""

    pid: int
    started: str
    """The kernel's start time of the process; together with the PID it identifies the process."""
    address: str
    port: int

    @property
    def url(self) -> str:
        """The URL at which machines reach the mirror."""
        return f"http://{self.address}:{self.port}"


def find(paths: LabPaths) -> Mirror | None:
    """The lab's mirror if it runs, else None.

    A record of a mirror that has died, or from before a reboot, does not count.
    """
    record = daemon.find(_record(paths))
    return None if record is None else Mirror(**record)


def start(paths: LabPaths, address: str, port: int, enter: Sequence[str] = ()) -> Mirror:
    """Start a mirror of the shared cache at an address, or return the one that runs there already.

    A mirror of this lab at another address is ended first. ``enter`` is the command prefix that
    runs a command in the lab's network namespace. Raises a Problem where the mirror does not start;
    where its port is taken, the message names the program that uses the port.
    """
    with locked(paths.run / "mirror.lock"):
        running = find(paths)
        if running is not None and (running.address, running.port) == (address, port):
            return running
        daemon.stop(_record(paths))
        return _start(paths, address, port, enter)


def _start(paths: LabPaths, address: str, port: int, enter: Sequence[str]) -> Mirror:
    command = [sys.executable, "-m", "lab.mirror", "--bind", address, "--port", str(port)]
    command = [*enter, *command, "--record", str(_record(paths))]
    return Mirror(**daemon.start("mirror", command, paths.logs / "mirror.log"))


def stop(paths: LabPaths) -> None:
    """End the lab's mirror if it runs."""
    with locked(paths.run / "mirror.lock"):
        daemon.stop(_record(paths))


def _record(paths: LabPaths) -> Path:
    return paths.run / "mirror.json"


def _holder(port: int) -> str:
    """A description of the program that listens on a port, as far as this user may see it."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                return f"process {process.name} ({command})"
    return "another program"


_LISTENING = "0A"


def serve(address: str, port: int, record: Path | None) -> int:
    """Serve until ended and return the exit status.

    Announces itself as ``lab.daemon`` has it.
    """
    try:
        server = MirrorServer(address, port, Cache())
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"port {port}, which the site mirror needs, is taken by {_holder(port)}"
            remedy = "end that, or give the lab's network another address"
        else:
            what = f"the site mirror cannot listen on {address}:{port} ({error.strerror})"
            remedy = "give another address or port"
        daemon.refuse(what, remedy)
        return 1
    daemon.announce(record, {"address": address, "port": port})
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def main() -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="lab.mirror", description=__doc__)
    parser.add_argument("--bind", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--record", type=Path, help="write here which process it is")
    arguments = parser.parse_args()
    return serve(arguments.bind, arguments.port, arguments.record)


if __name__ == "__main__":
    sys.exit(main())
