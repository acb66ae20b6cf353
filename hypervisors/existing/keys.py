"""The cluster's keys in the lists of keys that users of machines and of jump hosts have."""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from plan import library
from plan.limits import HARD
from probe.access import Access, MachineAccess, SshServer
from probe.machines import Machines, NotLetIn, Unreachable

RUN = 'text=$(cat); exec </dev/null; eval "$text"'
"""Runs a text from the standard input, which may be longer than a command line."""

PASSES = "restrict,port-forwarding"
"""What the key may do on a jump host (sshd(8), "AUTHORIZED_KEYS FILE FORMAT")."""

RAN = "these lines were added"
"""The last line of the text that changes a jump host's list."""

SECONDS = 60 * HARD
"""The limit for a change of a list."""


def script(name: str) -> str:
    """The text of a file of this folder."""
    return (Path(__file__).parent / f"{name}.sh").read_text()


def with_settings(text: str, **settings: str) -> str:
    """A text for bash with variables before it."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()) + text


LISTS = library.script("authorize")
"""The functions for lists of keys, which steps have as well."""
UNAUTHORIZE = LISTS + 'unauthorize "$user" "$mark"\n'
LET_PASS = LISTS + script("pass")


def marked(public_keys: Iterable[str], mark: str, *, options: str = "") -> str:
    """The lines of a list with these keys, and the mark by which the lines are found again."""
    return "\n".join(f"{options}{key} {mark}" for key in public_keys)


async def let_through(
    machine: MachineAccess,
    public_keys: Iterable[str],
    mark: str,
    private_keys: Iterable[str],
    former: Iterable[str] = (),
) -> str:
    """Let the cluster's keys pass through the jump host, where the machine has one.

    The ``former`` public keys pass no more. The person's own keys open the jump host for that, or
    else one of the private keys. Where none does, nothing is changed: it may know the cluster's
    keys already. A jump host that runs no commands has to know them. Returns the lines that its
    list did not have. Raises Unreachable where the jump host refuses the change and the keys.
    """
    if machine.bastion is None:
        return ""
    text = _passing(machine.bastion, mark, public_keys, former)
    for key in ("", *private_keys):
        try:
            return await _ran(machine.bastion, key, text)
        except ListUnchanged as error:
            if all([await _passes(machine, private) for private in private_keys]):
                return ""
            lines = passing_lines(public_keys, mark).replace("\n", " and ")
            raise ListUnchanged(f"{error}; add to the list there: {lines}") from error
        except Unreachable:
            continue
    return ""


async def _passes(machine: MachineAccess, key: str) -> bool:
    """Whether the jump host lets a key through to the machine, which may refuse the key itself."""
    name = "the machine"
    async with Machines(Access(machines={name: machine}, ssh_key=key)) as machines:
        try:
            await machines.run(name, "true", timeout=SECONDS, root=False)
        except NotLetIn:
            return True
        except Unreachable:
            return False
    return True


async def without_lines(machine: MachineAccess, lines: str, private_keys: Iterable[str]) -> None:
    """Take these lines out of the jump host's list, as far as it can be reached."""
    if machine.bastion is None or not lines:
        return
    text = with_settings(LET_PASS, user=machine.bastion.user, lines="", gone=lines)
    for key in ("", *private_keys):
        with suppress(Unreachable):
            await _ran(machine.bastion, key, text)
            return


async def let_through_no_more(
    machine: MachineAccess, public_keys: Iterable[str], mark: str, private_key: str
) -> None:
    """Take the machine's lines out of the jump host's list. Raises Unreachable.

    The cluster's key opens the jump host for that, or else the person's own keys.
    """
    if machine.bastion is None:
        return
    text = _passing(machine.bastion, mark, (), public_keys)
    try:
        await _ran(machine.bastion, private_key, text)
    except ListUnchanged:
        raise
    except Unreachable as error:
        try:
            await _ran(machine.bastion, "", text)
        except Unreachable:
            raise error from None


def passing_lines(public_keys: Iterable[str], mark: str) -> str:
    """The lines by which a jump host lets these keys pass."""
    return marked(public_keys, mark, options=f"{PASSES} ")


def _passing(bastion: SshServer, mark: str, keys: Iterable[str], gone: Iterable[str]) -> str:
    """The text that has these keys pass through a jump host, and others no more."""
    lines, without = (passing_lines(some, mark) for some in (keys, gone))
    return with_settings(LET_PASS, user=bastion.user, lines=lines, gone=without)


class ListUnchanged(Unreachable):
    """A jump host was reached and did not change its list of keys; the text is one sentence."""


async def _ran(bastion: SshServer, key: str, text: str) -> str:
    """The lines that a text prints on the jump host.

    Raises Unreachable, ListUnchanged where the text fails.
    """
    name = "the jump host"
    access = Access(machines={name: MachineAccess(**vars(bastion))}, ssh_key=key)
    async with Machines(access) as machines:
        done = await machines.run(name, RUN, timeout=SECONDS, input=text, root=False)
    added, end, _ = f"\n{done.stdout}".rpartition(f"\n{RAN}\n")
    if done.status != 0 or not end:
        why = done.reason if done.status != 0 else "it runs another command"
        raise ListUnchanged(f"{name} ({bastion.host}) does not change its list of keys ({why})")
    return added.strip()
