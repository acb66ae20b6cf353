"""Attaches an existing machine to a cluster, and hands it back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import sleep

from certs.ssh import SshKeyPair
from hypervisors.existing.keys import (
    LISTS,
    RUN,
    UNAUTHORIZE,
    let_through,
    let_through_no_more,
    marked,
    passing_lines,
    script,
    with_settings,
    without_lines,
)
from plan import audit, layout, render
from plan.limits import HARD
from probe.access import Access, MachineAccess
from probe.machines import Done, Machines, NotLetIn, NotRoot, Unreachable, is_refused

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
    """The cluster's key that logs in, without a comment."""
    private_key: str = field(repr=False)
    others: tuple[SshKeyPair, ...] = field(default=(), repr=False)
    """The keys that are let in as well while the cluster's key turns over."""

    @property
    def public_keys(self) -> tuple[str, ...]:
        """All keys that are let in, in the order of a list of keys."""
        return tuple(sorted((self.public_key, *(pair.public for pair in self.others))))

    @property
    def private_keys(self) -> tuple[str, ...]:
        """All keys that are let in: first the one that logs in."""
        return (self.private_key, *(pair.private for pair in self.others))

    @property
    def member(self) -> str:
        """The line by which the machine knows whose member it is."""
        return self._member(self.public_key)

    @property
    def members(self) -> tuple[str, ...]:
        """The same with each of the keys: the machine may have it from before they turned over."""
        return tuple(map(self._member, self.public_keys))

    def _member(self, public_key: str) -> str:
        return f"{self.cluster} {self.machine} {public_key}"

    @property
    def mark(self) -> str:
        """The comment of the cluster's keys in the user's list."""
        return layout.login_mark(self.cluster)

    def opened(self, key: str) -> Access:
        """The access by a private key, or by the person's own keys where it is empty."""
        return Access(machines={self.machine: self.access}, ssh_key=key)


def attached(member: Attachment, before: Attachment | None = None, known: str | None = None) -> str:
    """Let the cluster's keys in and none that it had before, and return the machine's identifier.

    The person's own keys open the machine for that. Where they do not, one of the cluster's keys
    may do so already: while they turn over, or after an update that was cut off. ``before`` has the
    keys that a jump host let through until then, and ``known`` is the identifier that the machine
    has to have. Raises NotAttached; a machine that refuses is as before, and its jump host, too.
    """
    try:
        return asyncio.run(_attached(member, before, known))
    except Unreachable as error:
        raise NotAttached(f"{error}; mend that and run the same again") from error


async def _attached(member: Attachment, before: Attachment | None, known: str | None) -> str:
    keys, mark = member.public_keys, _mark_there(member)
    former = [key for key in before.public_keys if key not in keys] if before else []
    is_asked = await _is_asked(member, known)
    added = await let_through(member.access, keys, mark, member.private_keys, former)
    try:
        if not is_asked:
            await _ask(member, known)
        return await _let_in(member)
    except (NotAttached, Unreachable):
        await without_lines(member.access, added, member.private_keys)
        raise


async def _is_asked(member: Attachment, known: str | None) -> bool:
    """Whether the machine says that it can be attached, before its jump host lets a key through.

    It cannot be asked before where only the cluster's key opens it. Raises NotAttached, or
    Unreachable.
    """
    try:
        await _ask(member, known)
    except Unreachable:
        if member.access.bastion is None:
            raise
        return False
    return True


async def _ask(member: Attachment, known: str | None) -> None:
    """Ask the machine whether it can be attached, and change nothing. Raises NotAttached."""
    identifier = await _answered(member, _attaching(member, asks=True))
    if known not in (None, identifier):
        raise NotAttached(
            f"{member.machine} is another machine now, and a change of its login cannot bring it "
            "the old one's data; take its lines out, run ./hardway up, and write them again"
        )


async def _let_in(member: Attachment) -> str:
    """Let the cluster's keys in, and return the machine's identifier. Raises NotAttached."""
    identifier = await _answered(member, _attaching(member))
    # A server may read its lists of keys elsewhere than in the user's home directory.
    if {await _identifier(member, key) for key in member.private_keys} != {identifier}:
        raise NotAttached(
            f"{member.machine} was another machine at the second login; give each machine an "
            "address of its own"
        )
    return identifier


async def _answered(member: Attachment, text: str) -> str:
    """What a text prints on the machine. Raises NotAttached where it fails, or Unreachable."""
    done = await _run_by_any(member, text)
    if done.status != 0:
        raise NotAttached(f"{member.machine}: {render.failure(done.stderr) or done.reason}")
    return done.stdout.strip()


async def _run_by_any(member: Attachment, text: str) -> Done:
    """Run a text by the person's own keys, or else by the first of the cluster's that is let in."""
    try:
        return await _run(member, text, seconds=SHORT, key="")
    except Unreachable as error:
        if not is_refused(error, member.access):
            raise
        for key in member.private_keys:
            with suppress(Unreachable):
                return await _run(member, text, seconds=SHORT, key=key)
        raise error from None


def identifier_of(member: Attachment) -> str | None:
    """The machine's identifier, by the cluster's key; None where it is no member any more.

    Raises Unreachable.
    """
    return asyncio.run(_identifier(member, member.private_key))


KNOWS = f"[[ $1 == *$'\\n'\"$(cat {layout.STATE}/cluster)\"$'\\n'* ]] && cat /etc/machine-id"
"""Prints the machine's identifier where it is a member by one of these lines."""


async def _identifier(member: Attachment, key: str) -> str | None:
    lines = "\n".join(("", *member.members, ""))
    async with Machines(member.opened(key)) as machines:
        done = await machines.run(member.machine, KNOWS, lines, timeout=SHORT)
    return done.stdout.strip() if done.status == 0 else None


def moved(
    before: Attachment,
    after: Attachment,
    identifier: str,
    say: Callable[[str], None] = print,
) -> None:
    """Log in in another way from now on: by another key, as another user, at another port.

    Warns of lines that an old jump host keeps. Raises NotAttached, also where the new login leads
    to another machine.
    """
    attached(after, before, known=identifier)
    asyncio.run(_without_old_login(before, after, say))


async def _without_old_login(
    before: Attachment, after: Attachment, say: Callable[[str], None]
) -> None:
    if before.access.user != after.access.user:
        text = with_settings(UNAUTHORIZE, user=before.access.user, mark=before.mark)
        await _run(after, text, seconds=SHORT, key=after.private_key)
    if before.access.bastion != after.access.bastion:
        await _let_through_no_more(before, say)


def handed_back(member: Attachment, say: Callable[[str], None]) -> None:
    """Take away all that steps brought to the machine, and the cluster's key last.

    Where the key was taken away from the machine, the person's own keys do it. A machine that does
    not answer, or that lets none of these keys in, is forgotten with a warning.
    Raises NotHandedBack, also where the user may not become root any more.
    """
    left = ATTEMPTS
    while True:
        try:
            asyncio.run(_handed_back(member, say))
        except NotRoot as error:
            raise NotHandedBack(f"{error}; mend that and run the same again") from error
        except NotLetIn as error:
            say(f"warning: {error}; it is forgotten, and nothing is taken away there")
            # Its jump host may have the lines still, where an earlier hand-back was cut off.
            asyncio.run(_let_through_no_more(member, say))
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
    done = await _detached(member)
    if done.status != 0:
        why = render.failure(done.stderr) or done.reason
        raise NotHandedBack(
            f"{member.machine} cannot be handed back ({why}); mend that and run the same again"
        )
    for line in done.stdout.splitlines():
        say(f"{member.machine}: {line}")
    await _let_through_no_more(member, say)


async def _detached(member: Attachment) -> Done:
    """Run the text by the cluster's key, or by the person's own keys where it is not let in.

    The person's keys open a machine in any case: it has to say that it is a member still.
    """
    text = _detaching(member)
    try:
        return await _run(member, text, seconds=LONG, key=member.private_key)
    except Unreachable as error:
        if not is_refused(error, member.access) or not await _is_member_by_person(member):
            raise
    return await _run(member, text, seconds=LONG, key="")


async def _is_member_by_person(member: Attachment) -> bool:
    """Whether the machine lets the person's own keys in and is a member of this cluster."""
    try:
        return await _identifier(member, "") is not None
    except Unreachable as error:
        if not is_refused(error, member.access):
            raise
        return False


async def _let_through_no_more(member: Attachment, say: Callable[[str], None]) -> None:
    """Take the lines out of the jump host's list, or warn that they stay."""
    keys, mark = member.public_keys, _mark_there(member)
    try:
        await let_through_no_more(member.access, keys, mark, member.private_key)
    except Unreachable as error:
        lines = passing_lines(keys, mark).replace("\n", " and ")
        say(f"warning: {error}; where the list there still has this, take it out: {lines}")


async def _run(member: Attachment, text: str, *, seconds: int, key: str) -> Done:
    async with Machines(member.opened(key)) as machines:
        return await machines.run(member.machine, RUN, timeout=seconds, input=text)


# -- the texts that run on the machine -------------------------------------------------------------


def _attaching(member: Attachment, *, asks: bool = False) -> str:
    return with_settings(
        LISTS + script("attach"),
        asks="yes" if asks else "",
        user=member.access.user,
        member=member.member,
        members="\n".join(member.members),
        mark=member.mark,
        lines=marked(member.public_keys, member.mark),
    )


def _detaching(member: Attachment) -> str:
    text = render.taking_away(LISTS + script("detach"))
    return with_settings(text, user=member.access.user, mark=member.mark, data=" ".join(DATA))


def _mark_there(member: Attachment) -> str:
    """The comment of the cluster's keys on the jump host, which several machines may share."""
    return f"{member.mark}:{member.machine}"
