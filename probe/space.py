"""Checks how much room etcd's members have left, and which alarms they have raised."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from plan.condition import Space
from plan.etcd import OPERATOR
from probe.failure import Unmet, demand
from probe.machines import Done, Machines, Unreachable
from probe.pods import script

LIMIT = 40
"""The time limit of a request, in seconds; an emulated machine needs many to start etcdctl."""

NO_SPACE, CORRUPT = "NOSPACE", "CORRUPT"
"""etcd's alarms (its Maintenance.Alarm): a database that has reached its quota, and a database that
differs from those of other members."""

ALARM = re.compile(r"memberID:(\d+)\s+alarm:(\w+)")

REMOVED = " of a removed member"

WAY_OUT = "./hardway etcd-space makes room (it compacts, defragments and then disarms the alarm)"


@dataclass(frozen=True, kw_only=True)
class Member:
    """What a member reports about its database; sizes are in bytes."""

    name: str
    url: str
    leads: bool
    size: int
    """The size of the file, which counts for the quota and does not shrink by itself."""
    in_use: int
    quota: int
    revision: int
    alarms: tuple[str, ...]
    """The member's own alarms; for the leader also alarms of members that have been removed."""

    @property
    def used(self) -> float:
        """The share of the quota that the database's file takes."""
        return self.size / self.quota


async def demand_space(check: Space, machines: Machines) -> None:
    """Raises Unmet where a member has an alarm or too little room left."""
    members = await ask(check.members, machines)
    failures = list(_failures(members, check.percent))
    # An alarm of any member stops all writes.
    demand(failures, wholly=any(member.alarms for member in members))


def _failures(members: Iterable[Member], percent: int) -> Iterator[str]:
    for member in members:
        for alarm in member.alarms:
            has = f"etcd's member {member.name} has the alarm {alarm} ({sizes(member)})"
            yield f"{has}: {_comes_of(alarm)}"
        if not member.alarms and member.used * 100 > percent:
            yield (
                f"etcd's member {member.name} has used more than {percent} % of its quota "
                f"({sizes(member)}): at the quota nothing can be written any more; {WAY_OUT}"
            )


def _comes_of(alarm: str) -> str:
    if alarm.endswith(REMOVED):
        return f"it outlives the member; {WAY_OUT}"
    if alarm == NO_SPACE:
        return f"etcd takes no writes, also with a larger quota; {WAY_OUT}"
    return (
        "its data differs from the others'; stop it, move its data away and run ./hardway up, "
        "which says how the member is replaced"
    )


def sizes(member: Member) -> str:
    """The sizes of a member's database and quota, for messages."""
    return (
        f"{mebibytes(member.size)} MiB of {mebibytes(member.quota)}, "
        f"{mebibytes(member.in_use)} in use"
    )


def mebibytes(count: int) -> str:
    """A number of bytes in MiB, with one decimal place, such as ``1638.4``."""
    return f"{count / 1024**2:.1f}"


async def ask(members: Mapping[str, str], machines: Machines) -> tuple[Member, ...]:
    """The state of all members; ``members`` maps names to URLs.

    Raises Unmet where not all of them answer.
    """
    node, done = await first_answer(members, machines, "space", timeout=LIMIT)
    try:
        rows = {row["Endpoint"]: row["Status"] for row in json.loads(done.stdout or "null") or ()}
    except (ValueError, KeyError) as error:
        raise Unmet(f"etcdctl on {node} does not say what it should ({done.reason})") from error
    if silent := [name for name, url in members.items() if url not in rows]:
        raise Unmet(
            f"etcd's member {silent[0]} does not say how large it is ({done.reason})",
            wholly=len(silent) == len(members),
        )
    there = {rows[url]["header"]["member_id"] for url in members.values()}
    return tuple(_member(name, url, rows[url], there) for name, url in members.items())


def _member(name: str, url: str, status: Mapping[str, Any], there: Set[int]) -> Member:
    own = status["header"]["member_id"]
    # Each member reports the alarms of all members, also of those that were removed.
    alarms = [ALARM.match(error) for error in status.get("errors", ())]
    alarm_of = {int(match[1]): match[2] for match in alarms if match}
    leads = status.get("leader") == own
    return Member(
        name=name,
        url=url,
        leads=leads,
        size=status["dbSize"],
        in_use=status["dbSizeInUse"],
        quota=status["dbSizeQuota"],
        revision=status["header"]["revision"],
        alarms=tuple(
            alarm if which == own else f"{alarm}{REMOVED}"
            for which, alarm in alarm_of.items()
            if which == own or (leads and which not in there)
        ),
    )


async def first_answer(
    members: Mapping[str, str], machines: Machines, name: str, *arguments: str, timeout: float
) -> tuple[str, Done]:
    """The first member's machine that answers, and the result of a script there.

    Raises Unmet where no machine answers.
    """
    return await on_a_member(members, machines, script(name), *arguments, timeout=timeout)


async def on_a_member(
    members: Mapping[str, str], machines: Machines, text: str, *arguments: str, timeout: float
) -> tuple[str, Done]:
    """The same as ``first_answer``, for the text of a script."""
    failures: list[str] = []
    for node in members:
        try:
            done = await machines.run(
                node, text, *OPERATOR, ",".join(members.values()), *arguments, timeout=timeout
            )
        except Unreachable as error:
            failures.append(str(error))
        else:
            return node, done
    raise Unmet("; ".join(failures), wholly=True)


def leader_last(members: Sequence[Member]) -> tuple[Member, ...]:
    """The members in the order for work that interrupts one after the other: the leader last."""
    return tuple(sorted(members, key=lambda member: member.leads))
