"""Checks that Secrets in etcd are encrypted with the key of the spec, and where a change stands."""

from collections import Counter
from collections.abc import Mapping, Sequence

from plan.condition import Encrypted
from probe.failure import Unmet
from probe.machines import Machines
from probe.space import first_answer
from spec.refusal import listed

STARTING = "starting"
"""Stands behind the keys of an API server that had not started yet (``scripts/encryption.sh``)."""

LIMIT = 60
"""The time limit of two requests to etcd, in seconds."""


async def demand_encrypted(check: Encrypted, machines: Machines) -> None:
    """Raises Unmet where a Secret or an API server has another key."""
    node, done = await first_answer(check.members, machines, "encryption", timeout=LIMIT)
    if done.status != 0:
        raise Unmet(f"etcd cannot be asked on {node} ({done.reason})")
    notes, _, secrets = done.stdout.partition("\n\n")
    rows = (line.split() for line in notes.splitlines())
    keys = {
        name: [key for key in names if key != STARTING]
        for name, _, *names in rows
        if name in check.planes
    }
    if sentence := standing(check.key, keys, Counter(secrets.split())):
        raise Unmet(sentence)


def standing(key: str, keys: Mapping[str, Sequence[str]], secrets: Mapping[str, int]) -> str:
    """Where the change to a key stands; empty where it is done.

    ``keys`` maps control planes to the keys of their API servers, the one that they write with
    first; ``secrets`` maps the keys of Secrets in etcd to the numbers of these.
    """
    left = {name: count for name, count in secrets.items() if name != key}
    if not left and all(list(names) == [key] for names in keys.values()):
        return ""
    parts = [f"{count} Secrets have {name}" for name, count in sorted(left.items())]
    parts += [f"{plane} has {listed(names, 'and')}" for plane, names in sorted(keys.items())]
    return (
        f"the encryption key has not wholly become {key}: {'; '.join(parts)} (API servers write "
        "with the first); all Secrets can be read, and ./hardway up goes on"
    )
