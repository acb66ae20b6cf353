"""Translates the connection URI of a spec into those of the provider and of virsh.

The host itself is asked by the same login.

The provider reads a URI with the Go library of its own, virsh with libvirt's C library. Both log in
by SSH, but neither knows all parameters of the other (``docs/pitfalls.md``): a stack's file has
those of the Go library, and virsh gets a command for ``ssh`` with the same meaning.
"""

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

OPTIONS = (
    *("StrictHostKeyChecking=yes", "BatchMode=yes"),
    # A connection that the network has lost ends, so that a command does not wait for ever.
    *("ServerAliveInterval=15", "ServerAliveCountMax=4", "ConnectTimeout=30"),
)


def for_provider(uri: str) -> str:
    """The URI by which the provider connects: with the key that it names, if it names a key.

    Beside an SSH agent the Go library would offer the agent's keys alone.
    """
    parts = urlsplit(uri)
    given = parse_qs(parts.query)
    if "keyfile" not in given or "sshauth" in given:
        return uri
    return urlunsplit(parts._replace(query=f"{parts.query}&sshauth=privkey"))


@contextmanager
def for_virsh(uri: str) -> Iterator[str]:
    """The URI by which virsh connects as the provider does, as long as the context lasts."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[2] != "ssh":
        yield uri
        return
    given = parse_qs(parts.query)
    with tempfile.TemporaryDirectory(prefix="hardway-") as folder:
        command = Path(folder, "ssh")
        command.write_text(f'#!/bin/sh\nexec {shlex.join(ssh(given))} "$@"\n')
        command.chmod(0o700)
        query = f"command={quote(str(command))}"
        if sockets := given.get("socket"):
            # Otherwise libvirt's helper on the host goes by the driver's usual socket.
            query += f"&socket={quote(sockets[0])}&proxy=netcat"
        yield urlunsplit(parts._replace(query=query))


def python_on_host(uri: str, *arguments: str) -> list[str]:
    """The command that runs Python with these arguments on the host of a libvirt.

    ``uri`` is of this host or leads there by SSH.
    """
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[2] != "ssh":
        return [sys.executable, *arguments]
    port = ["-p", str(parts.port)] if parts.port else []
    login = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
    program = shlex.join(["python3", *arguments])
    return [*ssh(parse_qs(parts.query)), *port, login, program]


def ssh(given: dict[str, list[str]]) -> list[str]:
    """The beginning of the command for ``ssh``, from the parameters of a URI."""
    options = [*OPTIONS]
    if known := given.get("knownhosts"):
        options += [f"UserKnownHostsFile={known[0]}", "GlobalKnownHostsFile=/dev/null"]
    if keys := given.get("keyfile"):
        options += [f"IdentityFile={keys[0]}"]
    return ["ssh", *(word for option in options for word in ("-o", option))]
