"""The backups of etcd on the machine that makes them: which there are, and whether all is well."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from plan import layout
from plan.condition import Backups
from probe.failure import Unmet
from probe.machines import Machines, Unreachable
from probe.observation import ALL
from probe.pods import script

LIMIT = 40
"""The time limit of a request, in seconds."""

CLOCKS = timedelta(minutes=5)
"""By how much a backup may be newer than its machine's clock, which may be set back a little."""

FAILED, NOT_COPIED, NOT_UPLOADED = "failed", "not-copied", "not-uploaded"
"""Results of a run that was not well, as ``plan/files/back-up`` records them: no backup was made,
or it was not copied by SFTP or not uploaded to a bucket."""


@dataclass(frozen=True, kw_only=True)
class StoredBackup:
    """A backup on the machine; sizes are in bytes."""

    name: str
    time: datetime
    revision: int
    """etcd's revision at that time."""
    keys: int
    etcd: str
    """The version of the etcd that made the snapshot."""
    size: int
    sha256: str
    """The digest of the encrypted file."""
    snapshot: int
    """The size of the snapshot itself."""
    copied: bool
    """Whether it was copied elsewhere."""


@dataclass(frozen=True, kw_only=True)
class BackupRun:
    """How the last run ended."""

    time: datetime
    result: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Stock:
    """What a machine says about its backups."""

    now: datetime
    """By the machine's own clock, as all times here."""
    backups: tuple[StoredBackup, ...]
    """The newest one last."""
    last: BackupRun | None
    stage: str | None
    """What a run that goes on does now."""

    @property
    def newest(self) -> StoredBackup | None:
        """The newest backup; None where all are of a time that is still to come."""
        past = [backup for backup in self.backups if backup.time <= self.now + CLOCKS]
        return past[-1] if past else None


async def ask(machines: Machines, node: str) -> Stock:
    """The backups on a machine. Raises Unreachable."""
    done = await machines.run(node, script("backups"), layout.BACKUPS, timeout=LIMIT)
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        raise Unreachable(f"{node} does not say which backups it has ({done.reason})")
    return read(done.stdout)


def read(answer: str) -> Stock:
    """Parse what the script prints."""
    lines = [line.split("\t") for line in answer.splitlines()]
    facts: dict[str, list[str]] = {kind: values for kind, *values in lines}
    backups = (
        _backup(name, dict(field.split("=", 1) for field in fields))
        for kind, name, *fields in (line for line in lines if line[0] == "backup")
    )
    last = facts.get("last")
    return Stock(
        now=_time(facts["now"][0]),
        backups=tuple(sorted(backups, key=lambda backup: backup.time)),
        last=BackupRun(time=_time(last[0]), result=last[1], text=last[2]) if last else None,
        stage=facts["stage"][0] if "stage" in facts else None,
    )


def _backup(name: str, fields: Mapping[str, str]) -> StoredBackup:
    return StoredBackup(
        name=name,
        time=_time(fields["time"]),
        revision=int(fields["revision"]),
        keys=int(fields["keys"]),
        etcd=fields["etcd"],
        size=int(fields["size"]),
        sha256=fields["sha256"],
        snapshot=int(fields["snapshot"]),
        copied="copied" in fields,
    )


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


async def demand_backups(check: Backups, machines: Machines) -> None:
    """Raises Unmet where the last run failed, or where there is no backup that is new enough."""
    stock = await ask(machines, check.machine)
    if failure := fault(stock, check.seconds):
        raise Unmet(f"{failure}; ./hardway ssh {check.machine} -- {LOG} says more")


LOG = "journalctl -u hardway-backup"


def fault(stock: Stock, seconds: int) -> str | None:
    """What is wrong with the backups, without a full stop; None where all is well.

    ``seconds`` is the age from which the newest one is too old.
    """
    last, newest = stock.last, stock.newest
    if last and last.result == FAILED:
        return f"the last backup of etcd failed at {shown(last.time)}: {last.text}"
    if last and last.result == NOT_COPIED:
        return f"{last.text}; ./hardway backup key prints the key that must be let in there"
    if last and last.result == NOT_UPLOADED:
        return f"{last.text}; the bucket, its access key or the way there must be mended"
    if newest is None and stock.backups:
        return (
            "all backups of etcd are of times that are still to come, the last of "
            f"{shown(stock.backups[-1].time)}, since the machine's clock was ahead; "
            "./hardway backup now makes a new one"
        )
    if newest is None:
        return "there is no backup of etcd yet"
    if (stock.now - newest.time).total_seconds() > seconds:
        return f"the newest backup of etcd is of {shown(newest.time)}, which is too old"
    return None


def shown(time: datetime) -> str:
    """A time as people read it, such as ``2026-11-29 09:51:50 UTC``."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
