"""A member of etcd that has lost its data, among real ones: it is refused, or made anew."""

import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from plan import etcd, layout
from plan.model import Unit
from tests.certs.clusters import APART, SINGLE
from tests.certs.clusters import cluster as machines
from tests.engine.stack import eventually
from tests.plan.running import FIRST_START, REMOVED, LocalCluster, LocalMachine, programs, run

MEMBERS = ("e1", "e2", "e3")


class MemberMachine:
    """A member's machine: its program runs as systemd would run it, and its step is run."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.machine = LocalMachine(cluster, name)
        self.name, self.spec = name, cluster.spec
        self.step = etcd.step(self.spec, name)
        self.machine.furnish(self.step)
        self.path = programs(cluster.folder / "bin" / name, self.spec, ("etcdctl",))
        # Stops the program, as the one of a machine would.
        pid = self.machine.root / "pid"
        systemctl = self.path / "systemctl"
        systemctl.write_text(f"#!/bin/sh\nkill $(cat {pid}) 2>/dev/null || true\n")
        systemctl.chmod(0o755)
        self.pid = pid
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def unit(self) -> Unit:
        unit = etcd.unit(self.spec, self.name)
        quick = {"heartbeat-interval": "50", "election-timeout": "500"}
        return replace(unit, flags={**unit.flags, **quick})

    @property
    def data(self) -> Path:
        return self.machine.root / layout.ETCD_DATA[1:]

    @property
    def marker(self) -> Path:
        return self.machine.root / layout.ETCD_ANSWERED[1:]

    @property
    def first_start(self) -> Path:
        return Path(self.machine.here(FIRST_START))

    def start(self) -> None:
        with self.machine.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.machine.command_line(self.unit), stdout=log, stderr=log, cwd=self.machine.root
            )
        self.pid.write_text(str(self.process.pid))

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def lose_data(self) -> None:
        self.stop()
        shutil.rmtree(self.data / "member")

    def run(self, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run(self.machine.script(self.step, path or self.path))

    def url(self, port: int) -> str:
        return f"https://127.0.0.1:{self.machine.cluster.ports[self.name, port]}"

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """etcdctl at this member alone."""
        cert, key = self.machine.certificate("etcd-healthcheck-client")
        trust = [f"--cacert={self.machine.root}{layout.MEMBER_AUTHORITY}", f"--cert={cert}"]
        command = [str(self.path / "etcdctl"), f"--endpoints={self.url(2379)}", *trust]
        return subprocess.run(
            [*command, f"--key={key}", *arguments], capture_output=True, text=True, timeout=600
        )

    def well(self) -> bool:
        return self.ctl("endpoint", "health", "--command-timeout=2s").returncode == 0


@pytest.fixture
def members(tmp_path: Path) -> Iterator[dict[str, MemberMachine]]:
    """Three that have answered, and the steps of the first and the last were done."""
    cluster = LocalCluster(APART, tmp_path)
    made = {name: MemberMachine(cluster, name) for name in MEMBERS}
    with ExitStack() as stack:
        for member in made.values():
            stack.callback(member.stop)
            member.start()
        for name in ("e1", "e3"):
            done = made[name].run()
            assert (done.returncode, done.stderr) == (0, "")
        assert made["e1"].ctl("put", "kept", "data").returncode == 0
        yield made


def refused(member: MemberMachine) -> str:
    """What the step says, which leaves the member without data and starts nothing."""
    done = member.run()
    assert done.returncode == 1, done.stdout + done.stderr
    assert not list(member.data.iterdir())
    assert not member.first_start.exists()
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"failed: etcd's data is gone from {member.name} (")
    return done.stderr


def test_a_member_without_its_data_is_refused_while_another_is_ill(
    members: dict[str, MemberMachine],
) -> None:
    lost = members["e3"]
    lost.lose_data()
    members["e2"].stop()
    sentence = refused(lost)
    assert "removes no member while another one is ill" in sentence
    assert f"e2 at {members['e2'].url(2380)} does not answer" in sentence
    # Nor on a new disk, where nothing says that it has ever answered.
    lost.marker.unlink()
    assert refused(lost) == sentence
    assert lost.marker.exists(), "systemd must not start it either"


def test_a_member_without_its_data_is_refused_while_no_other_answers(
    members: dict[str, MemberMachine],
) -> None:
    for member in members.values():
        member.stop()
    members["e3"].lose_data()
    assert "when the other members answer" in refused(members["e3"])


def test_a_lone_member_without_its_data_says_how_to_go_on(tmp_path: Path) -> None:
    alone = MemberMachine(LocalCluster(SINGLE, tmp_path), "master")
    try:
        alone.start()
        assert alone.run().returncode == 0
        alone.lose_data()
        sentence = refused(alone)
        assert "./hardway restore" in sentence
        assert f"remove {alone.marker}" in sentence
        alone.marker.unlink()
        alone.start()
        assert alone.run().returncode == 0
    finally:
        alone.stop()


def test_a_member_with_its_data_is_marked_by_the_first_step_that_looks(
    members: dict[str, MemberMachine],
) -> None:
    """As those of a cluster that was made before there were marks."""
    members["e2"].start()
    assert not members["e2"].marker.exists()
    for _ in range(2):
        done = members["e2"].run()
        assert (done.returncode, done.stderr) == (0, "")
        assert members["e2"].marker.exists()


class Systemd(threading.Thread):
    """Starts a member's program once its step allows it."""

    def __init__(self, member: MemberMachine) -> None:
        super().__init__(daemon=True)
        self.member, self.ended = member, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            if self.member.process is None and self.member.first_start.exists():
                self.member.start()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def cutting(member: MemberMachine, call: int) -> Path:
    """An etcdctl that ends the whole script at a call, after it did its work."""
    folder = member.path.parent / f"{member.name}-{call}"
    folder.mkdir()
    (folder / "systemctl").symlink_to(member.path / "systemctl")
    program = folder / "etcdctl"
    program.write_text(
        f'#!/bin/sh\necho >>{folder}/calls\n[ "$(wc -l <{folder}/calls)" -lt {call} ] && '
        f'exec {member.path}/etcdctl "$@"\n{member.path}/etcdctl "$@" >/dev/null 2>&1\nkill -9 0\n'
    )
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("by_hand", [False, True], ids=["by-its-step", "by-hand"])
@pytest.mark.parametrize("cuts", [(), (1, 2, 3, 4, 5)], ids=["whole", "cut-off"])
def test_a_member_whose_data_are_lost_is_made_anew_from_the_others(
    members: dict[str, MemberMachine], cuts: tuple[int, ...], *, by_hand: bool
) -> None:
    lost, first = members["e3"], members["e1"]
    was = id_of(lost, first)
    lost.lose_data()
    (lost.data / "member/snap").mkdir(parents=True)
    (lost.data / "member/snap/db").write_text("what is left of it")
    if by_hand:
        remove(lost, first)
    with Systemd(lost):
        for call in cuts:
            cut = lost.run(cutting(lost, call))
            assert cut.returncode == -signal.SIGKILL, (call, cut.stderr)
        done = lost.run()
    assert (done.returncode, done.stderr) == (0, "")
    if not cuts:
        removed = f"have removed the member {was} that it was" in done.stdout
        assert removed is not by_hand
    assert id_of(lost, first) != was
    assert not lost.first_start.exists()
    assert lost.marker.exists()
    rows = [row.split(", ") for row in first.ctl("member", "list").stdout.splitlines()]
    assert sorted((row[2], row[1], row[5]) for row in rows) == [
        (name, "started", "false") for name in MEMBERS
    ]
    value = lost.ctl("get", "--consistency=s", "--print-value-only", "kept")
    assert value.stdout == "data\n"
    # It goes on by its unit, which knows nothing of how it joined.
    lost.stop()
    lost.start()
    assert lost.process is not None
    assert not any("existing" in word for word in lost.machine.command_line(lost.unit))
    eventually("the member is well", lost.well)


def test_whoever_has_never_answered_waits_for_nobody(tmp_path: Path) -> None:
    """All first members start at once, and the last one finds others that list it already."""
    cluster = LocalCluster(APART, tmp_path)
    first = [MemberMachine(cluster, name) for name in ("e1", "e2")]
    last = MemberMachine(cluster, "e3")
    with ExitStack() as stack:
        for member in first:
            stack.callback(member.stop)
            member.start()
        eventually("two of three are a quorum", first[0].well)
        may_start = last.machine.script(last.step, last.path).partition("\nunlocked\n")[0]
        done = run(may_start)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        peers = last.machine.here(etcd.initial_cluster(cluster.spec)).split(",")
        flag = last.first_start.read_text().strip().removeprefix('ONCE="--initial-cluster=')
        assert sorted(flag.removesuffix('"').split(",")) == sorted(peers)
        stack.callback(last.stop)
        last.start()
        done = last.run()
        assert (done.returncode, done.stderr) == (0, "")


def test_a_first_member_starts_late_in_the_cluster_that_the_others_began(tmp_path: Path) -> None:
    """It is no founder any more, as where the state was lost before it ever started."""
    cluster = LocalCluster(APART, tmp_path)
    first = [MemberMachine(cluster, name) for name in ("e1", "e2")]
    last = MemberMachine(cluster, "e3")
    last.step = etcd.founded(last.step, ("e1", "e2"))
    with ExitStack() as stack:
        for member in first:
            stack.callback(member.stop)
            member.start()
        eventually("two of three are a quorum", first[0].well)
        assert first[0].ctl("put", "kept", "data").returncode == 0
        stack.callback(last.stop)
        with Systemd(last):
            done = last.run()
        assert (done.returncode, done.stderr) == (0, "")
        value = last.ctl("get", "--consistency=s", "--print-value-only", "kept")
        assert value.stdout == "data\n"


# -- removed, with its data ------------------------------------------------------------------------


def begun(member: MemberMachine) -> subprocess.CompletedProcess[str]:
    """The step up to where it waits for etcd: what it does with the data is done before."""
    return run(member.machine.script(member.step, member.path).partition("\nunlocked\n")[0])


def wal(member: MemberMachine) -> dict[str, bytes]:
    """Name to content of the files of its log."""
    return {path.name: path.read_bytes() for path in (member.data / "member/wal").glob("*.wal")}


def left_alone(member: MemberMachine) -> None:
    """Its step begins, says nothing, and deletes nothing of the data of the stopped member."""
    had = wal(member)
    assert had
    done = begun(member)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert wal(member) == had
    assert not member.first_start.exists()


def doubted(member: MemberMachine) -> str:
    """What its step says, which deletes nothing of the data of the stopped member."""
    had = wal(member)
    assert had
    done = begun(member)
    assert (done.returncode, done.stdout) == (1, "")
    assert wal(member) == had
    assert not member.first_start.exists()
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def id_of(member: MemberMachine, another: MemberMachine) -> str:
    rows = another.ctl("member", "list").stdout.splitlines()
    return next(row.split(",")[0] for row in rows if f"{member.url(2380)}," in row)


def remove(member: MemberMachine, another: MemberMachine) -> str:
    """Take a member out of the cluster at another one; its ID."""
    identifier = id_of(member, another)
    eventually(
        # For a moment after a member was lost the others call the cluster unhealthy.
        "the member is removed",
        lambda: another.ctl("member", "remove", identifier).returncode == 0,
    )
    return identifier


def names(another: MemberMachine) -> list[tuple[str, str, str]]:
    """Name, state and whether it learns, of all members."""
    rows = [row.split(", ") for row in another.ctl("member", "list").stdout.splitlines()]
    return sorted((row[2], row[1], row[5]) for row in rows)


@pytest.mark.parametrize("cuts", [(), (2, 3, 4, 5)], ids=["whole", "cut-off"])
def test_a_member_that_was_removed_and_has_its_data_joins_anew(
    members: dict[str, MemberMachine], cuts: tuple[int, ...]
) -> None:
    gone, first = members["e3"], members["e1"]
    was = remove(gone, first)
    assert gone.process is not None
    gone.process.wait(60)  # etcd ends by itself
    gone.process = None
    with Systemd(gone):
        for call in cuts:
            cut = gone.run(cutting(gone, call))
            assert cut.returncode == -signal.SIGKILL, (call, cut.stderr)
        done = gone.run()
    assert (done.returncode, done.stderr) == (0, "")
    if not cuts:
        assert f"have removed e3 (its data is of the member {was}, " in done.stdout
    assert names(first) == [(name, "started", "false") for name in MEMBERS]
    assert id_of(gone, first) != was
    assert not gone.first_start.exists()
    value = gone.ctl("get", "--consistency=s", "--print-value-only", "kept")
    assert value.stdout == "data\n"
    # From now on it is a member as any other.
    gone.stop()
    left_alone(gone)


def test_a_member_that_is_cut_off_keeps_its_data(members: dict[str, MemberMachine]) -> None:
    cut_off, *others = (members[name] for name in ("e3", "e1", "e2"))
    cut_off.stop()
    left_alone(cut_off)  # the others are a quorum, and list it
    for another in others:
        another.stop()
        left_alone(cut_off)  # one is left, without a quorum, and then none


def test_a_member_keeps_its_data_where_others_without_a_quorum_do_not_list_it(
    members: dict[str, MemberMachine],
) -> None:
    """As a member does that was cut off before this one came, and has heard of nothing since."""
    gone, first = members["e3"], members["e1"]
    remove(gone, first)
    gone.stop()
    members["e2"].stop()
    eventually(
        "what is left knows that it has no quorum",
        lambda: first.ctl("get", "kept", "--command-timeout=2s").returncode != 0,
    )
    listed = first.ctl("member", "list", "--consistency=s").stdout
    assert listed
    assert gone.url(2380) not in listed
    left_alone(gone)
    # Where etcd itself has said it, there is nothing to wait for, and still nothing to be sure of.
    removed = Path(gone.machine.here(REMOVED))
    removed.touch()
    assert "no other member answers with a quorum behind it" in doubted(gone)
    members["e2"].start()
    eventually("there is a quorum again", first.well)
    assert begun(gone).returncode == 0
    assert not removed.exists()
    assert gone.first_start.exists()


def test_whoever_one_of_the_others_lists_is_a_member(tmp_path: Path) -> None:
    """After ``--force-new-cluster`` a member that was cut off is a quorum by itself."""
    five = {f"e{number}": (f"192.168.1.2{number}", "e") for number in range(1, 6)}
    cluster = LocalCluster(machines(five | {"c1": ("192.168.1.31", "ai")}), tmp_path)
    made = {name: MemberMachine(cluster, name) for name in five}
    cut_off, last = made["e1"], made["e5"]
    with ExitStack() as stack:
        for member in made.values():
            stack.callback(member.stop)
            member.start()
        eventually("all agree", last.well)
        cut_off.stop()
        # None of the others can reach it: else it would end them.
        elsewhere = f"--listen-peer-urls=https://127.0.0.1:{cluster.ports['c1', 2380]}"
        with cut_off.machine.log.open("ab") as log:
            arguments = [
                *cut_off.machine.command_line(cut_off.unit),
                "--force-new-cluster",
                elsewhere,
            ]
            cut_off.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        eventually("it is a cluster of its own", cut_off.well)
        assert last.url(2380) not in cut_off.ctl("member", "list").stdout
        last.stop()
        eventually("the others are one as well", made["e2"].well)
        left_alone(last)


def test_a_member_that_was_added_again_by_hand_is_not_guessed_at(
    members: dict[str, MemberMachine],
) -> None:
    gone, first = members["e3"], members["e1"]
    was = remove(gone, first)
    gone.stop()
    added = ("member", "add", "e3", "--learner", f"--peer-urls={gone.url(2380)}")
    eventually("it is added", lambda: first.ctl(*added).returncode == 0)
    sentence = doubted(gone)
    assert f"under another ID than the data of e3 has ({was})" in sentence
    # What the sentence says helps.
    remove(gone, first)
    done = begun(gone)
    assert (done.returncode, done.stderr) == (0, "")
    assert gone.first_start.exists()


def test_data_whose_member_cannot_be_told_are_left(members: dict[str, MemberMachine]) -> None:
    kept, first = members["e3"], members["e1"]
    kept.stop()
    for log in (kept.data / "member/wal").glob("*.wal"):
        content = log.read_bytes()
        log.write_bytes(content[:8] + bytes(len(content) - 8))
    left_alone(kept)  # it is listed: etcd itself says what is wrong with its log
    remove(kept, first)
    assert "does not say of which member it is" in doubted(kept)


def test_data_of_another_cluster_are_left(tmp_path: Path) -> None:
    """A restore gives the cluster and its members other IDs."""
    cluster = LocalCluster(APART, tmp_path)
    made = {name: MemberMachine(cluster, name) for name in MEMBERS}
    with ExitStack() as stack:
        for member in made.values():
            stack.callback(member.stop)
        for token in ("before", "after"):
            for member in made.values():
                with member.machine.log.open("ab") as log:
                    arguments = [
                        *member.machine.command_line(member.unit),
                        f"--initial-cluster-token={token}",
                    ]
                    member.process = subprocess.Popen(arguments, stdout=log, stderr=log)
            eventually("they agree", made["e3"].well)
            made["e3"].stop()
            if token == "before":
                shutil.move(made["e3"].data / "member", tmp_path / "before")
                for name in ("e1", "e2"):
                    made[name].lose_data()
        shutil.rmtree(made["e3"].data / "member")
        shutil.move(tmp_path / "before", made["e3"].data / "member")
        assert "etcd's data on e3 is of another cluster" in doubted(made["e3"])
