"""``backup key`` and ``fetch``: what they print and choose, a file that is whole or not there."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from certs.backup import new_backup_keys
from lab.problem import Problem
from ops import backup
from ops.backup import appearing, chosen
from probe.backups import FAILED, NOT_COPIED, NOT_UPLOADED, Stock, fault, read, shown
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
