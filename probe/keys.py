"""Checks that the keys that turn over are those of the spec, and says where a change stands."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time

from certs.signing import TRUSTED
from plan.condition import CurrentKeys
from plan.walk import ENCRYPTION, SERVICE_ACCOUNTS
from probe.failure import Unmet, demand
from probe.machines import Machines
from probe.space import first_answer
from spec.refusal import listed

LIMIT = 60
"""The time limit of two requests to etcd, in seconds."""

GRACE = 3600
"""Seconds after the end of the trust in a former pair, in which an update may end it."""

NOTE = re.compile(
    r"(?P<kind>/hardway/[a-z-]+/)(?P<plane>\S+) \d+"
    r"(?P<names>(?: [a-z]+\d+)*)(?: since=(?P<since>\d+))?"
)
"""Matches what a control plane published about its API server (``scripts/walk.sh``)."""


@dataclass(frozen=True, kw_only=True)
class Noted:
    """The keys for one purpose that an API server has."""

    names: tuple[str, ...]
    """First the one that it uses."""
    since: int = 0
    """When it began to use that one, in seconds since 1970."""


async def demand_keys(check: CurrentKeys, machines: Machines) -> None:
    """Raises Unmet where a Secret or an API server has another key than it should."""
    node, done = await first_answer(check.members, machines, "keys", timeout=LIMIT)
    if done.status != 0:
        raise Unmet(f"etcd cannot be asked on {node} ({done.reason})")
    notes, _, secrets = done.stdout.partition("\n\n")
    noted = _noted(notes, check.planes)
    demand(
        filter(
            None,
            (
                of_encryption(
                    check.encryption, noted.get(ENCRYPTION, {}), Counter(secrets.split())
                ),
                of_signing(check.service_accounts, noted.get(SERVICE_ACCOUNTS, {}), time()),
            ),
        )
    )


def _noted(text: str, planes: Sequence[str]) -> dict[str, dict[str, Noted]]:
    """Where control planes published, to what each of these published there."""
    noted: dict[str, dict[str, Noted]] = {}
    for match in filter(None, map(NOTE.match, text.splitlines())):
        if match["plane"] in planes:
            names, since = tuple(match["names"].split()), int(match["since"] or 0)
            kept = Noted(names=names, since=since)
            noted.setdefault(match["kind"], {})[match["plane"]] = kept
    return noted


def of_encryption(key: str, noted: Mapping[str, Noted], secrets: Mapping[str, int]) -> str:
    """Where the change to an encryption key stands; empty where it is done.

    ``secrets`` maps the keys of Secrets in etcd to the numbers of these.
    """
    left = {name: count for name, count in secrets.items() if name != key}
    if not noted or (not left and all(note.names == (key,) for note in noted.values())):
        return ""
    parts = [f"{count} Secrets have {name}" for name, count in sorted(left.items())]
    return (
        f"the encryption key has not wholly become {key}: {'; '.join([*parts, *_has(noted)])} (API "
        "servers write with the first); all Secrets can be read, and ./hardway up goes on"
    )


def of_signing(pair: str, noted: Mapping[str, Noted], now: float) -> str:
    """Where the change to a service accounts' key pair stands; empty where it is done.

    It is done as well where former pairs are trusted for as long as tokens of theirs may be in use.
    ``now`` is in seconds since 1970.
    """
    if any(note.names[:1] != (pair,) for note in noted.values()):
        return (
            f"the service accounts' key pair has not wholly become {pair}: "
            f"{'; '.join(_has(noted))} (API servers sign with the first); no token in use is "
            "refused, and ./hardway up goes on"
        )
    former = {name for note in noted.values() for name in note.names} - {pair}
    hours = int(now - max((note.since for note in noted.values()), default=0)) // 3600
    if not former or hours * 3600 < TRUSTED.total_seconds() + GRACE:
        return ""
    return (
        f"API servers still trust tokens of {listed(sorted(former), 'and')}, though {pair} has "
        f"signed for {hours} hours: ./hardway up --refresh ends that"
    )


def _has(noted: Mapping[str, Noted]) -> Iterator[str]:
    for plane, note in sorted(noted.items()):
        yield f"{plane} has {listed(note.names, 'and')}"
