"""Members of etcd come and go, and the condition says what it sees: three real ones."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from plan import etcd, layout
from plan.condition import Members
from plan.model import Unit
from probe.access import Access
from probe.conditions import ask, doors
from probe.failure import Unmet
from tests.certs.clusters import APART
from tests.engine.stack import PATIENCE, eventually
from tests.plan.running import LocalCluster, LocalMachine, programs, run
from tests.plan.stored import as_root
from tests.probe.machine import access, answering

pytestmark = [pytest.mark.engine, as_root]

NAMES = ("e1", "e2", "e3")


class MembersWorld:
    """Three members, and machines e1 and e2 that answer over SSH."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.cluster = LocalCluster(APART, folder)
        self.machines = {name: LocalMachine(self.cluster, name) for name in NAMES}
        self.path = programs(folder / "bin", APART, ("etcdctl",))
        for name, machine in self.machines.items():
            machine.furnish(etcd.step(APART, name))
        for name in ("e1", "e2"):
            stack.enter_context(self.machines[name].running(self.unit(name)))
        self.third = ExitStack()
        stack.enter_context(self.third)
        self.start_third()
        root = self.machines["e1"].root
        self.server = stack.enter_context(answering(folder / "sshd", root, self.path))

    def unit(self, name: str, **more: str) -> Unit:
        unit = etcd.unit(APART, name)
        quick = {"heartbeat-interval": "100", "election-timeout": "1000"}
        return replace(unit, flags={**unit.flags, **quick, **more})

    def start_third(self, **more: str) -> None:
        self.third.enter_context(self.machines["e3"].running(self.unit("e3", **more)))

    def url(self, name: str, port: int) -> str:
        return f"https://127.0.0.1:{self.cluster.ports[name, port]}"

    @property
    def check(self) -> Members:
        return Members(members={name: self.url(name, 2379) for name in NAMES})

    @property
    def access(self) -> Access:
        """The first machine is down: another one is asked."""
        up = access(e1=self.server, e2=self.server)
        machines = {**up.machines, "e1": replace(up.machines["e1"], port=1)}
        return replace(up, machines=machines)

    def ctl(self, member: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        cert, key = self.machines["e1"].certificate("etcd-healthcheck-client")
        authority = f"{self.machines['e1'].root}{layout.MEMBER_AUTHORITY}"
        return subprocess.run(
            [str(self.path / "etcdctl"), f"--endpoints={self.url(member, 2379)}", *arguments]
            + [f"--cacert={authority}", f"--cert={cert}", f"--key={key}"],
            capture_output=True,
            text=True,
        )

    def change(self, *arguments: str) -> None:
        """Until it is done: members want to have seen each other, and learners to have caught up.

        Only the leader promotes: what a member passes on to it bears no user (etcd 3.7.1).
        """
        end = time.monotonic() + PATIENCE
        for member in cycle(("e1", "e2")):
            done = self.ctl(member, "member", *arguments)
            if done.returncode == 0:
                return
            assert time.monotonic() < end, done.stderr

    def identifier(self, name: str) -> str:
        rows = [line.split(", ") for line in self.ctl("e1", "member", "list").stdout.splitlines()]
        return next(row[0] for row in rows if name in (row[2], row[3].rpartition(":")[0], row[3]))


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[MembersWorld]:
    with ExitStack() as stack:
        made = MembersWorld(tmp_path_factory.mktemp("members"), stack)
        # Users and roles too: the question must be allowed to who asks it.
        step = etcd.step(APART, "e1")
        assert run(made.machines["e1"].script(step, made.path)).returncode == 0
        yield made


def asked(
    world: MembersWorld, check: Members | None = None, opened: Access | None = None
) -> Unmet | None:
    async def whole() -> Unmet | None:
        async with doors(opened or world.access) as through:
            return await ask(check or world.check, through)

    return asyncio.run(whole())


def until(world: MembersWorld, sentence: str | None) -> None:
    """A change takes a moment to be seen."""

    def seen() -> bool:
        unmet = asked(world)
        return unmet is None if sentence is None else sentence in str(unmet)

    eventually("it is seen", seen, reason=lambda: str(asked(world)))


def test_the_members_are_these_and_no_others(world: MembersWorld) -> None:
    assert asked(world) is None
    e1 = {"e1": world.url("e1", 2379)}
    sentence = str(
        asked(world, Members(members=e1 | {"e2": world.url("e2", 2379)}), access(e1=world.server))
    )
    assert sentence == "etcd has a member e3, which is none of this cluster's"
    swapped = Members(
        members={
            "e1": world.url("e2", 2379),
            "e2": world.url("e1", 2379),
            "e3": world.url("e3", 2379),
        }
    )
    assert "etcd's member e1 says it is at" in str(asked(world, swapped))
    named = Members(members={**world.check.members, "e4": world.url("e1", 2379)})
    assert "etcd has no member e4" in str(asked(world, named))


def test_a_member_is_followed_from_its_loss_to_its_return(world: MembersWorld) -> None:
    world.third.close()
    until(world, f"etcd's member e3 ({world.url('e3', 2379)}) is not healthy")
    world.change("remove", world.identifier("e3"))
    e12 = Members(members={name: url for name, url in world.check.members.items() if name != "e3"})
    assert asked(world, e12) is None

    world.change("add", "e3", "--learner", f"--peer-urls={world.url('e3', 2380)}")
    assert "was never started" in str(asked(world, e12))
    data = world.machines["e3"].root / layout.ETCD_DATA[1:]
    subprocess.run(["rm", "-r", data / "member"], check=True)
    world.start_third(**{"initial-cluster-state": "existing"})
    until(world, "etcd's member e3 is still a learner")
    world.change("promote", world.identifier("e3"))
    until(world, None)


def test_a_cluster_without_a_quorum_is_told_member_by_member(world: MembersWorld) -> None:
    nobody = Members(members={"e1": "https://127.0.0.1:1", "e2": "https://127.0.0.1:2"})
    sentence = str(asked(world, nobody))
    assert "etcd's member e1 (https://127.0.0.1:1) is not healthy" in sentence
    assert "etcd's member e2 (https://127.0.0.1:2) is not healthy" in sentence


def test_where_no_member_can_be_asked_each_is_named(world: MembersWorld) -> None:
    down = world.access
    machines = {name: replace(machine, port=1) for name, machine in down.machines.items()}
    unmet = asked(world, opened=replace(down, machines=machines))
    assert unmet is not None
    assert unmet.wholly
    for name in ("e1", "e2", "e3"):
        assert name in str(unmet)


def test_a_machine_without_etcdctl_says_so(world: MembersWorld, tmp_path: Path) -> None:
    with answering(tmp_path / "bare", tmp_path, tmp_path) as server:
        (tmp_path / "etc").mkdir()
        sentence = str(asked(world, opened=access(e1=server)))
    assert "etcd does not answer on e1" in sentence
    assert "etcdctl: command not found" in sentence
