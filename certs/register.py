"""The part of keys and certificates that a preview shows: holder, validity and last action.

These are plain values for the state and contain no secret. They change only with a certificate or
its row.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from certs.renewal import Action, Decision
from certs.table import Authority, Row, Use
from spec.names import is_address

RowState = dict[str, Any]
Register = dict[str, str]
"""The name of a certificate or key, mapped to the last action for it and its reason."""


def row_state(row: Row) -> RowState:
    """A row as a plain mapping, in a fixed order."""
    return {
        "node": row.node or "",
        "issuer": row.issuer.value,
        "common_name": row.common_name,
        "organization": row.organization or "",
        "uses": sorted(use.value for use in row.uses),
        "names": [*row.dns_names, *map(str, row.addresses)],
        "days": row.lifetime.days,
    }


def row_from_state(name: str, state: Mapping[str, Any]) -> Row:
    """The reverse of ``row_state``."""
    names = [str(name) for name in state["names"]]
    addresses = [name for name in names if is_address(name)]
    return Row(
        name=name,
        node=state["node"] or None,
        issuer=Authority(state["issuer"]),
        common_name=state["common_name"],
        organization=state["organization"] or None,
        uses=frozenset(map(Use, state["uses"])),
        dns_names=tuple(name for name in names if name not in addresses),
        addresses=tuple(map(IPv4Address, addresses)),
        lifetime=timedelta(days=int(state["days"])),
    )


def register(previous: Mapping[str, str], decisions: Iterable[Decision]) -> Register:
    """The register after these decisions.

    A kept certificate keeps its line, a dropped one loses it, and every other action writes the
    line anew.
    """
    return {
        decision.name: previous[decision.name]
        if decision.action is Action.KEEP and decision.name in previous
        else f"{decision.action}: {decision.why}"
        for decision in decisions
        if decision.action is not Action.DROP
    }
