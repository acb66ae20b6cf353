"""Members of etcd, each under its own systemd, and a client that writes all the time."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from itertools import pairwise

from plan import etcd, identity, layout, render
from plan.model import Source
from spec.cluster import Cluster
from tests.certs.clusters import cluster
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, cable, quiet
from tests.plan.running import Keys
from tests.plan.test_removed import with_programs

ADDRESSES = {f"e{number}": f"192.168.1.2{number}" for number in range(1, 6)}
ONE, THREE, FIVE = ("e1",), ("e1", "e2", "e3"), tuple(ADDRESSES)
TRUST = " ".join(
    f"--{name}={path}" for name, path in zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
)
OWN = f"--endpoints=https://127.0.0.1:2379 {TRUST}"
"""The options with which etcdctl asks the member of its own machine."""

PROBED = "etcd_network_peer_round_trip_time_seconds_count"
"""The metric that a member has for each other one to which it connects, listed or not."""

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
def planned(members: Sequence[str], version: str | None = None) -> Cluster:
    """A cluster with these members of etcd, and with the digests of its programs."""
    machines = {name: (ADDRESSES[name], "e") for name in members}
    of_etcd = {"version": version} if version else {}
    return with_programs(cluster(machines | {"c1": ("192.168.1.31", "ai")}, etcd=of_etcd))[0]


class LivingMembers:
    """A cluster whose members come and go."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.keys = Keys(planned(FIVE))
        self._stacks: dict[str, ExitStack] = {}
        self.machines: dict[str, Container] = {}
        self.founders = ""
        self.version: str | None = None

    def make(self, *names: str) -> None:
        """Make machines, with empty disks."""
        for name in names:
            stack = self._stacks[name] = ExitStack()
            machine = stack.enter_context(Container(self._memory, prepare=quiet))
            machine.call("ip", "address", "add", ADDRESSES[name], "dev", "lo")
            self.equip(machine, name)
            for peer, there in self.machines.items():
                cable({name: machine, peer: there}, ADDRESSES)
            self.machines[name] = machine

    def equip(self, machine: Container, name: str) -> None:
        """Bring a machine the programs of the present version."""
        spec, files = with_programs(planned(FIVE, self.version))
        for artifact in etcd.step(spec, name).artifacts:
            if not machine.path(artifact.store_path).exists():
                machine.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)

    def become(self, version: str | None) -> None:
        """From now on the plan has this version of etcd; None for the catalogue's."""
        self.version = version
        for name, machine in self.machines.items():
            self.equip(machine, name)

    def lose(self, name: str) -> None:
        """End a machine, with what is on its disk."""
        del self.machines[name]
        self._stacks.pop(name).close()

    def end(self) -> None:
        for name in list(self.machines):
            self.lose(name)

    def data(self, name: str, members: Sequence[str]) -> str:
        """The data of a member's step."""
        step = etcd.step(planned(members, self.version), name)
        return render.text(etcd.founded(step, tuple(self.founders.split())))

    def identify(self, name: str, members: Sequence[str]) -> None:
        pairs = self.keys.of(name)

        def content(source: Source) -> str:
            return self.keys.content(source, pairs)

        done = self.machines[name].run(
            render.text(identity.step(planned(members, self.version), name), content)
        )
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
        return self.machines[node].call("etcdctl", *OWN.split(), *arguments)

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
            assert not self.machines[name].path(layout.ETCD_FIRST_START).exists()

    def connected(self, name: str) -> set[str]:
        """The IDs of the members to which one connects, of which some may be no members."""
        probed = (re.fullmatch(rf'{PROBED}{{To="(\w+)"}}', metric) for metric in self.metrics(name))
        return {match[1] for match in probed if match}

    def metrics(self, name: str) -> dict[str, float]:
        """Name and labels of each metric of a member to its value."""
        url = f"http://127.0.0.1:{layout.ETCD_METRICS_PORT}/metrics"
        lines = self.machines[name].call("curl", "--silent", url).splitlines()
        rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {metric: float(value) for metric, _, value in rows}

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


def is_ready(living: LivingMembers, name: str) -> bool:
    """Whether a member has a leader and a quorum behind it."""
    url = f"http://127.0.0.1:{layout.ETCD_METRICS_PORT}/readyz"
    return living.machines[name].run(f"curl --silent --fail {url}").returncode == 0


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
