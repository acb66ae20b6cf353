"""etcd's token: who was left out of a restore is not let in by the generation after it."""

import json
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from plan import etcd, layout
from spec.cluster import Cluster
from spec.description import Etcd
from tests.certs.clusters import APART
from tests.engine.stack import eventually
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.running import LocalCluster, LocalMachine, stored_program

MEMBERS = ("e1", "e2", "e3")


def of(generation: int) -> Cluster:
    return APART.model_copy(update={"etcd": Etcd(generation=generation)})


@pytest.mark.parametrize("name", NAMES)
def test_the_first_generations_token_is_the_name_as_in_every_cluster_so_far(name: str) -> None:
    spec = golden_spec(name)
    for node in spec.etcd_members:
        (unit,) = golden_plan(name).nodes[node].step("etcd").units
        assert unit.flags["initial-cluster-token"] == spec.name


def test_each_generation_has_a_token_of_its_own() -> None:
    assert len({etcd.token(of(number)) for number in range(1, 20)}) == 19


class TokenWorld:
    """Members on this computer, which are restored and started with the flags of a generation."""

    def __init__(self, folder: Path) -> None:
        self.cluster = LocalCluster(APART, folder)
        self.machines = {name: LocalMachine(self.cluster, name) for name in MEMBERS}
        for name, machine in self.machines.items():
            machine.furnish(etcd.step(APART, name))
        self.snapshot = folder / "snapshot"

    def start(self, stack: ExitStack, name: str, generation: int) -> subprocess.Popen[bytes]:
        unit = etcd.unit(of(generation), name)
        quick = {"heartbeat-interval": "50", "election-timeout": "500"}
        flags = replace(unit, flags={**unit.flags, **quick})
        return stack.enter_context(self.machines[name].running(flags))

    def ctl(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        cert, key = self.machines["e1"].certificate("etcd-healthcheck-client")
        trust = [f"--cacert={self.machines['e1'].root}{layout.MEMBER_AUTHORITY}", f"--cert={cert}"]
        endpoint = f"--endpoints=127.0.0.1:{self.cluster.ports[name, 2379]}"
        program = str(stored_program("etcdctl", APART.versions))
        return subprocess.run(
            [program, endpoint, *trust, f"--key={key}", *arguments], capture_output=True, text=True
        )

    def restore(self, name: str, generation: int) -> None:
        """What ``snapshot restore`` is given are the flags of the member's unit."""
        machine, flags = self.machines[name], etcd.unit(of(generation), name).flags
        data = machine.root / layout.ETCD_DATA[1:]
        data.rename(data.with_name(f"etcd-before-{generation}"))
        given = ("name", "initial-cluster-token", "initial-advertise-peer-urls")
        options = [f"--{flag}={machine.here(flags[flag])}" for flag in given]
        options.append(f"--initial-cluster={machine.here(etcd.initial_cluster(of(generation)))}")
        program = str(stored_program("etcdutl", APART.versions))
        subprocess.run(
            [program, "snapshot", "restore", self.snapshot, f"--data-dir={data}", *options],
            check=True,
            capture_output=True,
        )

    def begun(self, stack: ExitStack) -> int:
        """All members of the first generation, well together; return their cluster's ID."""
        for name in MEMBERS:
            self.start(stack, name, 1)
        eventually("all are well", lambda: all(map(self.well, MEMBERS)))
        return self.cluster_id("e1")

    def cluster_id(self, name: str) -> int:
        (row,) = json.loads(self.ctl(name, "endpoint", "status", "--write-out=json").stdout)
        return int(row["Status"]["header"]["cluster_id"])

    def well(self, name: str) -> bool:
        return self.ctl(name, "endpoint", "health").returncode == 0


def test_a_member_that_was_left_out_of_a_restore_is_refused(tmp_path: Path) -> None:
    world = TokenWorld(tmp_path)
    with ExitStack() as stack:
        first = world.begun(stack)
        done = world.ctl("e1", "snapshot", "save", str(world.snapshot))
        assert done.returncode == 0, done.stderr
        assert world.ctl("e3", "put", "discarded", "by the restore").returncode == 0
    for name in ("e1", "e2"):
        world.restore(name, 2)
    with ExitStack() as stack:
        for name in ("e1", "e2"):
            world.start(stack, name, 2)
        eventually("two are a quorum", lambda: world.well("e1"))
        assert world.cluster_id("e1") != first
        # The forgotten member, with the flags of then or of now: its data are of another cluster.
        for generation in (1, 2):
            with ExitStack() as forgotten:
                world.start(forgotten, "e3", generation)
                log = world.machines["e1"].log
                before = log.read_text().count("cluster ID mismatch")
                eventually(
                    "it is refused",
                    lambda: log.read_text().count("cluster ID mismatch") > before,  # noqa: B023
                )
                assert not world.well("e3")
        assert world.ctl("e1", "get", "discarded").stdout == ""
        # Restored with the others it is let in.
        world.restore("e3", 2)
        world.start(stack, "e3", 2)
        eventually("it is one of them", lambda: world.well("e3"))
        assert world.cluster_id("e3") == world.cluster_id("e1")


def test_a_restore_with_the_old_token_is_the_old_cluster_to_etcd(tmp_path: Path) -> None:
    """Why a generation is needed: nothing tells the forgotten member from the others."""
    world = TokenWorld(tmp_path)
    with ExitStack() as stack:
        first = world.begun(stack)
        assert world.ctl("e1", "snapshot", "save", str(world.snapshot)).returncode == 0
    for name in MEMBERS:
        world.restore(name, 1)
    with ExitStack() as stack:
        for name in MEMBERS:
            world.start(stack, name, 1)
        eventually("all are well", lambda: all(map(world.well, MEMBERS)))
        assert world.cluster_id("e1") == first


def test_a_living_cluster_goes_on_with_another_generations_flags(tmp_path: Path) -> None:
    world = TokenWorld(tmp_path)
    for generation in (1, 5):
        with ExitStack() as stack:
            for name in MEMBERS:
                world.start(stack, name, generation)
            eventually("all are well", lambda: all(map(world.well, MEMBERS)))
            if generation == 1:
                first = world.cluster_id("e1")
                assert world.ctl("e1", "put", "kept", "data").returncode == 0
            assert world.cluster_id("e2") == first
            assert world.ctl("e3", "get", "--print-value-only", "kept").stdout == "data\n"
