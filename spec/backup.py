"""Backups of etcd: how often, how many, and where their copies go."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from spec.hypervisor import User
from spec.part import Expected, LeftOut, Part, Port, Text, Truth, Whole

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

    kind: Literal["sftp"] = Field(default="sftp", exclude=True)
    """Tells a directory by SFTP and a bucket apart."""
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


class BackupBucket(Part):
    """A bucket of S3 or of a server that speaks as S3 does, to which backups are uploaded.

    The two halves of its access key are secrets beside the cluster, ``hardway:bucket``
    (``docs/backup.md``). The key must let list the bucket, and read, write and delete objects below
    ``prefix``.
    """

    kind: Literal["s3"]
    """Tells a directory by SFTP and a bucket apart."""
    endpoint: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^https://[^\s/?#]+$"),
        Expected("a https URL without a path, such as https://s3.example.org"),
    ]
    """The server, by an address or a name that the member's machine can look up, as for SFTP, and
    its port where it is not 443. Asked through ``proxy.https`` where that is set."""
    region: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"),
        Expected("a region's name, such as eu-central-1"),
    ] = "us-east-1"
    """The region for which requests are signed, as the server names it."""
    bucket: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
        Expected("a bucket's name of 3 to 63 lower-case letters, digits, dots and hyphens"),
    ]
    """The bucket, which exists: it is never made."""
    prefix: Annotated[
        str,
        StringConstraints(strict=True, pattern=r"^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$"),
        Expected("names of letters, digits and ._- with a slash between two, such as clusters/dev"),
        LeftOut("copies lie at the bucket's top"),
    ] = ""
    """What stands before the copies' names, with a slash behind it."""
    path_style: Truth = True
    """Whether the bucket is a part of the URL's path, which every server knows; else it is a part
    of the host's name, ``bucket.s3.example.org``."""
    authority: Annotated[
        Annotated[str, Expected("certificates in PEM, as text of several lines")] | None,
        LeftOut("those that the machine's distribution trusts"),
    ] = None
    """The certificates of the authorities that the server's must come from."""

    @property
    def path(self) -> str:
        """Where copies lie, ``bucket/prefix/``, which their names follow."""
        return f"{self.bucket}/{self.prefix}/" if self.prefix else f"{self.bucket}/"


def _sftp_unless_said(value: Any) -> Any:
    """Makes a place without a kind a directory by SFTP, which was the only kind at first.

    One with a key that only a bucket has keeps none: nobody can tell what is meant.
    """
    if not isinstance(value, Mapping) or "kind" in value:
        return value
    only = BackupBucket.model_fields.keys() - BackupDestination.model_fields.keys()
    return value if only & value.keys() else {"kind": "sftp", **value}


CopiedTo = Annotated[
    Annotated[BackupDestination | BackupBucket, Field(discriminator="kind")],
    BeforeValidator(_sftp_unless_said),
]
"""Where backups are copied to; ``kind`` tells which of the two."""


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
    to: Annotated[CopiedTo | None, LeftOut("backups stay on the member's machine alone")] = None
    """Where each backup is copied to: a directory by SFTP, or a bucket."""
