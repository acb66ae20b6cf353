"""Backups of etcd: how often, how many, and where their copies go."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

from spec.hypervisor import User
from spec.part import Expected, LeftOut, Part, Port, Text, Whole

UNITS = {"m": 60, "h": 3600, "d": 86400}
"""Unit of a period to its seconds."""

Period = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[1-9][0-9]{0,4}[mhd]$"),
    Expected('a number of minutes, hours or days in quotes, such as "30m", "6h" or "1d"'),
]


def seconds(period: str) -> int:
    """The length of a period, such as ``6h``."""
    number, unit = re.fullmatch(r"(\d+)([mhd])", period).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


class BackupDestination(Part):
    """A directory of a computer outside the cluster, to which backups are copied by SFTP.

    `./hardway backup key` prints the key that its user must let in.
    """

    host: Annotated[Text, Expected("an IPv4 address or a DNS name")]
    """The computer, by an address or a name that the member's machine can look up: no machine of
    the cluster, no Service, no address of ``networks.pods`` or ``networks.services``, and not
    ``localhost``."""
    port: Port = 22
    """The TCP port of its sshd."""
    user: User
    """Who logs in there, with a key of the cluster's own for that purpose; SFTP is enough."""
    host_key: Text
    """The computer's public host key, ``ssh-ed25519 AAAA…``, as in its
    ``/etc/ssh/ssh_host_ed25519_key.pub``: Ed25519, ECDSA or RSA."""
    directory: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^/?[A-Za-z0-9._][A-Za-z0-9._/-]*$"),
        Expected("a path of letters, digits and ._-/, such as /srv/backups"),
    ]
    """Where the copies lie, from the user's home on where it is not absolute. Its last part is made
    where it is missing."""


class Backup(Part):
    """Backups of etcd, encrypted for this stack's state, by a timer on etcd's first member.

    Left out again, the timer, the backups on the machine and the key for ``to`` are taken away;
    copies elsewhere stay.
    """

    every: Period = "6h"
    """The time between two backups: from ``"5m"`` to ``"30d"``. `validate` warns where the newest
    is twice as old."""
    keep: Annotated[Whole, Field(ge=1, le=1000), Expected("a whole number from 1 to 1000")] = 7
    """How many backups are kept, on the machine and at ``to``."""
    to: Annotated[
        BackupDestination | None, LeftOut("backups stay on the member's machine alone")
    ] = None
    """Where each backup is copied to."""
