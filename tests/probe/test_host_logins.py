"""By whose keys a machine that exists already is looked at, before it is a member."""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from probe.access import Access
from probe.host_facts import ObservedHost, observed_hosts
from probe.machines import Unreachable
from tests.engine.sshd import MakeSshd
from tests.plan.golden import golden_spec
from tests.probe.machine import behind

pytestmark = pytest.mark.engine

NAME = "rack1-a"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home without a key."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", os.fspath(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def opened(make_sshd: MakeSshd, home: Path) -> Access:
    """A machine behind a jump host, which both know the person's key alone."""
    server, bastion = make_sshd(), make_sshd()
    through = behind(server, bastion)
    server.start()
    bastion.start()
    shutil.copy(server.directory / "client_key", home / ".ssh/id_ed25519")
    return replace(through, machines={NAME: through.machines["m1"]}, ssh_key=new_key_pair().private)


def looked_at(access: Access) -> ObservedHost | Unreachable:
    return asyncio.run(observed_hosts(golden_spec("existing"), access))[NAME]


def test_the_first_machine_behind_a_jump_host_joins_a_stack_that_has_a_key(opened: Access) -> None:
    host = looked_at(opened)
    assert isinstance(host, ObservedHost), host


def test_a_jump_host_that_refuses_both_keys_is_told_with_both(opened: Access, home: Path) -> None:
    (home / ".ssh/id_ed25519").unlink()
    refused = "the jump host of rack1-a (127.0.0.1 port "
    by_stack, by_person = str(looked_at(opened)).split("; ")
    assert by_stack.startswith(refused)
    assert by_stack.endswith("with the stack's SSH key")
    assert by_person.startswith(refused)
    assert "with your own SSH keys" in by_person
    assert str(looked_at(replace(opened, ssh_key=""))) == by_person
