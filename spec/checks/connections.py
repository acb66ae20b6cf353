"""Checks the connection URIs of libvirt.

The provider reads them with a Go library of its own, which knows fewer transports and other
parameters than libvirt's C library, and passes over those that it does not know.
"""

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from spec.description import Description
from spec.hypervisor import Hypervisor, Libvirt
from spec.refusal import Refusal, called, dotted, listed

TRANSPORTS = ("", "unix", "ssh", "tls", "tcp")

BY_SSH = ("keyfile", "knownhosts", "socket", "sshauth", "name")
"""The parameters that both ways of connecting follow, the Go library's and that of virsh."""

OF_C = {"known_hosts": "write knownhosts=/path, which the provider reads"}
"""Parameters of the C library that have another name, with what to write."""

UNCHECKED = ("no_verify", "known_hosts_verify")


def libvirt_is_reached_by_its_uri(spec: Description) -> Iterator[Refusal]:
    """See ``_connects``."""
    yield from _connects("hypervisor.uri", spec.hypervisor)


def machine_libvirt_is_reached_by_its_uri(spec: Description, name: str) -> Iterator[Refusal]:
    """See ``_connects``."""
    field = dotted(("machines", name, "hypervisor", "uri"))
    yield from _connects(field, spec.machines[name].hypervisor)


def _connects(field: str, where: Hypervisor | None) -> Iterator[Refusal]:
    """The provider and virsh connect by this URI, to a host whose key they know."""
    if not isinstance(where, Libvirt):
        return
    parts = urlsplit(where.uri)
    transport = parts.scheme.partition("+")[2]
    if transport not in TRANSPORTS:
        yield Refusal(
            field,
            f"has the transport {transport}, which only libvirt's own library has",
            "the provider could not connect",
            "write qemu+ssh, whose host key and key the parameters knownhosts and keyfile name",
        )
    if parts.password is not None:
        yield Refusal(
            field,
            "has a password in it",
            "whoever sees the stack or its state would see the password as well",
            "write a key by keyfile=/path, or let an agent have it",
        )
    if transport != "ssh":
        return
    if not parts.username:
        yield Refusal(
            field,
            "names no user",
            "the provider would log in without a name",
            f"write qemu+ssh://root@{parts.netloc}{parts.path}",
        )
    yield from _parameters(field, dict(parse_qsl(parts.query, keep_blank_values=True)))


def _parameters(field: str, given: dict[str, str]) -> Iterator[Refusal]:
    for name, value in given.items():
        if name in UNCHECKED:
            yield Refusal(
                field,
                f"has {name}, so any host key would do",
                "another computer could answer and be given the machines' own keys",
                "leave it out, and name the host's key by knownhosts=/path",
            )
        elif name not in BY_SSH:
            yield Refusal(
                field,
                f"has the parameter {called(name)}",
                "the provider would pass over it",
                OF_C.get(name, f"write {listed(BY_SSH)} alone, or leave it out"),
            )
        elif name in ("keyfile", "knownhosts", "socket") and not value.startswith("/"):
            yield Refusal(
                field,
                f"has {name}={value}, which is no absolute path",
                "the provider and virsh would read different files",
                f"write {name}=/ and the path from the root on",
            )
