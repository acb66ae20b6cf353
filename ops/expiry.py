"""Certificates that end soon, by what the stack's state keeps of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from rich.markup import escape

from lab import toolchain
from lab.cache import Cache
from lab.paths import LabPaths
from lab.problem import Problem
from lab.stack import stack_in_lab
from ops.display import progress
from ops.reach import kept_by_cluster, kept_by_machines, state_of
from spec.resource_names import AUTHORITIES, PEOPLE_KEYS

SOON = timedelta(days=30)
"""Before its end a certificate is named. ``./hardway up`` makes a leaf anew four months before it
(``certs.renewal.DUE``), so nobody who brings the stack up now and then sees a name here."""

HOLDERS = {AUTHORITIES: "the cluster", PEOPLE_KEYS: "its people"}
"""Resource to who holds what it keeps, where that is no machine: none can be called so."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A certificate that ends soon, or has ended."""

    holder: str
    """The machine that has it, or of ``HOLDERS``."""
    name: str
    end: datetime

    def sentence(self, now: datetime) -> str:
        """When it ends, without a full stop."""
        word = "ended" if self.end <= now else "ends"
        return f"{self.name} of {self.holder} {word} on {self.end:%Y-%m-%d}"


def ending(state: Mapping[str, Any], now: datetime) -> tuple[Ending, ...]:
    """The certificates that end within ``SOON``, the first to end before the others.

    From an exported state with secrets shown. Of what a machine holds this says the truth as long
    as its identity step was carried out, which an update that succeeds proves.
    """
    found = (one for one in _certificates(state) if one.end - now < SOON)
    return tuple(sorted(found, key=lambda one: (one.end, one.holder, one.name)))


def ending_soon(state: Mapping[str, Any]) -> tuple[Ending, ...]:
    """``ending`` by this computer's clock."""
    return ending(state, datetime.now(UTC))


def in_lab(stacks: Sequence[str], paths: LabPaths) -> tuple[list[str], bool]:
    """A line for each stack whose state cannot be read and each certificate that ends soon.

    And whether there is such a certificate.
    """
    said, warned, now = [], False, datetime.now(UTC)
    for name in stacks:
        try:
            tools = toolchain.prepare(Cache(), paths, progress())
            found = ending_soon(state_of(stack_in_lab(name, paths, tools)))
        except Problem as problem:
            said.append(f"{name}: not known, since {problem.what}")
            continue
        warned = warned or bool(found)
        said += [f"{name}: {one.sentence(now)}" for one in found]
    return said, warned


def lines(found: Sequence[Ending], option: str) -> Iterator[str]:
    """A line for each certificate, and what makes new ones; ``option`` names the stack."""
    now = datetime.now(UTC)
    for one in found:
        yield f"[bold yellow]ends[/]     certificate {escape(one.sentence(now))}"
    if found:
        yield f"./hardway up{option} makes them anew, and restarts only what must be"


def told(found: Sequence[Ending]) -> list[dict[str, str]]:
    """The same for programs."""
    return [{"holder": one.holder, "name": one.name, "ends": one.end.isoformat()} for one in found]


def _certificates(state: Mapping[str, Any]) -> Iterator[Ending]:
    holders = [(HOLDERS[name], kept) for name, kept in kept_by_cluster(state).items()]
    for holder, kept in [*holders, *kept_by_machines(state).items()]:
        for name, texts in json.loads(kept).items():
            # Beside the authorities there are keys that have none.
            if pem := texts.get("certificate"):
                end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
                yield Ending(holder=holder, name=name, end=end)
