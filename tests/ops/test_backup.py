"""``backup key`` and ``fetch``: what they print and choose, a file that is whole or not there."""

import asyncio
import json
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certs.backup import new_backup_keys
from lab.problem import Problem
from ops import backup
from ops.backup import appearing, chosen
from probe.backups import FAILED, NOT_COPIED, NOT_UPLOADED, Stock, fault, read, shown
from probe.machines import Done
from spec.backup import Backup, BackupBucket
from tests.certs.clusters import SINGLE

BUCKET = BackupBucket(kind="s3", endpoint="https://s3.example.org", bucket="backups")
LAST = datetime.fromtimestamp(1795990000, UTC)
ANSWER = """\
now\t1796000000
stage\tencrypting the snapshot
last\t1795990000\tmade\tdev-2-r9.db.age
backup\tdev-2-r9.db.age\ttime=1795990000\trevision=9\tkeys=3\tetcd=3.7.1\tsha256=ab\tsize=7\tsnapshot=20
backup\tdev-1-r5.db.age\ttime=1795900000\trevision=5\tkeys=2\tetcd=3.7.1\tsha256=cd\tsize=6\tsnapshot=20\tcopied=yes
these were all
"""


def test_what_a_machine_says_is_read_with_the_newest_last() -> None:
    stock = read(ANSWER)
    assert stock.now == datetime.fromtimestamp(1796000000, UTC)
    assert stock.stage == "encrypting the snapshot"
    assert [stored.revision for stored in stock.backups] == [5, 9]
    assert [stored.copied for stored in stock.backups] == [True, False]
    assert fault(stock, 10_000) is None
    assert "which is too old" in str(fault(stock, 9_999))


def test_a_backup_of_a_time_that_is_still_to_come_is_no_new_one() -> None:
    ahead = read(ANSWER.replace("time=1795990000", "time=1799990000"))
    assert ahead.newest is not None
    assert ahead.newest.revision == 5
    assert "which is too old" in str(fault(ahead, 9_999))
    alone = read(ANSWER.replace("time=1795", "time=1799"))
    assert alone.newest is None
    assert "the machine's clock was ahead" in str(fault(alone, 10_000))


class BackingUpAlready:
    """A machine whose first run had begun before anybody asked for a backup."""

    def __init__(self, *answers: str) -> None:
        self._answers = iter(answers)
        self.starts = 0

    async def __aenter__(self) -> "BackingUpAlready":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, _: str, script: str, *__: str, **___: float) -> Done:
        if script == backup.START:
            self.starts += 1
            return Done(status=0, stdout="", stderr="")
        return Done(status=0, stdout=next(self._answers), stderr="")


def test_a_backup_that_had_begun_before_is_not_the_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle = ANSWER.replace("stage\tencrypting the snapshot\n", "")
    first, second = (idle.replace("last\t1795990000", f"last\t179600000{n}") for n in (1, 2))
    machine = BackingUpAlready(
        ANSWER, ANSWER, first, first.replace("last", "stage\tx\nlast"), second
    )
    monkeypatch.setattr(backup, "Machines", lambda _: machine)
    monkeypatch.setattr(backup, "PAUSE", 0)
    monkeypatch.setattr(backup, "_answering", lambda _: nullcontext())
    reached: Any = SimpleNamespace(access=None, stack=SimpleNamespace(name="dev"))
    stock = asyncio.run(backup._made(reached, "m1"))
    assert stock == read(second)
    assert machine.starts == 2


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (FAILED, f"the last backup of etcd failed at {shown(LAST)}: no room"),
        (NOT_COPIED, "no room; ./hardway backup key prints the key that must be let in there"),
        (
            NOT_UPLOADED,
            "no room; the bucket, its access key or the way there must be mended",
        ),
    ],
)
def test_a_run_that_failed_is_a_fault_though_there_is_a_new_backup(
    result: str, sentence: str
) -> None:
    answer = ANSWER.replace("made\tdev-2-r9.db.age", f"{result}\tno room", 1)
    assert str(fault(read(answer), 10_000)) == sentence


def test_the_newest_is_fetched_or_the_named_one() -> None:
    stock = read(ANSWER)
    assert chosen(stock, None, "m1", "").revision == 9
    assert chosen(stock, "dev-1-r5.db.age", "m1", "").revision == 5
    with pytest.raises(Problem, match=r"there is no backup dev-3 on m1: \./hardway backup list"):
        chosen(stock, "dev-3", "m1", "")
    nothing: Stock = read("now\t1\nthese were all\n")
    with pytest.raises(Problem, match=r"no backups are on m1: make one with \./hardway backup now"):
        chosen(nothing, None, "m1", "")


@pytest.mark.parametrize(
    ("to", "note"),
    [(BUCKET, "note     backups go to a bucket, which lets in an access key"), (None, "")],
)
def test_the_key_is_printed_and_that_a_bucket_does_not_ask_for_it(
    to: BackupBucket | None,
    note: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may be let in elsewhere before it is used."""
    keys = new_backup_keys()
    reached = SimpleNamespace(spec=SINGLE.model_copy(update={"backup": Backup(to=to)}), state={})
    monkeypatch.setattr(backup, "opened", lambda _: reached)
    monkeypatch.setattr(backup, "kept_backup_keys", lambda _: json.dumps(keys.state()))
    backup.key("dev")
    printed = capsys.readouterr()
    assert printed.out == f"restrict {keys.ssh_public} hardway-dev-backup\n"
    assert printed.err.startswith(note)
    assert bool(printed.err) == bool(note)


def test_a_file_appears_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    path.write_text("before")
    with suppress(KeyboardInterrupt), appearing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / ".backup.db.part").write_text("of a run that was killed")
    with appearing(path) as file:
        file.write(b"whole")
        assert path.read_text() == "before"
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
