"""A server of files on a socket, which notes what it was asked and can behave badly."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArtifactServer(ThreadingHTTPServer):
    """Files by name, as a site's mirror or a release page has them."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.stops_after: int | None = None
        """How many bytes of a body are sent before the connection breaks."""
        self.asked: list[str] = []
        """The requests: a path, and the range if there was one."""

    def url(self, name: str) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/{name}"


@contextmanager
def mirror(listener: socket.socket) -> Iterator[ArtifactServer]:
    """Serve on a listening socket until the end."""
    with ArtifactServer(listener) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ArtifactServer

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.server.asked.append(f"{self.path} {span}" if span else self.path)
        body = self.server.files.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        start = 0
        if span and self.server.ranges:
            start = int(span.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = None if self.server.stops_after is None else start + self.server.stops_after
        self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: what was asked is noted."""
