"""Disks that run full, on a machine that answers by a real SSH server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from plan.condition import Room
from probe.access import Access
from tests.engine.sshd import Sshd
from tests.probe.asking import asked_once
from tests.probe.machine import machine

pytestmark = pytest.mark.engine

APART = 10
"""Per cent of a disk that nobody fills or frees while a test runs."""


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    server = Sshd.prepare(tmp_path / "sshd", "INFO")
    server.start()
    try:
        key = (server.directory / "client_key").read_text()
        yield Access(machines={"m1": machine(server)}, ssh_key=key)
    finally:
        server.stop()


def test_a_disk_is_too_full_from_that_share_on(access: Access, tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path)
    used = 100 * disk.used // (disk.used + disk.free)
    later = f"{tmp_path}/not/there/yet"
    roomy = Room(machines=("m1",), folder=later, percent=min(used + APART, 100))
    assert asked_once(roomy, access) is None
    sentence = str(asked_once(Room(machines=("m1",), folder=later, percent=used - APART), access))
    assert sentence.startswith(f"the disk with {later} on m1 is ")
    assert sentence.endswith("or write more for machines.m1.disk")


def test_a_machine_that_does_not_answer_is_named(access: Access) -> None:
    unmet = asked_once(Room(machines=("m1", "m2"), folder="/", percent=100), access)
    assert str(unmet).startswith("m2 is no machine of this stack")
