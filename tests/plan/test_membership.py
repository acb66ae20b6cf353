"""Members of etcd that join, leave and are replaced, each under its own systemd."""

import os
import re
import shlex
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pytest

from plan import etcd, layout, render
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.container import Container
from tests.plan.members import (
    ADDRESSES,
    FIVE,
    ONE,
    OWN,
    THREE,
    LivingMembers,
    Writer,
    is_ready,
    planned,
)
from tests.plan.stored import as_root

pytestmark = [as_root, pytest.mark.timeout(1800)]


def knows(living: LivingMembers, name: str, others: set[str]) -> bool:
    """Whether a member that has started again says to whom it connects.

    It says so of each 5 s after it heard of that one, and hears of those in its log as it starts.
    """
    age = time.time() - living.metrics(name)["process_start_time_seconds"]
    return age > 15 and others <= living.connected(name)


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param((ONE, THREE, ONE), id="three"),
        pytest.param((ONE, THREE, FIVE, THREE, ONE), id="five", marks=at_length),
    ],
)
def test_one_becomes_several_and_one_again(
    living: LivingMembers,
    record_property: Callable[[str, object], None],
    ways: tuple[tuple[str, ...], ...],
) -> None:
    living.begun(ONE)
    with Writer(living) as writer:
        for before, members in pairwise(ways):
            living.make(*(name for name in members if name not in living.machines))
            # Whoever leaves leads before.
            if len(before) > len(members):
                living.lead(before[-1])
            start = time.monotonic()
            outputs = living.bring(members)
            record_property(f"{len(before)} to {len(members)}", time.monotonic() - start)
            living.agree(members)
            left = [name for name in before if name not in members]
            for name in left:
                assert f"{name} is removed: it has left the plan\n" in "".join(outputs.values())
                assert living.leave(name) == ""
                machine = living.machines[name]
                assert not machine.path(f"{layout.ETCD_DATA}/member").exists()
                assert not machine.path(layout.ETCD_ANSWERED).exists()
                assert not machine.path(f"{layout.UNITS}/{etcd.UNIT}").exists()
                living.lose(name)
            # Also those that start again and read their log anew know no other member.
            for name in members:
                living.machines[name].call("systemctl", "restart", etcd.UNIT)
                eventually("it is ready", partial(is_ready, living, name))
            identifiers = {name: identifier for name, (identifier, _) in living.listed().items()}
            for name in members if len(members) > 1 else ():
                others = set(identifiers.values()) - {identifiers[name]}
                eventually("it knows the others", partial(knows, living, name, others))
                assert living.connected(name) == others
            # The next run finds nothing to do.
            started = living.machines["e1"].settled(etcd.UNIT)
            again = living.bring(members)
            assert living.machines["e1"].settled(etcd.UNIT) == started
            assert {text.splitlines()[-1] for text in again.values()} == {
                etcd.step(planned(members), "e1").outcome
            }
    record_property("writes", len(writer.confirmed))
    record_property("gap", writer.gap)
    assert writer.lost("e1") == set()


@pytest.mark.parametrize("to", [("e1", "e2", "e4"), THREE], ids=["another", "anew"])
def test_a_dead_member_is_replaced(
    living: LivingMembers, record_property: Callable[[str, object], None], to: tuple[str, ...]
) -> None:
    """By another machine, or by its own with an empty disk."""
    living.begun(THREE)
    was = living.listed()["e3"][0]
    new = to[-1]
    living.lead("e3")
    with Writer(living) as writer:
        living.lose("e3")
        living.make(new)
        living.founders = "e1 e2 e3" if new == "e3" else "e1 e2"
        start = time.monotonic()
        outputs = living.bring(to, *((new,) if new == "e3" else ()))
        record_property("seconds", time.monotonic() - start)
        living.agree(to)
    record_property("writes", len(writer.confirmed))
    record_property("gap", writer.gap)
    assert living.listed()[new][0] != was
    assert writer.lost(new) == set()
    sentence = (
        f"have removed the member {was} that it was"
        if new == "e3"
        else "etcd's member e3 is removed: it has left the plan and does not answer"
    )
    assert sentence in "".join(outputs.values())


def test_a_member_is_replaced_by_another_machine_while_it_runs(
    living: LivingMembers, record_property: Callable[[str, object], None]
) -> None:
    living.begun(THREE)
    living.lead("e3")
    living.make("e4")
    living.founders = "e1 e2"
    with Writer(living) as writer:
        start = time.monotonic()
        living.bring(("e1", "e2", "e4"))
        record_property("seconds", time.monotonic() - start)
        living.agree(("e1", "e2", "e4"))
    record_property("gap", writer.gap)
    assert writer.lost("e4") == set()
    living.leave("e3")
    assert not living.machines["e3"].path(f"{layout.ETCD_DATA}/member").exists()


def test_a_join_that_is_cut_off_anywhere_goes_on(living: LivingMembers) -> None:
    living.begun(ONE)
    members = THREE
    living.make("e2", "e3")
    living.identify("e2", members)
    living.identify("e3", members)
    # As where it was cut off directly after it was added.
    peer = f"--peer-urls=https://{ADDRESSES['e2']}:2380"
    eventually(
        "it is added",
        lambda: "Member" in living.ctl("e1", "member", "add", "e2", "--learner", peer),
    )
    whole = living.machines["e3"].begin(living.data("e3", members))
    for seconds in (0.3, 0.8, 1.5, 3):
        living.machines["e2"].run(living.data("e2", members), seconds=seconds)
    done = living.machines["e2"].begin(living.data("e2", members))
    for child in (done, whole):
        finished = Container.finish(child)
        assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout
    living.bring(members, "e1")
    living.agree(members)


def test_members_join_while_etcd_takes_no_writes(living: LivingMembers) -> None:
    """Its space is used up, which only a person can cure; no lock can be had meanwhile."""
    living.begun(ONE)
    first = living.machines["e1"]
    unit = f"{layout.UNITS}/{etcd.UNIT}"
    small, count = re.subn(r"(--quota-backend-bytes)=\d+", r"\1=2097152", first.read(unit))
    assert count == 1
    first.write(unit, small)
    first.call("systemctl", "daemon-reload")
    first.call("systemctl", "restart", etcd.UNIT)
    eventually("it is ready", partial(is_ready, living, "e1"))

    def full() -> bool:
        first.run(f"head --bytes=200000 /dev/zero | tr '\\0' x | etcdctl {OWN} put filler")
        return "NOSPACE" in living.ctl("e1", "alarm", "list")

    eventually("its space is used up", full)
    living.make("e2", "e3")

    def joined(name: str) -> str:
        living.identify(name, THREE)
        return living.machines[name].run(living.data(name, THREE)).stderr

    with ThreadPoolExecutor() as pool:
        for sentence in pool.map(joined, ("e2", "e3")):
            assert "NOSPACE" in sentence
    assert sorted(living.listed()) == sorted(THREE)


def test_members_that_join_begin_no_cluster_while_no_other_answers(living: LivingMembers) -> None:
    """Two new ones of three would have a majority."""
    living.begun(ONE)
    living.ctl("e1", "put", "kept", "data")
    living.machines["e1"].call("systemctl", "stop", etcd.UNIT)
    living.make("e2", "e3")
    for name in ("e2", "e3"):
        living.identify(name, THREE)
    waiting = [living.machines[name].begin(living.data(name, THREE)) for name in ("e2", "e3")]
    for child in waiting:
        assert child.stdout
        assert child.stdout.readline() == "until a member of etcd answers\n"
    for name in ("e2", "e3"):
        assert not living.machines[name].path(f"{layout.ETCD_DATA}/member").exists()
    living.machines["e1"].call("systemctl", "start", etcd.UNIT)
    for child in waiting:
        finished = Container.finish(child)
        assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout
    living.bring(THREE, "e1")
    living.agree(THREE)
    assert living.ctl("e3", "get", "kept", "--print-value-only") == "data\n"


def test_nobody_leaves_while_another_member_is_ill(living: LivingMembers) -> None:
    living.begun(FIVE)
    living.lose("e2")
    eventually("the others have a leader", lambda: is_ready(living, "e1"))
    data = living.data("e1", THREE)
    hurried = "\t".join(
        "member-gone=5" if field.startswith("member-gone=") else field
        for field in data.split("\n", 2)[1].split("\t")
    )
    data = data.replace(data.split("\n", 2)[1], hurried, 1)
    living.identify("e1", THREE)
    done = living.machines["e1"].run(data)
    assert done.returncode == 1
    assert "those leaving etcd are out" in done.stderr
    assert f"another one is ill (e2 at https://{ADDRESSES['e2']}:2380 does not answer)" in (
        done.stderr
    )
    assert sorted(living.listed()) == sorted(FIVE)


def test_a_member_that_has_its_vote_keeps_its_data(living: LivingMembers) -> None:
    living.begun(THREE)
    machine = living.machines["e3"]
    machine.write(f"{layout.STATE}/plan", "ready identity\n")
    line = render.leaving("etcd")
    hurried = " ".join(
        "member-gone=2" if word.startswith("member-gone=") else word for word in shlex.split(line)
    )
    done = machine.run(hurried)
    assert done.returncode == 1
    assert "etcd's other members have removed this one" in done.stderr
    assert list(machine.path(f"{layout.ETCD_DATA}/member/wal").glob("*.wal"))
    assert living.ctl("e3", "endpoint", "health")


OLDER, NEWER = "3.6.14", "3.7.1"
"""The versions of etcd in the catalogue."""

WAY_BACK = f"{layout.STATE}/etcd-way-back"


def stated(living: LivingMembers, name: str, field: str) -> str:
    """A field of what a member says of itself."""
    status = living.ctl(name, "endpoint", "status", "--write-out=fields")
    line = re.search(rf'^"{field}" : "?([^"\n]*)"?$', status, re.MULTILINE)
    assert line, status
    return line[1]


def goes_back(living: LivingMembers) -> bool:
    """Whether a member is on its way back to an older version."""
    return any(stated(living, name, "DowngradeEnabled") == "true" for name in living.machines)


def have(living: LivingMembers, version: str) -> None:
    """All members run this version, and keep their data in its format."""
    minor = version.rpartition(".")[0]

    def stored() -> bool:
        every = {stated(living, name, "StorageVersion") for name in living.machines}
        return every == {f"{minor}.0"}

    assert {stated(living, name, "Version") for name in living.machines} == {version}
    eventually("their data have its format", stored)
    eventually("nothing is left of a way back", lambda: not goes_back(living))


@at_length
def test_etcd_goes_back_by_a_minor_version_and_up_again(
    living: LivingMembers, record_property: Callable[[str, object], None]
) -> None:
    living.begun(THREE)
    with Writer(living) as writer:
        for version in (OLDER, None):
            living.become(version)
            start = time.monotonic()
            living.bring(THREE)
            record_property(f"seconds to {version or NEWER}", time.monotonic() - start)
            have(living, version or NEWER)
            living.agree(THREE)
            # The next run finds nothing to do.
            started = living.machines["e1"].settled(etcd.UNIT)
            living.bring(THREE)
            assert living.machines["e1"].settled(etcd.UNIT) == started
    record_property("writes", len(writer.confirmed))
    record_property("gap", writer.gap)
    for name in THREE:
        assert writer.lost(name) == set()
        assert not living.machines[name].path(WAY_BACK).exists()


@pytest.mark.parametrize("restarted", [(), ("e2",)], ids=["before", "after"])
@at_length
def test_a_way_back_that_is_turned_round_leaves_etcd_as_it_was(
    living: LivingMembers, restarted: tuple[str, ...]
) -> None:
    """Before or after the first member has restarted with the older version."""
    living.begun(THREE)
    living.ctl("e1", "put", "kept", "data")
    living.become(OLDER)
    for name in THREE:
        living.identify(name, THREE)
    children = [living.machines[name].begin(living.data(name, THREE)) for name in THREE[:2]]
    # The third machine's step did not begin.
    eventually("it goes back", lambda: stated(living, "e3", "DowngradeEnabled") == "true")
    if restarted:
        eventually(
            "one has", lambda: any(stated(living, name, "Version") == OLDER for name in THREE)
        )
    for child in children:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    living.become(None)
    living.bring(THREE)
    have(living, NEWER)
    living.agree(THREE)
    assert living.ctl("e3", "get", "kept", "--print-value-only") == "data\n"


@at_length
def test_etcd_does_not_go_back_while_a_member_is_ill(living: LivingMembers) -> None:
    living.begun(THREE)
    living.lose("e3")
    eventually("the others have a leader", lambda: is_ready(living, "e1"))
    living.become(OLDER)
    living.identify("e1", THREE)
    data = re.sub(r"\bstorage=\d+", "storage=2", living.data("e1", THREE))
    done = living.machines["e1"].run(data)
    assert done.returncode == 1
    assert "it goes back only while all members answer" in done.stderr
    assert stated(living, "e1", "Version") == NEWER
    assert is_ready(living, "e1")
