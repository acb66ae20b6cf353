"""Members of etcd that join, leave and are replaced, each under its own systemd."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from itertools import pairwise

import pytest

from plan import etcd, identity, layout, render
from plan.model import Source
from spec.cluster import Cluster
from tests.certs.clusters import cluster
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, cable, quiet
from tests.plan.running import Keys
from tests.plan.stored import as_root
from tests.plan.test_removed import with_programs

pytestmark = [as_root, pytest.mark.timeout(1800)]

ADDRESSES = {f"e{number}": f"192.168.1.2{number}" for number in range(1, 6)}
ONE, THREE, FIVE = ("e1",), ("e1", "e2", "e3"), tuple(ADDRESSES)
TRUST = " ".join(
    f"--{name}={path}" for name, path in zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
)
WRITER = """
number=0
while [ ! -e /run/enough ]; do
    number=$((number + 1))
    timeout 30 etcdctl --dial-timeout=2s $1 put "written/$number" "$number" >/dev/null 2>&1 &&
        echo "$number $EPOCHREALTIME" >>/run/confirmed
done
"""
"""Writes one key after the other, and notes those that etcd has confirmed, with their times."""


@cache
def planned(members: Sequence[str]) -> Cluster:
    """A cluster with these members of etcd, and with the digests of its programs."""
    machines = {name: (ADDRESSES[name], "e") for name in members}
    return with_programs(cluster(machines | {"c1": ("192.168.1.31", "ai")}))[0]


class LivingMembers:
    """A cluster whose members come and go."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.keys = Keys(planned(FIVE))
        self._stacks: dict[str, ExitStack] = {}
        self.machines: dict[str, Container] = {}
        self.founders = ""

    def make(self, *names: str) -> None:
        """Make machines, with empty disks."""
        _, files = with_programs(planned(FIVE))
        for name in names:
            stack = self._stacks[name] = ExitStack()
            machine = stack.enter_context(Container(self._memory, prepare=quiet))
            machine.call("ip", "address", "add", ADDRESSES[name], "dev", "lo")
            for artifact in etcd.step(planned(FIVE), name).artifacts:
                machine.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
            for peer, there in self.machines.items():
                cable({name: machine, peer: there}, ADDRESSES)
            self.machines[name] = machine

    def lose(self, name: str) -> None:
        """End a machine, with what is on its disk."""
        del self.machines[name]
        self._stacks.pop(name).close()

    def end(self) -> None:
        for name in list(self.machines):
            self.lose(name)

    def data(self, name: str, members: Sequence[str]) -> str:
        """The data of a member's step."""
        step = etcd.step(planned(members), name)
        return render.text(etcd.founded(step, tuple(self.founders.split())))

    def identify(self, name: str, members: Sequence[str]) -> None:
        pairs = self.keys.of(name)

        def content(source: Source) -> str:
            return self.keys.content(source, pairs)

        done = self.machines[name].run(render.text(identity.step(planned(members), name), content))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout

    def bring(self, members: Sequence[str], *names: str) -> dict[str, str]:
        """The steps of members at once, as the engine runs them; what each says."""

        def brought(name: str) -> str:
            self.identify(name, members)
            done = self.machines[name].run(self.data(name, members))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            return done.stdout

        names = names or tuple(members)
        with ThreadPoolExecutor() as pool:
            return dict(zip(names, pool.map(brought, names), strict=True))

    def begun(self, members: Sequence[str]) -> None:
        """A new cluster of these members."""
        self.make(*members)
        self.founders = " ".join(members)
        self.bring(members)

    def ctl(self, node: str, *arguments: str) -> str:
        url = "--endpoints=https://127.0.0.1:2379"
        return self.machines[node].call("etcdctl", url, *TRUST.split(), *arguments)

    def listed(self) -> dict[str, tuple[str, str]]:
        """Name to ID and state of all members, as the first one knows them."""
        rows = [row.split(", ") for row in self.ctl("e1", "member", "list").splitlines()]
        assert all(row[1:6:4] == ["started", "false"] for row in rows), rows
        return {row[2]: (row[0], row[1]) for row in rows}

    def agree(self, members: Sequence[str]) -> None:
        """Etcd has these members alone, all with the same data and nothing left of a join."""
        assert sorted(self.listed()) == sorted(members)
        status = [
            json.loads(self.ctl(name, "endpoint", "status", "-w=json"))[0] for name in members
        ]
        assert len({row["Status"]["header"]["cluster_id"] for row in status}) == 1
        revision = min(row["Status"]["header"]["revision"] for row in status)
        hashes = {
            json.loads(self.ctl(name, "endpoint", "hashkv", f"--rev={revision}", "-w=json"))[0][
                "HashKV"
            ]["hash"]
            for name in members
        }
        assert len(hashes) == 1
        for name in members:
            assert not self.machines[name].path(layout.ETCD_JOINS).exists()

    def lead(self, name: str) -> None:
        """Have this member lead."""
        identifier = self.listed()[name][0]
        for peer in self.machines:
            try:
                self.ctl(peer, "move-leader", identifier)
            except RuntimeError:
                continue
        (status,) = json.loads(self.ctl(name, "endpoint", "status", "-w=json"))
        assert f"{status['Status']['leader']:x}" == identifier

    def leave(self, name: str) -> str:
        """What the engine runs where a member's step is deleted on a machine that stays."""
        self.machines[name].write(f"{layout.STATE}/plan", "ready identity\n")
        done = self.machines[name].run(render.leaving("etcd"))
        assert done.returncode == 0, done.stderr
        return done.stdout


class Writer:
    """Writes all the time, on the first machine, to whichever member answers."""

    def __init__(self, living: LivingMembers) -> None:
        self.living = living

    def __enter__(self) -> "Writer":
        urls = ",".join(f"https://{address}:2379" for address in ADDRESSES.values())
        command = f"set -- '--endpoints={urls} {TRUST}'\n{WRITER}"
        self.child = self.living.machines["e1"].start("bash", "-c", command)
        eventually("something is written", lambda: self.confirmed)
        return self

    def __exit__(self, *_: object) -> None:
        self.living.machines["e1"].path("/run/enough").touch()
        try:
            self.child.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.communicate()

    @property
    def confirmed(self) -> dict[str, float]:
        path = self.living.machines["e1"].path("/run/confirmed")
        lines = path.read_text().splitlines() if path.exists() else []
        return {number: float(moment) for number, moment in map(str.split, lines)}

    def lost(self, node: str) -> set[str]:
        """The confirmed writes that a member does not have."""
        there = self.living.ctl(node, "get", "--prefix", "written/", "--print-value-only")
        return self.confirmed.keys() - set(there.split())

    @property
    def gap(self) -> float:
        """The longest time without a confirmed write, in seconds."""
        moments = sorted(self.confirmed.values())
        return max(later - sooner for sooner, later in pairwise(moments))


@pytest.fixture
def living(memory: Memory) -> Iterator[LivingMembers]:
    made = LivingMembers(memory)
    try:
        yield made
    finally:
        made.end()


def test_one_becomes_three_then_five_and_one_again(
    living: LivingMembers, record_property: Callable[[str, object], None]
) -> None:
    living.begun(ONE)
    with Writer(living) as writer:
        for before, members in ((ONE, THREE), (THREE, FIVE), (FIVE, THREE), (THREE, ONE)):
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


def is_ready(living: LivingMembers, name: str) -> bool:
    """Whether a member has a leader and a quorum behind it."""
    url = f"http://127.0.0.1:{layout.ETCD_METRICS_PORT}/readyz"
    return living.machines[name].run(f"curl --silent --fail {url}").returncode == 0


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
