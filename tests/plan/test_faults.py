"""Bad days of etcd: what a quorum has confirmed stays, and members are well again by themselves."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from plan import etcd, layout
from tests.engine.stack import eventually
from tests.plan.members import ONE, THREE, TRUST, LivingMembers, Writer, is_ready
from tests.plan.stored import as_root

pytestmark = [as_root, pytest.mark.timeout(1800)]

MORE = 20
"""So many more confirmed writes say that the cluster takes writes again."""

LOSSY = """
table inet lossy {
    chain input {
        type filter hook input priority 0
        iifname "to-*" numgen random mod 2 == 0 counter drop
    }
}
"""


@pytest.fixture
def bearing(
    living: LivingMembers, record_property: Callable[[str, object], None]
) -> Callable[[tuple[str, ...]], AbstractContextManager[Writer]]:
    """Writes during a fault, and demands afterwards that all members have what was confirmed."""

    @contextmanager
    def written(members: tuple[str, ...]) -> Iterator[Writer]:
        with Writer(living) as writer:
            yield writer
            for name in members:
                eventually(f"{name} is ready", partial(is_ready, living, name))
            more(writer)
        living.agree(members)
        for name in members:
            assert writer.lost(name) == set()
        outcome = f"{len(writer.confirmed)} writes, the longest gap {writer.gap:.1f} s"
        record_property("outcome", outcome)
        print(outcome)

    return written


def more(writer: Writer) -> None:
    """Wait until so many more writes are confirmed."""
    enough = len(writer.confirmed) + MORE
    eventually("writes are confirmed", lambda: len(writer.confirmed) >= enough)


def killed(living: LivingMembers, name: str) -> None:
    """Kill a member, and wait until systemd has started it again."""
    machine = living.machines[name]
    before = machine.settled(etcd.UNIT)
    machine.call("systemctl", "kill", "--signal=KILL", etcd.UNIT)
    eventually("it is started again", lambda: machine.settled(etcd.UNIT) != before)


@pytest.mark.parametrize("members", [ONE, THREE], ids=["the-only", "the-leader"])
def test_a_member_that_is_killed(
    living: LivingMembers,
    bearing: Callable[[tuple[str, ...]], AbstractContextManager[Writer]],
    members: tuple[str, ...],
) -> None:
    living.begun(members)
    leader = members[-1]
    living.lead(leader)
    with bearing(members):
        killed(living, leader)


@contextmanager
def cut_off(living: LivingMembers, name: str) -> Iterator[None]:
    """Pull the cables of a machine."""
    cables = [f"to-{peer}" for peer in living.machines if peer != name]
    for device in cables:
        living.machines[name].call("ip", "link", "set", device, "down")
    yield
    for device in cables:
        living.machines[name].call("ip", "link", "set", device, "up")


def test_a_leader_that_is_cut_off_confirms_nothing(
    living: LivingMembers, bearing: Callable[[tuple[str, ...]], AbstractContextManager[Writer]]
) -> None:
    living.begun(THREE)
    living.lead("e3")
    with bearing(THREE) as writer, cut_off(living, "e3"):
        with pytest.raises(RuntimeError):
            living.ctl("e3", "put", "alone", "value")
        more(writer)
    assert living.ctl("e1", "get", "alone") == ""


@contextmanager
def lossy(living: LivingMembers, name: str) -> Iterator[None]:
    """Drop every second packet, by chance, that a machine gets from others."""
    inside = ["nsenter", "--net", f"--target={living.machines[name].leader}", "nft"]
    subprocess.run([*inside, "--file", "-"], input=LOSSY, text=True, check=True)
    yield
    rules = [*inside, "list", "table", "inet", "lossy"]
    shown = subprocess.run(rules, capture_output=True, text=True, check=True).stdout
    dropped = re.search(r"counter packets (\d+)", shown)
    assert dropped
    assert int(dropped[1]) > 0
    subprocess.run([*inside, "delete", "table", "inet", "lossy"], check=True)


@pytest.mark.parametrize("name", ["e2", "e3"], ids=["a-follower", "the-leader"])
def test_half_of_the_packets_are_lost(
    living: LivingMembers,
    bearing: Callable[[tuple[str, ...]], AbstractContextManager[Writer]],
    name: str,
) -> None:
    living.begun(THREE)
    living.lead("e3")
    with bearing(THREE) as writer, lossy(living, name):
        more(writer)


def test_a_member_whose_disk_is_full_comes_back_once_there_is_room(
    living: LivingMembers, bearing: Callable[[tuple[str, ...]], AbstractContextManager[Writer]]
) -> None:
    living.make(*THREE)
    full = living.machines["e3"]
    full.call("mkdir", "--parents", layout.ETCD_DATA)
    full.call("mount", "-t", "tmpfs", "-o", "size=200m,mode=0700", "tmpfs", layout.ETCD_DATA)
    living.founders = " ".join(THREE)
    living.bring(THREE)
    living.lead("e1")
    large = "head --bytes=1000000 /dev/zero | tr '\\0' x >/run/large"
    living.machines["e1"].call("bash", "-c", large)
    filler = f"{layout.ETCD_DATA}/filler"
    put = f"etcdctl --endpoints=https://127.0.0.1:2379 {TRUST} put large </run/large"

    def restarts() -> int:
        shown = full.call("systemctl", "show", "--property=NRestarts", "--value", etcd.UNIT)
        return int(shown)

    def ended() -> bool:
        living.machines["e1"].run(put)
        return restarts() > before

    before = restarts()
    with bearing(THREE) as writer:
        full.run(f"dd if=/dev/zero of={filler} bs=1M 2>/dev/null")
        eventually("it ends, since nothing more fits onto its disk", ended)
        more(writer)
        full.call("rm", filler)
