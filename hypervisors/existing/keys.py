"""The cluster's key in the lists of keys that users of machines and of jump hosts have."""

import shlex
from pathlib import Path

from plan.limits import HARD
from probe.access import Access, MachineAccess, SshServer
from probe.machines import Machines, Unreachable

RUN = 'text=$(cat); exec </dev/null; eval "$text"'
"""Runs a text from the standard input, which may be longer than a command line."""

PASSES = "restrict,port-forwarding"
"""What the key may do on a jump host (sshd(8), "AUTHORIZED_KEYS FILE FORMAT")."""

SECONDS = 60 * HARD
"""The limit for a change of a list."""


def script(name: str) -> str:
    """The text of a file of this folder."""
    return (Path(__file__).parent / f"{name}.sh").read_text()


def with_settings(text: str, **settings: str) -> str:
    """A text for bash with variables before it."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()) + text


UNAUTHORIZE = script("authorize") + 'unauthorize "$user" "$mark"\n'
AUTHORIZE = script("authorize") + 'authorize "$user" "$line"\n'


def marked(public_key: str, mark: str) -> str:
    """The line of a list with the key, and the mark by which the line is found again."""
    return f"{public_key} {mark}"


async def let_through(machine: MachineAccess, public_key: str, mark: str) -> None:
    """Let the cluster's key pass through the jump host, where the machine has one.

    The person's own keys open the jump host for that. Where they do not, nothing is changed: it may
    know the cluster's key already. Raises Unreachable where the jump host refuses the change.
    """
    if machine.bastion is None:
        return
    line = f"{PASSES} {marked(public_key, mark)}"
    text = with_settings(AUTHORIZE, user=machine.bastion.user, line=line)
    await _ran(machine.bastion, "", text)


async def let_through_no_more(machine: MachineAccess, private_key: str, mark: str) -> None:
    """Take the machine's line out of the jump host's list. Raises Unreachable."""
    if machine.bastion is not None:
        text = with_settings(UNAUTHORIZE, user=machine.bastion.user, mark=mark)
        await _ran(machine.bastion, private_key, text)


async def _ran(bastion: SshServer, key: str, text: str) -> None:
    name = "the jump host"
    access = Access(machines={name: MachineAccess(**vars(bastion))}, ssh_key=key)
    async with Machines(access) as machines:
        try:
            done = await machines.run(name, RUN, timeout=SECONDS, input=text, root=False)
        except Unreachable:
            if not key:
                return
            raise
    if done.status != 0:
        raise Unreachable(
            f"{name} ({bastion.host}) does not change its list of keys ({done.reason})"
        )
