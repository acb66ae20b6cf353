"""The part of DNS (RFC 1035) that is needed to query the addresses of a name."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

A, IN = 1, 1
RECURSION_DESIRED, RESPONSE, CODE = 0x0100, 0x8000, 0x000F
CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


class NoDns(Exception):
    """The bytes are no answer to the query."""


@dataclass(frozen=True, kw_only=True)
class DnsAnswer:
    """The answer of a name server."""

    code: str
    """Such as ``NOERROR`` or ``NXDOMAIN``."""
    addresses: tuple[IPv4Address, ...]


def query(name: str, identifier: int) -> bytes:
    """A query for the IPv4 addresses of a name; ``identifier`` has 16 bits."""
    header = struct.pack("!6H", identifier, RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _labels(name) + struct.pack("!2H", A, IN)


def read(message: bytes, identifier: int) -> DnsAnswer:
    """The answer to the query with this identifier. Raises NoDns for anything else."""
    try:
        answered, flags, questions, answers, _, _ = struct.unpack_from("!6H", message)
        if answered != identifier or not flags & RESPONSE:
            raise NoDns("it is no answer to this question")
        position = 12
        for _ in range(questions):
            position = _after_name(message, position) + 4
        addresses = []
        for _ in range(answers):
            position = _after_name(message, position)
            kind, family, _, length = struct.unpack_from("!2HIH", message, position)
            position += 10
            if (kind, family, length) == (A, IN, 4):
                addresses.append(IPv4Address(message[position : position + 4]))
            position += length
    except (struct.error, IndexError, ValueError) as error:
        raise NoDns("it is cut off or garbled") from error
    code = flags & CODE
    return DnsAnswer(
        code=CODES[code] if code < len(CODES) else f"code {code}", addresses=tuple(addresses)
    )


def _labels(name: str) -> bytes:
    """The labels of a name, each after its length; the last one is the root's, which is empty."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in (*labels, b""))


def _after_name(message: bytes, position: int) -> int:
    """The position after the name at ``position``; the name's end may be a pointer (4.1.4)."""
    while length := message[position]:
        if length >= 0xC0:
            return position + 2
        position += 1 + length
    return position + 1
