"""The access key of the bucket for backups, which a stack's configuration has as two secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from spec.backup import BackupBucket
from spec.cluster import Cluster
from spec.refusal import Refusal, SpecError, dotted, listed
from spec.secret_values import not_secret

KEY = "bucket"
"""The key in the configuration, in the project's namespace: a mapping of halves to secrets."""

FULL_KEY = f"hardway:{KEY}"

HALVES = ("access_key_id", "secret_access_key")
"""What the two secrets are called, here and in the configuration of rclone."""

_USABLE = re.compile(r"[A-Za-z0-9/+=.,:;_~@!?*^&|()<>{}\[\]#$-]+")
"""Printable characters without those that rclone's configuration file takes for its own."""


def command(half: str) -> str:
    """The command that asks for one half of the access key and writes it."""
    return f"./hardway pulumi config set --secret --path {FULL_KEY}.{half}"


def wants_bucket_key(spec: Cluster) -> bool:
    """Whether backups are copied to a bucket."""
    return spec.backup is not None and isinstance(spec.backup.to, BackupBucket)


def demand_bucket_key(spec: Cluster, halves: Mapping[str, Any]) -> None:
    """Raise SpecError unless the halves of an access key are there exactly where a bucket is.

    A half that is text is the secret itself, and must be text that a machine's file can have. It is
    not repeated.
    """
    if refusals := list(_refusals(spec, halves)):
        raise SpecError("\n".join(map(str, refusals)))


def _refusals(spec: Cluster, halves: Mapping[str, Any]) -> Iterator[Refusal]:
    if not wants_bucket_key(spec):
        if halves:
            yield Refusal(
                FULL_KEY,
                "belongs to no bucket",
                "no machine would get it",
                "write backup.to of the kind s3, or leave the key out",
            )
        return
    for half in HALVES:
        if half not in halves:
            yield Refusal(
                "backup.to.bucket",
                f"has no {half}",
                "its server would refuse every backup",
                f"run {command(half)}",
            )
        elif isinstance(halves[half], str) and not _USABLE.fullmatch(halves[half]):
            yield Refusal(
                dotted((FULL_KEY, half)),
                "is empty, or has a space, a quote, a backslash, a percent sign or no ASCII in it",
                "the program that uploads would read another one",
                f"have the server make another access key, and run {command(half)}",
            )
    for half in sorted(halves.keys() - set(HALVES)):
        yield Refusal(
            dotted((FULL_KEY, half)),
            "is no half of an access key",
            "nobody would read it",
            f"write {listed(HALVES, 'and')}",
        )


def refused_plain(values: Any) -> Iterator[Refusal]:
    """The mistakes in the access key as a stack's file has it: each half must be a secret."""
    no_mapping = Refusal(
        FULL_KEY,
        "is no mapping of halves to secrets",
        "nobody can tell the halves apart",
        f"leave it out, and run {command(HALVES[0])} and the same for {HALVES[1]}",
    )
    change = "have the server make another access key"
    yield from not_secret(FULL_KEY, values, no_mapping, change, command)
