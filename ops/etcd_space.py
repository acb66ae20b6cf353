"""The command ``etcd-space``, which shows how full etcd's members are and makes room."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from lab.problem import Problem
from ops.display import agreed, option_of, progress, stdout
from ops.reach import reach
from ops.stacks import StackOption
from plan import layout
from plan.condition import Members
from probe import space
from probe.access import Access
from probe.conditions import Doors, ask, doors
from probe.failure import Unmet
from probe.space import CORRUPT, Member, leader_last, mebibytes
from spec.refusal import listed

Say = Callable[[str], None]

ETCDCTL = """
export ETCDCTL_CACERT=$1 ETCDCTL_CERT=$2 ETCDCTL_KEY=$3 ETCDCTL_ENDPOINTS=${5:-$4}
exec etcdctl "${@:6}"
"""
"""Script for etcdctl on a member's machine.

It asks the endpoints in the fourth word, or only that in the fifth where it is not empty.
"""

WORK = 900
"""Time limit in seconds of a compaction or a defragmentation, which copies the database."""

PATIENCE = 120
"""Seconds within which all members must be healthy again after a defragmentation."""

COMPACTED_BEFORE = "required revision has been compacted"


def register(app: typer.Typer) -> None:
    """Register the command of this module."""
    app.command("etcd-space", rich_help_panel="A cluster")(etcd_space)


def etcd_space(
    stack: StackOption = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Make room without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Show it for programs, and end.")] = False,
) -> None:
    """Show how full etcd's members are, and make room once you say yes.

    At its quota etcd takes no writes. Then, or before: old revisions are compacted, each member is
    defragmented (one at a time, its leader last, while the others are healthy), and the alarm
    NOSPACE is disarmed. A member is kept from its work for as long as its database is copied.

    Examples: `./hardway etcd-space`, without a question `./hardway etcd-space --yes`
    """
    reached = reach(stack)
    spec = reached.spec
    members = dict(zip(spec.etcd_members, layout.etcd_urls(spec), strict=True))
    try:
        measured_members = asyncio.run(measured(members, reached.access))
        if as_json:
            print(json.dumps([asdict(member) for member in measured_members], indent=1))
            return
        show(measured_members)
        demand_no_difference(measured_members)
        if not (yes or wanted(option_of(stack))):
            return
        show(asyncio.run(freed(members, reached.access, progress().say)))
    except Unmet as unmet:
        raise Problem(
            str(unmet), f"./hardway validate{option_of(stack)} says what else is not so"
        ) from unmet


def wanted(option: str) -> bool:
    """Ask the user for consent; without a terminal print the command to use, and return False."""
    return agreed(
        "Compact, defragment one member at a time, and disarm?",
        f"Make room with ./hardway etcd-space --yes{option}",
    )


def show(members: Sequence[Member]) -> None:
    """Print a table with a row for each member."""
    table = Table("member", "MiB", "in use", "quota", "full", "alarms")
    for member in members:
        table.add_row(
            f"{member.name} (leads)" if member.leads else member.name,
            mebibytes(member.size),
            mebibytes(member.in_use),
            mebibytes(member.quota),
            f"{member.used:.0%}",
            ", ".join(member.alarms) or "none",
        )
    stdout.print(table)


def demand_no_difference(members: Sequence[Member]) -> None:
    """Raise a Problem where a member's data differs from the others'.

    To disarm that alarm would hide the difference.
    """
    if differing := [member.name for member in members if CORRUPT in member.alarms]:
        raise Problem(
            f"the data of etcd's member {differing[0]} differs from the others' (alarm {CORRUPT})",
            "stop it, move its data away and run ./hardway up, which says how it is replaced",
        )


async def measured(members: Mapping[str, str], access: Access) -> tuple[Member, ...]:
    """Measure all members; ``members`` is name to URL. Raises Unmet."""
    async with doors(access) as through:
        return await space.ask(members, through.machines)


async def freed(members: Mapping[str, str], access: Access, say: Say) -> tuple[Member, ...]:
    """Compact, defragment and disarm, in this order; return the members as they are then.

    It can be run again after an interruption. Raises Unmet where etcd refuses an operation, where a
    member stays full, or where a member is not healthy; no further member is then defragmented.
    """
    async with doors(access) as through:
        await _well(members, through)
        before = await space.ask(members, through.machines)
        revision = max(member.revision for member in before)
        say(f"compacting to revision {revision}")
        await _etcdctl(members, through, "", "compact", str(revision), "--physical")
        for member in leader_last(before):
            say(f"defragmenting {member.name}, {mebibytes(member.size)} MiB")
            await _etcdctl(members, through, member.url, "defrag")
            await _well(members, through)
        after = await space.ask(members, through.machines)
        demand_room(after)
        if alarms := sorted({alarm for member in after for alarm in member.alarms}):
            say(f"disarming {listed(alarms, 'and')}")
            await _etcdctl(members, through, "", "alarm", "disarm")
        return await space.ask(members, through.machines)


def demand_room(members: Sequence[Member]) -> None:
    """Raise Unmet where a member is still at its quota, so that the next write raises the alarm."""
    for member in members:
        if member.size >= member.quota:
            raise Unmet(
                f"etcd's member {member.name} is still at its quota ({space.sizes(member)}), so "
                "its alarm stays: less must be kept in it; delete what can go and run this again"
            )


async def _well(members: Mapping[str, str], through: Doors) -> None:
    """Wait until all members are healthy. Raises Unmet after ``PATIENCE`` seconds."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while unmet := await ask(Members(members=members), through):
        if asyncio.get_running_loop().time() > end:
            raise unmet
        await asyncio.sleep(1)


async def _etcdctl(members: Mapping[str, str], through: Doors, url: str, *arguments: str) -> None:
    """Run etcdctl for the member at ``url``, or for all members where ``url`` is empty.

    Raises Unmet where etcdctl fails.
    """
    limit = f"--command-timeout={WORK}s"
    node, done = await space.on_a_member(
        members, through.machines, ETCDCTL, url, *arguments, limit, timeout=WORK + 30
    )
    if done.status != 0 and COMPACTED_BEFORE not in f"{done.stdout}{done.stderr}":
        raise Unmet(f"etcdctl {arguments[0]} on {node} fails ({done.reason})")
