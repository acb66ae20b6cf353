"""Finds certificates in a stack's state that end soon."""

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
"""A certificate is reported when less than this time is left until its end.

``./hardway up`` renews a leaf certificate four months before its end (``certs.renewal.DUE``), so
nothing is reported where the stack is brought up now and then.
"""

HOLDERS = {AUTHORITIES: "the cluster", PEOPLE_KEYS: "its people and add-ons"}
"""Resource to the holder of its certificates, where that is no machine.

No machine can have one of these holders' names.
"""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A certificate that ends soon, or has ended."""

    holder: str
    """The machine that has it, or one of ``HOLDERS``."""
    name: str
    end: datetime

    def sentence(self, now: datetime) -> str:
        """A sentence without full stop that says when the certificate ends."""
        word = "ended" if self.end <= now else "ends"
        return f"{self.name} of {self.holder} {word} on {self.end:%Y-%m-%d}"


def ending(state: Mapping[str, Any], now: datetime) -> tuple[Ending, ...]:
    """The certificates that end within ``SOON``, sorted by their end.

    ``state`` is an exported state with secrets in plain text. The certificates on a machine are
    the same ones if its identity step was carried out, as in every successful update.
    """
    soon = (certificate for certificate in _certificates(state) if certificate.end - now < SOON)
    return tuple(
        sorted(
            soon, key=lambda certificate: (certificate.end, certificate.holder, certificate.name)
        )
    )


def ending_soon(state: Mapping[str, Any]) -> tuple[Ending, ...]:
    """The result of ``ending`` for the present time by this computer's clock."""
    return ending(state, datetime.now(UTC))


def in_lab(stacks: Sequence[str], paths: LabPaths) -> tuple[list[str], bool]:
    """Lines for the stacks of a lab, and whether a certificate ends soon.

    There is a line for each stack whose state cannot be read, and for each certificate that ends
    soon.
    """
    report, warned, now = [], False, datetime.now(UTC)
    for name in stacks:
        try:
            tools = toolchain.prepare(Cache(), paths, progress())
            certificates = ending_soon(state_of(stack_in_lab(name, paths, tools)))
        except Problem as problem:
            report.append(f"{name}: not known, since {problem.what}")
            continue
        warned = warned or bool(certificates)
        report += [f"{name}: {certificate.sentence(now)}" for certificate in certificates]
    return report, warned


def lines(certificates: Sequence[Ending], option: str) -> Iterator[str]:
    """A line for each certificate, and one with the command that renews them.

    ``option`` is the command's ``--stack`` option.
    """
    now = datetime.now(UTC)
    for certificate in certificates:
        yield f"[bold yellow]ends[/]     certificate {escape(certificate.sentence(now))}"
    if certificates:
        yield f"./hardway up{option} makes them anew, and restarts only what must be"


def as_data(certificates: Sequence[Ending]) -> list[dict[str, str]]:
    """The certificates as JSON data."""
    return [
        {
            "holder": certificate.holder,
            "name": certificate.name,
            "ends": certificate.end.isoformat(),
        }
        for certificate in certificates
    ]


def _certificates(state: Mapping[str, Any]) -> Iterator[Ending]:
    holders = [(HOLDERS[name], kept) for name, kept in kept_by_cluster(state).items()]
    for holder, kept in [*holders, *kept_by_machines(state).items()]:
        for name, texts in json.loads(kept).items():
            # The authorities' resource also keeps keys that have no certificate.
            if pem := texts.get("certificate"):
                end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
                yield Ending(holder=holder, name=name, end=end)
