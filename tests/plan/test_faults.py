"""Faults of etcd's members, each under its own systemd, while a client writes.

What counts is that no confirmed write is lost, and that all are well again without anybody's help
once the fault has ended. Each test records how many writes were confirmed, and for how long none
was.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from plan import etcd, layout
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.members import ADDRESSES, ONE, THREE, LivingMembers, Writer, is_ready
from tests.plan.stored import as_root

pytestmark = [as_root, at_length, pytest.mark.timeout(1800)]

MORE = 20
"""Writes that must be confirmed for the members to count as serving."""

DROP = "add rule inet fault input ip saddr {{ {peers} }} {often} drop"
EVERY, HALF = "", "numgen random mod 2 == 0"
"""Which packets of other members are dropped."""

MEBIBYTES = 80
"""The size of a small disk: the first files of etcd's log take 64 MiB each, and are shortened."""

Record = Callable[[str, object], None]


def goes_on(writer: Writer) -> None:
    """Wait until more writes are confirmed."""
    before = len(writer.confirmed)
    eventually("writes are confirmed", lambda: len(writer.confirmed) >= before + MORE)


def nothing_is_lost(living: LivingMembers, writer: Writer, record: Record) -> None:
    """All members are well, have the same data, and lack no confirmed write."""
    names = tuple(living.machines)
    eventually("all are well", lambda: all(is_ready(living, name) for name in names))
    living.agree(names)
    record("writes", len(writer.confirmed))
    record("gap", writer.gap)
    for name in names:
        assert writer.lost(name) == set()


@contextmanager
def hindered(living: LivingMembers, name: str, often: str) -> Iterator[None]:
    """Have a machine drop packets of the other members."""
    machine = living.machines[name]
    peers = ", ".join(ADDRESSES[peer] for peer in living.machines if peer != name)
    machine.call("nft", "add table inet fault")
    machine.call("nft", "add chain inet fault input { type filter hook input priority 0; }")
    machine.call("nft", DROP.format(peers=peers, often=often))
    try:
        yield
    finally:
        machine.call("nft", "delete table inet fault")


@pytest.mark.parametrize("members", [ONE, THREE], ids=["the-only-one", "the-leader"])
def test_a_member_that_is_killed_is_back_by_systemd(
    living: LivingMembers, record_property: Record, members: tuple[str, ...]
) -> None:
    living.begun(members)
    living.lead("e1")
    machine = living.machines["e1"]
    with Writer(living) as writer:
        goes_on(writer)
        for _ in range(3):
            before = machine.settled(etcd.UNIT)
            machine.call("systemctl", "kill", "--signal=KILL", etcd.UNIT)
            goes_on(writer)
            assert machine.settled(etcd.UNIT) != before
    nothing_is_lost(living, writer, record_property)


def test_a_leader_that_is_cut_off_from_all_others_is_followed_by_another(
    living: LivingMembers, record_property: Record
) -> None:
    living.begun(THREE)
    living.lead("e3")
    with Writer(living) as writer:
        goes_on(writer)
        with hindered(living, "e3", EVERY):
            eventually("it has no leader", lambda: not is_ready(living, "e3"))
            goes_on(writer)
            with pytest.raises(RuntimeError):
                living.ctl("e3", "put", "alone", "value")
        goes_on(writer)
    nothing_is_lost(living, writer, record_property)
    assert living.ctl("e1", "get", "alone") == ""


@pytest.mark.parametrize("names", [("e2", "e3"), ("e3",)], ids=["two", "the-leader"])
def test_members_that_lose_half_of_their_packets_lose_no_write(
    living: LivingMembers, record_property: Record, names: tuple[str, ...]
) -> None:
    living.begun(THREE)
    living.lead("e3")
    with Writer(living) as writer, ExitStack() as faults:
        goes_on(writer)
        for name in names:
            faults.enter_context(hindered(living, name, HALF))
        goes_on(writer)
        faults.close()
        goes_on(writer)
    nothing_is_lost(living, writer, record_property)


def test_a_leader_that_stands_still_goes_on_as_a_follower(
    living: LivingMembers, record_property: Record
) -> None:
    living.begun(THREE)
    living.lead("e3")
    (before,) = living.machines["e3"].settled(etcd.UNIT).values()
    with Writer(living) as writer:
        goes_on(writer)
        living.machines["e3"].call("systemctl", "kill", "--signal=STOP", etcd.UNIT)
        goes_on(writer)
        living.machines["e3"].call("systemctl", "kill", "--signal=CONT", etcd.UNIT)
        goes_on(writer)
    nothing_is_lost(living, writer, record_property)
    assert [*living.machines["e3"].settled(etcd.UNIT).values()] == [before]


def test_a_member_whose_disk_is_full_is_back_once_it_has_room(
    living: LivingMembers, record_property: Record
) -> None:
    living.make(*THREE)
    machine, filler = living.machines["e3"], f"{layout.ETCD_DATA}/filler"
    machine.call("mkdir", "-p", layout.ETCD_DATA)
    machine.call(
        "mount", "-t", "tmpfs", "-o", f"size={MEBIBYTES}m,mode=0700", "tmpfs", layout.ETCD_DATA
    )
    living.founders = " ".join(THREE)
    living.bring(THREE)
    living.lead("e3")
    with Writer(living) as writer:
        goes_on(writer)
        machine.run(f"dd if=/dev/zero of={filler} bs=1M status=none || true")
        eventually("it has ended", lambda: not is_ready(living, "e3"))
        goes_on(writer)
        machine.call("rm", filler)
        eventually("it is well", lambda: is_ready(living, "e3"))
        goes_on(writer)
    nothing_is_lost(living, writer, record_property)
