"""etcd at its quota: what the condition and the step say, and how room is made: real members."""

import asyncio
import io
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.problem import Problem
from ops import etcd_space
from plan import etcd
from plan.condition import Space
from plan.conditions import FULL
from plan.model import Unit
from probe.access import Access
from probe.failure import Unmet
from probe.space import Member, leader_last
from tests.engine.stack import eventually
from tests.plan.running import run
from tests.plan.stored import as_root
from tests.probe.asking import asked_once
from tests.probe.test_members import NAMES, MembersWorld
from tests.probe.test_members import asked as members_asked

pytestmark = [pytest.mark.engine, as_root]

QUOTA = 8 * 1024**2
PART = 1024**2


class Small(MembersWorld):
    """Members with room for little."""

    def unit(self, name: str, **more: str) -> Unit:
        return super().unit(name, **{"quota-backend-bytes": str(QUOTA), **more})

    @property
    def access(self) -> Access:
        """The first machine is up, and asked."""
        up = super().access
        return Access(machines={"e1": up.machines["e2"]}, ssh_key=up.ssh_key)

    def put(self, size: int) -> subprocess.CompletedProcess[str]:
        cert, key = self.machines["e1"].certificate("etcd-healthcheck-client")
        trust = [f"--cacert={self.machines['e1'].root}/etc/etcd/pki/ca.crt", f"--cert={cert}"]
        command = [str(self.path / "etcdctl"), f"--endpoints={self.url('e1', 2379)}", *trust]
        return subprocess.run(
            [*command, f"--key={key}", "put", "one"],
            capture_output=True,
            text=True,
            input="x" * size,
        )

    def space(self) -> Unmet | None:
        urls = {name: self.url(name, 2379) for name in NAMES}
        return asked_once(Space(members=urls, percent=FULL), self.access)

    def sentence(self) -> str:
        return str(self.space() or "")

    def fill_up(self) -> None:
        """The same key again and again, until etcd takes no more."""
        eventually("the quota is reached", lambda: self.put(PART).returncode != 0)


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[Small]:
    with ExitStack() as stack:
        made = Small(tmp_path_factory.mktemp("space"), stack)
        done = run(made.machines["e1"].script(etcd.step(made.cluster.spec, "e1"), made.path))
        assert done.returncode == 0, done.stderr
        yield made


def test_who_has_room_has_nothing_to_say(small: Small) -> None:
    assert small.space() is None


def test_a_database_that_is_nearly_full_is_named_with_its_sizes(small: Small) -> None:
    while not (sentence := small.sentence()):
        assert small.put(PART).returncode == 0
    assert f"has used more than {FULL} % of its quota (" in sentence
    assert f" MiB of {QUOTA / PART:.1f}, " in sentence
    assert "./hardway etcd-space" in sentence
    unmet = small.space()
    assert unmet is not None
    assert not unmet.wholly


def test_an_alarm_is_told_by_the_condition_and_by_the_step_at_once(small: Small) -> None:
    small.fill_up()
    eventually("the alarm is told", lambda: "has the alarm NOSPACE" in small.sentence())
    unmet = small.space()
    assert unmet is not None
    assert unmet.wholly
    # The members themselves are well: another condition must not say otherwise.
    assert members_asked(small) is None
    done = run(small.machines["e1"].script(etcd.step(small.cluster.spec, "e1"), small.path))
    assert done.returncode == 1
    assert "etcd has the alarm NOSPACE" in done.stderr
    assert "it compacts, defragments and then disarms" in done.stderr


def test_room_is_made_once_somebody_says_yes(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fill_up()
    urls = {name: small.url(name, 2379) for name in NAMES}
    leader = next(
        member.name
        for member in asyncio.run(etcd_space.measured(urls, small.access))
        if member.leads
    )
    messages: list[str] = []
    after = asyncio.run(etcd_space.freed(urls, small.access, messages.append))
    assert messages[0].startswith("compacting to revision ")
    order = [line.split()[1].rstrip(",") for line in messages if line.startswith("defragmenting ")]
    assert sorted(order) == sorted(NAMES)
    assert order[-1] == leader
    assert messages[-1] == "disarming NOSPACE"
    assert all(not member.alarms and member.used < 0.5 for member in after)
    assert small.put(PART).returncode == 0
    assert small.space() is None
    # Cut off and said again: what was compacted is no failure.
    messages.clear()
    asyncio.run(etcd_space.freed(urls, small.access, messages.append))
    assert not any(line.startswith("disarming") for line in messages)


def test_nothing_is_defragmented_while_a_member_is_not_well(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_space, "PATIENCE", 1)
    urls = {name: small.url(name, 2379) for name in NAMES}
    small.third.close()
    messages: list[str] = []
    with pytest.raises(Unmet, match="e3"):
        asyncio.run(etcd_space.freed(urls, small.access, messages.append))
    assert messages == []
    small.start_third()
    eventually("all are well", lambda: members_asked(small) is None)


# -- the verb --------------------------------------------------------------------------------------


def member(name: str, **more: object) -> Member:
    values = {"leads": False, "size": 9, "in_use": 1, "quota": 10, "revision": 1, "alarms": ()}
    return Member(name=name, url=f"https://{name}", **{**values, **more})  # type: ignore[arg-type]


def test_the_leader_is_last() -> None:
    ordered = leader_last([member("a"), member("b", leads=True), member("c")])
    assert [entry.name for entry in ordered] == ["a", "c", "b"]


def test_where_nobody_can_be_asked_the_answer_is_a_word_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert not etcd_space.wanted(" --stack lab2")
    assert "--yes --stack lab2" in capsys.readouterr().out


class AttendedTerminal(io.StringIO):
    """Somebody is there."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False)])
def test_a_person_is_asked_once(
    answer: str,
    goes_on: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", AttendedTerminal(answer))
    assert etcd_space.wanted("") is goes_on
    assert capsys.readouterr().out.count("?") == 1


def test_data_that_differs_is_not_disarmed() -> None:
    with pytest.raises(Problem, match="member b differs"):
        etcd_space.demand_no_difference([member("a"), member("b", alarms=("CORRUPT",))])
    etcd_space.demand_no_difference([member("a", alarms=("CORRUPT of a removed member",))])


def test_members_that_stay_full_keep_their_alarm() -> None:
    etcd_space.demand_room([member("a")])
    with pytest.raises(Unmet, match="a is still at its quota"):
        etcd_space.demand_room([member("a", size=10)])
