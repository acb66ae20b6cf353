"""Scripts run as root also where another user logs in, on a real machine with sudo."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from probe.access import Access
from probe.machines import Done, Machines, Unreachable
from tests.engine.stack import PATIENCE
from tests.hypervisors.answering import AnsweringMachine, answering
from tests.plan.conftest import memory, new_machine
from tests.plan.container import Container

__all__ = ["memory", "new_machine"]

pytestmark = pytest.mark.container

KEY = new_key_pair()


@pytest.fixture
def machine(new_machine: Callable[..., Container], tmp_path: Path) -> Iterator[AnsweringMachine]:
    container = new_machine()
    for user in ("free", "asked"):
        # Without PAM, sshd lets nobody in whose password is locked with an exclamation mark.
        container.call("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", user)
    rights = "free ALL=(ALL:ALL) NOPASSWD: ALL\nasked ALL=(ALL:ALL) ALL\n"
    container.write("/etc/sudoers.d/test", rights, 0o440)
    with answering(container, tmp_path) as machine:
        for user in ("free", "asked"):
            machine.let_in(user, KEY.public)
        yield machine


def ran(machine: AnsweringMachine, user: str, script: str, given: str | None = None) -> Done:
    opened = Access(machines={"m1": machine.access(user)}, ssh_key=KEY.private)

    async def whole() -> Done:
        async with Machines(opened) as there:
            return await there.run("m1", script, "a b", "'", timeout=PATIENCE, input=given)

    return asyncio.run(whole())


def test_a_user_who_may_sudo_is_root_and_the_input_comes_through(
    machine: AnsweringMachine,
) -> None:
    done = ran(machine, "free", 'id -un; printf "%s|" "$@"; cat; exit 3', given="x" * 300_000)
    assert done.stdout == "root\na b|'|" + "x" * 300_000
    assert (done.status, done.stderr) == (3, "")


def test_a_user_whom_sudo_asks_for_a_password_is_told_in_a_sentence(
    machine: AnsweringMachine,
) -> None:
    with pytest.raises(Unreachable) as caught:
        ran(machine, "asked", "true")
    assert str(caught.value) == (
        "m1: sudo refuses root's rights to asked without a password (sudo: a password is "
        "required); let the user run every command, with a line 'asked ALL=(ALL:ALL) NOPASSWD: "
        "ALL' in a file of /etc/sudoers.d"
    )
