"""Ports of the loopback interface for servers that tests start, stop and start again."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path

EACH = 500
"""Ports of one process of the tests."""


def free_port() -> int:
    """A port on which nobody listens, nor will: neither the kernel nor other tests give it away."""
    while True:
        port = next(_own()[1])
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@cache
def _own() -> tuple[socket.socket, Iterator[int]]:
    """What says to other tests that these ports are taken, for as long as this process lives."""
    (ephemeral, _) = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for first in range(12_000, ephemeral - EACH, EACH):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0hardway-test-ports-{first}")
        except OSError:
            claim.close()
            continue
        return claim, cycle(range(first, first + EACH))
    raise AssertionError("other tests have all ports")
