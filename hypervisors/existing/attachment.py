"""Attaches an existing machine to a cluster, and hands it back."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep

from hypervisors.existing.keys import (
    RUN,
    UNAUTHORIZE,
    let_through,
    let_through_no_more,
    marked,
    script,
    with_settings,
)
from plan import audit, layout, render
from plan.limits import HARD
from probe.access import Access, MachineAccess
from probe.machines import Done, Machines, NotLetIn, Unreachable

SHORT, LONG = 120 * HARD, render.WORK * HARD
"""Seconds on a quiet machine: to attach it, and to take all that steps brought away from it."""

ATTEMPTS, PAUSE = 12, 5
"""Attempts to reach a machine that is to be handed back, and the seconds between two attempts."""

DATA = (
    layout.ETCD_DATA,
    "/var/lib/kubelet",
    "/var/lib/cni",
    audit.FOLDER,
    "/var/log/pods",
    "/var/log/containers",
    "/run/hardway",
)
"""Directories with data of the cluster, beside those of the container runtime."""


class NotAttached(Exception):
    """A machine cannot become a member of the cluster; the text is one sentence."""


class NotHandedBack(Exception):
    """Something of the cluster is still on a machine; the text is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A machine's place in a cluster, and how to log in to the machine."""

    cluster: str
    machine: str
    access: MachineAccess
    public_key: str
    """The cluster's key, without a comment."""
    private_key: str = field(repr=False)

    @property
    def member(self) -> str:
        """The line by which the machine knows whose member it is."""
        return f"{self.cluster} {self.machine} {self.public_key}"

    @property
    def mark(self) -> str:
        """The comment of the cluster's key in the user's list."""
        return f"hardway:{self.cluster}"

    def opened(self, *, own_keys: bool) -> Access:
        """The access by the person's own keys, or by the cluster's."""
        key = "" if own_keys else self.private_key
        return Access(machines={self.machine: self.access}, ssh_key=key)


def attached(member: Attachment) -> str:
    """Let the cluster's key in, and return the machine's identifier.

    The person's own keys open the machine for that. Where they do not, the cluster's key may do so
    already, after an update that was cut off. Raises NotAttached.
    """
    try:
        return asyncio.run(_attached(member))
    except Unreachable as error:
        raise NotAttached(f"{error}; mend that and run the same again") from error


async def _attached(member: Attachment) -> str:
    await let_through(member.access, member.public_key, _mark_there(member))
    try:
        done = await _run(member, _attaching(member), seconds=SHORT, own_keys=True)
    except NotLetIn as error:
        try:
            done = await _run(member, _attaching(member), seconds=SHORT, own_keys=False)
        except Unreachable:
            raise error from None
    if done.status != 0:
        raise NotAttached(f"{member.machine}: {render.failure(done.stderr) or done.reason}")
    identifier = done.stdout.strip()
    # A server may read its lists of keys elsewhere than in the user's home directory.
    if await _identifier(member) != identifier:
        raise NotAttached(
            f"{member.machine} was another machine at the second login; give each machine an "
            "address of its own"
        )
    return identifier


def identifier_of(member: Attachment) -> str | None:
    """The machine's identifier, by the cluster's key; None where it is no member any more.

    Raises Unreachable.
    """
    return asyncio.run(_identifier(member))


async def _identifier(member: Attachment) -> str | None:
    script = f'[ "$(cat {layout.STATE}/cluster)" = "$1" ] && cat /etc/machine-id'
    async with Machines(member.opened(own_keys=False)) as machines:
        done = await machines.run(member.machine, script, member.member, timeout=SHORT)
    return done.stdout.strip() if done.status == 0 else None


def moved(before: Attachment, after: Attachment, identifier: str) -> None:
    """Log in in another way from now on: as another user, at another port, by another host key.

    Raises NotAttached, also where the new login leads to another machine.
    """
    if attached(after) != identifier:
        raise NotAttached(
            f"{after.machine} is another machine now, and a change of its login cannot bring it "
            "the old one's data; take its lines out, run ./hardway up, and write them again"
        )
    asyncio.run(_without_old_login(before, after))


async def _without_old_login(before: Attachment, after: Attachment) -> None:
    if before.access.user != after.access.user:
        text = with_settings(UNAUTHORIZE, user=before.access.user, mark=before.mark)
        await _run(after, text, seconds=SHORT, own_keys=False)
    if before.access.bastion != after.access.bastion:
        await let_through_no_more(before.access, before.private_key, _mark_there(before))


def handed_back(member: Attachment, say: Callable[[str], None]) -> None:
    """Take away all that steps brought to the machine, and the cluster's key last.

    A machine that does not answer, or that lets the key in no more, is forgotten with a warning.
    Raises NotHandedBack.
    """
    left = ATTEMPTS
    while True:
        try:
            asyncio.run(_handed_back(member, say))
        except NotLetIn as error:
            say(f"warning: {error}; it is forgotten, and nothing is taken away there")
        except Unreachable as error:
            left -= 1
            if left:
                sleep(PAUSE)
                continue
            say(
                f"warning: {error}; it is forgotten, and what the cluster brought there stays: "
                f"{layout.STATE}/applied has the lists"
            )
        return


async def _handed_back(member: Attachment, say: Callable[[str], None]) -> None:
    done = await _run(member, _detaching(member), seconds=LONG, own_keys=False)
    if done.status != 0:
        why = render.failure(done.stderr) or done.reason
        raise NotHandedBack(
            f"{member.machine} cannot be handed back ({why}); mend that and run the same again"
        )
    for line in done.stdout.splitlines():
        say(f"{member.machine}: {line}")
    await let_through_no_more(member.access, member.private_key, _mark_there(member))


async def _run(member: Attachment, text: str, *, seconds: int, own_keys: bool) -> Done:
    async with Machines(member.opened(own_keys=own_keys)) as machines:
        return await machines.run(member.machine, RUN, timeout=seconds, input=text)


# -- the texts that run on the machine -------------------------------------------------------------


def _attaching(member: Attachment) -> str:
    return with_settings(
        script("authorize") + script("attach"),
        user=member.access.user,
        member=member.member,
        line=marked(member.public_key, member.mark),
    )


def _detaching(member: Attachment) -> str:
    text = render.taking_away(script("authorize") + script("detach"))
    return with_settings(text, user=member.access.user, mark=member.mark, data=" ".join(DATA))


def _mark_there(member: Attachment) -> str:
    """The comment of the cluster's key on the jump host, which several machines may share."""
    return f"{member.mark}:{member.machine}"
