"""A restore on three machines with real members of etcd, each under its own systemd."""

import asyncio
import hashlib
import json
import shlex
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from certs.bundle import EncryptionKeys
from certs.encryption import encryption_configuration
from lab.problem import Problem
from ops import restore, snapshot
from ops.restore import BUMP, Doing, Restoration, checked
from ops.snapshot import BadSnapshot
from plan import etcd, identity, layout, render
from plan.model import Source
from probe.machines import Done, Unreachable
from tests.certs.clusters import cluster
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, quiet
from tests.plan.running import Keys, stored_program
from tests.plan.stored import as_root
from tests.plan.test_removed import with_programs

pytestmark = [as_root, pytest.mark.timeout(1800)]

MEMBERS = ("e1", "e2", "e3")
SPEC = cluster(
    {name: (f"192.168.1.2{number}", "ai") for number, name in enumerate(MEMBERS)},
    endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
)


class ContainedMachines:
    """Containers in the place of machines behind SSH."""

    def __init__(self, containers: Mapping[str, Container]) -> None:
        self.containers = containers
        self.cut_at: tuple[str, str] | None = None
        """A machine and an action of restore.sh at which the connection breaks."""

    def _begin(
        self, node: str, script: str, arguments: tuple[str, ...], timeout: float
    ) -> subprocess.Popen[str]:
        if self.cut_at == (node, *arguments[:1]):
            raise Unreachable(f"the SSH connection to {node} broke off")
        shell = ("bash", "--norc", "-euo", "pipefail", "-c", script, "probe")
        program = ("timeout", f"{timeout:g}", *shell, *arguments)
        return self.containers[node].start(*program)

    async def run(
        self,
        node: str,
        script: str,
        *arguments: str,
        timeout: float,
        input: str = "",  # noqa: A002  # as Machines has it
    ) -> Done:
        child = self._begin(node, script, arguments, timeout)
        output, errors = await asyncio.to_thread(child.communicate, input)
        return Done(status=child.returncode, stdout=output, stderr=errors)

    async def feed(
        self, node: str, script: str, *arguments: str, content: AsyncIterable[bytes], timeout: float
    ) -> Done:
        child = self._begin(node, script, arguments, timeout)
        data = b"".join([part async for part in content])
        cast(Any, child.stdin).buffer.write(data)
        output, errors = await asyncio.to_thread(child.communicate)
        return Done(status=child.returncode, stdout=output, stderr=errors)


NO_LEASE = "found 0 leases"


class RestoredMembers:
    """Three members of etcd."""

    def __init__(self, memory: Memory, stack: ExitStack) -> None:
        self.spec, files = with_programs(SPEC)
        self.keys = Keys(self.spec)
        self.containers = {
            name: stack.enter_context(Container(memory, prepare=quiet)) for name in MEMBERS
        }
        self.machines = ContainedMachines(self.containers)
        _cabled(self.containers)
        for name, container in self.containers.items():
            for artifact in etcd.step(self.spec, name).artifacts:
                container.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
        self.bring()

    def bring(self) -> None:
        """The steps of all members at once, since no single one becomes healthy."""

        def brought(name: str) -> None:
            pairs = self.keys.of(name)

            def content(source: Source) -> str:
                return self.keys.content(source, pairs)

            for step in (identity.step(self.spec, name), etcd.step(self.spec, name)):
                done = self.containers[name].run(render.text(step, content))
                assert (done.returncode, done.stderr) == (0, ""), done.stdout

        with ThreadPoolExecutor() as pool:
            list(pool.map(brought, MEMBERS))

    def ctl(self, node: str, *arguments: str) -> str:
        trust = zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
        flags = [f"--{name}={path}" for name, path in trust]
        url = "--endpoints=https://127.0.0.1:2379"
        return self.containers[node].call("etcdctl", url, *flags, *arguments)

    def value(self, node: str, key: str) -> str:
        return self.ctl(node, "get", "--print-value-only", key).strip()

    def healthy(self) -> bool:
        try:
            return all("is healthy" in self.ctl(name, "endpoint", "health") for name in MEMBERS)
        except RuntimeError:
            return False

    def identities(self) -> set[tuple[int, int]]:
        """Cluster ID, and the hash of all data, as each member has it."""
        rows = [json.loads(self.ctl(name, "endpoint", "hashkv", "-w=json"))[0] for name in MEMBERS]
        return {(row["HashKV"]["header"]["cluster_id"], row["HashKV"]["hash"]) for row in rows}

    def revision(self) -> int:
        (status,) = json.loads(self.ctl("e1", "endpoint", "status", "-w=json"))
        return int(status["Status"]["header"]["revision"])

    def saved(self, path: Path) -> Path:
        self.ctl("e1", "snapshot", "save", "/root/snapshot.db")
        path.write_bytes(self.containers["e1"].path("/root/snapshot.db").read_bytes())
        return path

    def restored(self, path: Path) -> None:
        """What the command does to the members."""
        reached: Any = SimpleNamespace(spec=self.spec)
        held = snapshot.read(path, encryption_configuration({"key1": KEY}))
        doing = Doing(cast(Any, self.machines), "")
        keys = self.keys.authorities
        asyncio.run(Restoration(reached, path, held, keys).members(doing))

    def brought_back(self, path: Path, key: str) -> set[str]:
        """Restore a snapshot to the end; the values that the members then have of a key."""
        self.restored(path)
        eventually("all are well", self.healthy)
        values = {self.value(name, key) for name in MEMBERS}
        self.finished()
        return values

    def finished(self) -> None:
        doing = Doing(cast(Any, self.machines), "")
        done = doing.everywhere(MEMBERS, lambda node: doing.act(node, "finished", layout.ETCD_DATA))
        asyncio.run(done)

    def aside(self, node: str) -> list[str]:
        folder = self.containers[node].path(f"{layout.ETCD_DATA}/restore")
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER_KEY = "YTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def _cabled(containers: Mapping[str, Container]) -> None:
    """A cable from each container to each other one."""
    names = list(containers)
    for first in names:
        for second in names[names.index(first) + 1 :]:
            ends = [(first, f"to-{second}", second), (second, f"to-{first}", first)]
            pids = {name: str(containers[name].leader) for name in (first, second)}
            subprocess.run(
                ["ip", "link", "add", f"to-{second}", "netns", pids[first], "type", "veth"]
                + ["peer", "name", f"to-{first}", "netns", pids[second]],
                check=True,
            )
            for own, device, peer in ends:
                addresses = [str(SPEC.machines[name].address) for name in (own, peer)]
                containers[own].call(
                    "bash",
                    "-euc",
                    f"ip address add {addresses[0]} peer {addresses[1]} dev {device}; "
                    f"ip link set {device} up",
                )


@pytest.fixture(scope="module")
def members(memory: Memory) -> Iterator[RestoredMembers]:
    with ExitStack() as stack:
        yield RestoredMembers(memory, stack)


def test_a_restored_cluster_is_as_it_was_with_revisions_that_go_on(
    members: RestoredMembers, tmp_path: Path
) -> None:
    members.ctl("e1", "put", "object", "before")
    path = members.saved(tmp_path / "snapshot.db")
    (before,) = members.identities()
    members.ctl("e1", "put", "object", "after")
    members.ctl("e1", "put", "another", "one")
    revision = members.revision()
    members.restored(path)
    eventually("all are well", members.healthy)
    for name in MEMBERS:
        assert members.value(name, "object") == "before"
        assert members.value(name, "another") == ""
        assert len(members.aside(name)) == 1
    (now,) = members.identities()
    assert now[0] != before[0], "members from before it are not let in"
    assert members.revision() > revision + BUMP // 2
    # Who watched from before is told, and does not wait for ever.
    watch = members.containers["e1"].run(
        "timeout 20 etcdctl --endpoints=https://127.0.0.1:2379 "
        + " ".join(
            f"--{word}={file}"
            for word, file in zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
        )
        + f" watch object --rev={revision} 2>&1 || true"
    )
    assert "required revision has been compacted" in watch.stdout
    members.bring()
    members.finished()
    assert [members.aside(name) for name in MEMBERS] == [[], [], []]


@pytest.mark.parametrize(
    ("node", "action"),
    [("e2", "receive"), ("e3", "prepare"), ("e1", "stop"), ("e2", "swap"), ("e3", "start")],
)
def test_cut_off_anywhere_it_is_run_again(
    members: RestoredMembers, tmp_path: Path, node: str, action: str
) -> None:
    members.ctl("e1", "put", "cut", action)
    path = members.saved(tmp_path / "snapshot.db")
    members.ctl("e1", "put", "cut", "after")
    members.machines.cut_at = (node, action)
    with pytest.raises(Problem, match="broke off"):
        members.restored(path)
    members.machines.cut_at = None
    members.restored(path)
    eventually("all are well", members.healthy)
    assert {members.value(name, "cut") for name in MEMBERS} == {action}
    assert len(members.identities()) == 1
    members.finished()


def test_members_whose_data_is_gone_get_it_back(members: RestoredMembers, tmp_path: Path) -> None:
    members.ctl("e1", "put", "all", "kept")
    path = members.saved(tmp_path / "snapshot.db")
    for container in members.containers.values():
        container.run(f"systemctl stop etcd; rm -rf {layout.ETCD_DATA}")
    assert members.brought_back(path, "all") == {"kept"}
    members.bring()


def test_the_member_that_is_left_gives_its_data_to_all(
    members: RestoredMembers, tmp_path: Path
) -> None:
    members.ctl("e1", "put", "left", "kept")
    for name in ("e2", "e3"):
        members.containers[name].run(f"systemctl stop etcd; rm -rf {layout.ETCD_DATA}/member")
    path = tmp_path / "left.db"
    script = restore.SCRIPT.read_text()
    arguments = ("bash", "-euc", script, "probe", "left", layout.ETCD_DATA)
    child = cast(Any, members.containers["e1"].start(*arguments))
    child.stdin.close()
    path.write_bytes(child.stdout.buffer.read())
    assert child.wait() == 0
    assert members.brought_back(path, "left") == {"kept"}


def test_members_without_a_service_get_it_with_their_data(
    members: RestoredMembers, tmp_path: Path
) -> None:
    """As on machines made anew without a quorum, whose steps have refused to bring a service."""
    members.ctl("e1", "put", "anew", "kept")
    path = members.saved(tmp_path / "snapshot.db")
    commands = " ".join(link.path for link in etcd.step(members.spec, "e2").links)
    for name in ("e2", "e3"):
        done = members.containers[name].run(
            f"systemctl stop etcd; rm -rf {layout.ETCD_DATA} {commands} "
            f"/etc/systemd/system/{etcd.UNIT}; systemctl daemon-reload"
        )
        assert done.returncode == 0, done.stderr
        assert members.containers[name].path(layout.ETCD_ANSWERED).exists()
    assert members.brought_back(path, "anew") == {"kept"}
    members.bring()


def test_data_of_a_restore_that_was_cut_off_count_as_room(
    members: RestoredMembers, tmp_path: Path
) -> None:
    path = members.saved(tmp_path / "snapshot.db")
    size, machine = path.stat().st_size, members.containers["e1"]
    machine.run(
        f"mkdir -p {SMALL}; mount -t tmpfs -o size={2 * size + 104857600 + 65536} no {SMALL}"
    )
    receive = (restore.SCRIPT.read_text(), "probe", "receive", SMALL, str(size))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for _ in range(2):
        child = machine.start("bash", "-euc", *receive, digest)
        cast(Any, child.stdin).buffer.write(path.read_bytes())
        _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
    machine.run(f"umount {SMALL}")


SMALL = "/srv/small"
"""A file system with just the room that a restore needs."""


# -- what a snapshot says --------------------------------------------------------------------------


def encrypted(name: str, key: bytes) -> bytes:
    """A value as an API server stores it (its secretbox transformer)."""
    nonce = random_bytes(SecretBox.NONCE_SIZE)
    box = bytes(SecretBox(key).encrypt(b"k8s\0value", nonce))
    return f"k8s:enc:secretbox:v1:{name}:".encode() + box


def put(members: RestoredMembers, key: str, value: bytes) -> None:
    members.containers["e1"].write("/root/value", value)
    trust = zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
    flags = " ".join(f"--{name}={path}" for name, path in trust)
    url = "https://127.0.0.1:2379"
    done = members.containers["e1"].run(
        f"etcdctl --endpoints={url} {flags} put {shlex.quote(key)} </root/value"
    )
    assert done.returncode == 0, done.stderr


def test_a_snapshot_says_what_it_holds_and_which_keys_it_needs(
    members: RestoredMembers, tmp_path: Path
) -> None:
    key, peer = (b64decode(text) for text in (KEY, OTHER_KEY))
    secret = "/registry/secrets/default/"
    put(members, f"{secret}one", encrypted("key1", key))
    put(members, f"{secret}two", encrypted("key1", key))
    put(members, f"{secret}plain", b"k8s\0in plain text")
    put(members, "/registry/minions/n1", b"k8s\0node")
    put(members, "/registry/minions/n2", b"k8s\0node")
    # More than a page, and more than a leaf of the tree.
    put(members, "/registry/large", b"x" * 100_000)
    for number in range(40):
        members.ctl("e1", "put", f"/registry/many/{number}", "y" * 2000)
    members.ctl("e1", "del", "/registry/minions/n2")
    # What a turn has left ends by itself.
    eventually("no lease is left", lambda: members.ctl("e1", "lease", "list").startswith(NO_LEASE))
    path = members.saved(tmp_path / "snapshot.db")
    held = snapshot.read(path, encryption_configuration({"key1": KEY}))
    assert held.revision == members.revision()
    counted = members.ctl("e1", "get", "", "--prefix", "--keys-only", "-w=fields")
    assert f'"Count" : {held.keys}\n' in counted
    assert held.nodes == {"n1"}
    assert held.encrypted == {"secretbox key1": 2}
    assert held.unreadable == {}
    assert held.has_digest
    version = members.spec.versions.etcd
    assert held.version == f"{version.rpartition('.')[0]}.0"
    ours = EncryptionKeys(keys={"key1": KEY}, current="key1")
    assert checked(path, "a backup", ours, version) == held
    with pytest.raises(Problem) as refused:
        checked(path, "a backup", ours, "3.6.14")
    assert str(refused.value).startswith(
        f"the snapshot has the format of etcd {held.version}, which the cluster's etcd 3.6.14 "
        "cannot read"
    )

    restored = tmp_path / "restored"
    etcdutl = stored_program("etcdutl", members.spec.versions)
    bumped = ("--bump-revision=1000", "--mark-compacted", f"--data-dir={restored}")
    subprocess.run([etcdutl, "snapshot", "restore", path, *bumped], check=True, capture_output=True)
    again = snapshot.read(restored / "member/snap/db", encryption_configuration({"key1": KEY}))
    assert (again.keys, again.revision) == (held.keys, held.revision + 1000)

    # Another key under the same name, and one that was renamed.
    wrong = snapshot.read(path, encryption_configuration({"key1": OTHER_KEY}))
    assert wrong.unreadable == {"secretbox key1": 2}
    put(members, f"{secret}two", encrypted("key2", peer))
    put(members, f"{secret}gone", encrypted("key3", peer))
    members.ctl("e1", "del", f"{secret}gone")
    path = members.saved(tmp_path / "snapshot.db")
    held = snapshot.read(path, encryption_configuration({"key1": KEY}))
    assert held.unreadable == {"secretbox key2": 1}


def test_what_is_no_whole_snapshot_is_refused(members: RestoredMembers, tmp_path: Path) -> None:
    put(members, "/registry/large", b"x" * 150_000)
    path = members.saved(tmp_path / "snapshot.db")
    whole = path.read_bytes()
    database = whole[:-32]
    half = len(whole) // 2
    for content, sentence in (
        (whole[:-1], "not whole"),
        (whole[: half // 512 * 512 + 32], "not whole"),
        (whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :], "damaged"),
        (b"hello\n" * 10_000, "not whole|no snapshot"),
        (bytes(65536), "no snapshot"),
        (b"", "too short"),
        # As a copy that broke off, of a member's own file, behind which no digest stands.
        *((database[: len(database) - size], "damaged") for size in range(4096, 200_000, 4096)),
    ):
        path.write_bytes(content)
        with pytest.raises(BadSnapshot, match=sentence):
            snapshot.read(path, encryption_configuration({"key1": KEY}))
    path.write_bytes(database)
    assert not snapshot.read(path, encryption_configuration({"key1": KEY})).has_digest
