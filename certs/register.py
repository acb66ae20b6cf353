"""What a preview shows of keys and certificates: whose they are, until when, and why.

Plain values for a state. There is nothing secret in them, and they stay the same as long as the
certificates do.
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
"""A name to what was last done for it and why."""


def row_state(row: Row) -> RowState:
    """A row as a plain mapping, in an order of its own."""
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
    names = [str(one) for one in state["names"]]
    addresses = [one for one in names if is_address(one)]
    return Row(
        name=name,
        node=state["node"] or None,
        issuer=Authority(state["issuer"]),
        common_name=state["common_name"],
        organization=state["organization"] or None,
        uses=frozenset(map(Use, state["uses"])),
        dns_names=tuple(one for one in names if one not in addresses),
        addresses=tuple(map(IPv4Address, addresses)),
        lifetime=timedelta(days=int(state["days"])),
    )


def register(previous: Mapping[str, str], decisions: Iterable[Decision]) -> Register:
    """The register after these decisions: a line changes only where something is done."""
    return {
        one.name: previous[one.name]
        if one.action is Action.KEEP and one.name in previous
        else f"{one.action}: {one.why}"
        for one in decisions
        if one.action is not Action.DROP
    }
