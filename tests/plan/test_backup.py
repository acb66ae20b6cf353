"""Backups of a real member of etcd under its machine's systemd: made, checked, kept and copied."""

import hashlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certs.backup import NotOurs, decrypt, new_backup_keys
from plan import backup, etcd, layout, render
from plan.contents import contents
from plan.model import NodePlan
from probe import backups
from spec.backup import Backup, BackupDestination
from spec.cluster import Cluster
from tests.engine.stack import eventually
from tests.plan.backing_up import ELSEWHERE, NODE, BackingUp, booted, of_one
from tests.plan.guarded import GuardedMachine
from tests.plan.running import stored_program
from tests.plan.stored import as_root

pytestmark = [as_root, pytest.mark.timeout(1800)]

COPIES = "/home/keeper/copies"
ARRANGED = """
useradd --create-home --shell /usr/sbin/nologin keeper
install -d -o keeper -g keeper -m 0700 /home/keeper/.ssh
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf 'Subsystem sftp internal-sftp\\nMatch User keeper\\n ForceCommand internal-sftp\\n' \
    >>/etc/ssh/sshd_config
# The first one has failed without a host key, and its end takes /run/sshd away.
until systemctl restart ssh; do systemctl reset-failed ssh; sleep 1; done
"""


def spec_of(host_key: str, **more: Any) -> Cluster:
    """A machine of its own with a backup that only a command makes: the timer's next is far off."""
    to = BackupDestination(
        host=ELSEWHERE, user="keeper", host_key=host_key, directory="copies", **more
    )
    return of_one(Backup(every="30d", keep=2, to=to))


def copies(world: BackingUp) -> dict[str, str]:
    """Name to digest of the files at the other end."""
    lines = world.machine.run(f"cd {COPIES} && sha256sum * .p* 2>/dev/null || true").stdout
    return {line.split()[1]: line.split()[0] for line in lines.splitlines()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackingUp]:
    with booted(tmp_path_factory.mktemp("backup")) as machine:
        machine.call("bash", "-euc", ARRANGED)
        made = BackingUp(machine, spec_of(machine.read("/etc/ssh/ssh_host_ed25519_key.pub")))
        let_in(made, made.keys.backups.ssh_public)
        made.bring()
        yield made


def let_in(world: BackingUp, key: str) -> None:
    world.machine.write("/home/keeper/.ssh/authorized_keys", f"restrict {key}\n")
    world.machine.call("chown", "keeper:keeper", "/home/keeper/.ssh/authorized_keys")


def restart_ssh(world: BackingUp) -> None:
    """Restart the SSH server, also where systemd has done so often in the last seconds."""
    world.machine.call("systemctl", "reset-failed", "ssh")
    world.machine.call("systemctl", "restart", "ssh")


def next_backup(world: BackingUp) -> float:
    """In how many seconds the timer starts the next backup."""
    listed = world.machine.call("systemctl", "list-timers", "--output=json", backup.TIMER)
    (row,) = json.loads(listed)
    return float(row["next"]) / 1e6 - float(world.machine.call("date", "+%s.%N"))


def test_the_timers_first_backup_is_whole_encrypted_and_copied(
    world: BackingUp, tmp_path: Path
) -> None:
    eventually("a backup is made and copied", lambda: world.stock().last is not None)
    stock = world.stock()
    assert stock.last is not None
    assert stock.last.result == "made", stock.last.text
    (stored,) = stock.backups
    assert stored.copied
    assert stored.etcd == world.spec.versions.etcd
    assert backups.fault(stock, 60 * 60) is None
    assert copies(world) == {stored.name: stored.sha256}
    eventually("the service has ended", lambda: next_backup(world) > 0)
    world.machine.call("systemctl", "daemon-reload")
    assert next_backup(world) > 24 * 3600, "systemd that reads its files anew begins none"

    encrypted = world.machine.path(f"{layout.BACKUPS}/{stored.name}").read_bytes()
    assert hashlib.sha256(encrypted).hexdigest() == stored.sha256
    assert len(encrypted) == stored.size
    plain = io.BytesIO()
    decrypt(world.keys.backups, io.BytesIO(encrypted), plain)
    assert len(plain.getvalue()) == stored.snapshot
    snapshot = tmp_path / "snapshot.db"
    snapshot.write_bytes(plain.getvalue())
    etcdutl = stored_program("etcdutl", world.spec.versions)
    status = subprocess.run(
        [etcdutl, "snapshot", "status", snapshot, "--write-out=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(status.stdout)["revision"] == stored.revision
    with pytest.raises(NotOurs, match="another stack's state"):
        decrypt(new_backup_keys(), io.BytesIO(encrypted), io.BytesIO())


def test_only_root_reads_what_is_kept_and_no_plain_text_is_left(world: BackingUp) -> None:
    (stored, *_) = world.stock().backups
    modes = {path: text.split()[0] for path, text in world.machine.snapshot(layout.BACKUPS).items()}
    assert modes.pop(layout.BACKUPS) == "drwx------"
    assert set(modes.values()) == {"-rw-------"}
    assert f"{layout.BACKUPS}/{stored.name}" in modes
    assert not [path for path in modes if path.endswith(".db")]
    everything = world.machine.run(
        f"grep --recursive --files-with-matches --text SQLite {layout.BACKUPS} || true"
    )
    assert everything.stdout == ""
    keys = world.keys.backups
    secret = keys.identity.removeprefix("AGE-SECRET-KEY-")
    found_in = world.machine.run(f"grep --recursive --text -l {secret} /etc /var || true").stdout
    assert found_in == ""


def test_the_newest_are_kept_here_and_there(world: BackingUp) -> None:
    # Of clusters whose names begin as this one's does, in the same directory.
    others = [
        f"{beginning}test-{more}-20260101T000000Z-r1.db.age"
        for beginning in ("", ".part-")
        for more in ("2", "site")
    ]
    for name in others:
        world.machine.write(f"{COPIES}/{name}", "of others")
        world.machine.call("chown", "keeper:keeper", f"{COPIES}/{name}")
    for number in range(3):
        world.etcdctl("put", f"kept-{number}", "value")
        assert world.run() == 0
    stock = world.stock()
    assert len(stock.backups) == 2
    first, second = stock.backups
    assert first.revision + 1 == second.revision
    assert stock.last is not None
    assert stock.last.text == second.name, "and no older one, which was taken away"
    there = copies(world)
    assert [name for name in others if name not in there] == []
    own = {stored.name: stored.sha256 for stored in stock.backups}
    assert {name: digest for name, digest in there.items() if name not in others} == own
    for name in others:
        world.machine.call("rm", f"{COPIES}/{name}")


def test_backups_of_a_clock_that_was_ahead_make_way_for_new_ones(world: BackingUp) -> None:
    folder = layout.BACKUPS
    for second in range(2):
        assert world.run() == 0
        made = world.stock().last
        assert made is not None
        name, ahead = made.text, f"test-29990101T00000{second}Z-r{second}.db.age"
        for ending in ("", ".info", ".copied"):
            world.machine.call("mv", f"{folder}/{name}{ending}", f"{folder}/{ahead}{ending}")
        world.machine.run(f"cp {folder}/{ahead} {COPIES}/; chown keeper: {COPIES}/{ahead}")
        world.machine.run(f"rm {COPIES}/{name}")
    assert world.run() == 0
    stock = world.stock()
    assert stock.last is not None
    assert stock.last.text in {stored.name for stored in stock.backups}
    assert stock.last.text in copies(world)
    assert world.run() == 0
    assert not [name for name in copies(world) if "2999" in name]


def test_two_of_one_revision_have_names_of_their_own(world: BackingUp) -> None:
    for _ in range(2):
        assert world.run() == 0
    first, second = world.stock().backups
    assert first.revision == second.revision
    assert copies(world).keys() == {first.name, second.name}


def test_what_could_not_be_copied_is_told_and_made_up_for(world: BackingUp) -> None:
    let_in(world, new_backup_keys().ssh_public)
    before = copies(world)
    assert world.run() == 2
    stock = world.stock()
    fault = backups.fault(stock, 60 * 60)
    assert fault is not None
    assert "Permission denied (publickey)" in fault
    assert "./hardway backup key" in fault
    assert not stock.backups[-1].copied
    assert copies(world) == before
    half = f"{COPIES}/.part-test-20260101T000000Z-r1.db.age"
    world.machine.write(half, "half of one")
    world.machine.call("chown", "keeper:keeper", half)
    world.machine.write(f"{COPIES}/somebody-elses", "")
    let_in(world, world.keys.backups.ssh_public)
    world.etcdctl("put", "later", "value")
    assert world.run() == 0
    stock = world.stock()
    assert backups.fault(stock, 60 * 60) is None
    there = copies(world)
    assert there.pop("somebody-elses")
    assert there == {stored.name: stored.sha256 for stored in stock.backups}


def test_another_computer_in_its_place_gets_nothing(world: BackingUp) -> None:
    world.machine.call("cp", "/etc/ssh/ssh_host_ed25519_key", "/root/host_key")
    world.machine.run("yes | ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
    restart_ssh(world)
    before = copies(world)
    assert world.run() == 2
    assert "Host key verification failed" in str(backups.fault(world.stock(), 60 * 60))
    assert copies(world) == before
    world.machine.call("cp", "/root/host_key", "/etc/ssh/ssh_host_ed25519_key")
    restart_ssh(world)
    assert world.run() == 0


def test_without_etcd_there_is_no_backup_and_the_last_ones_stay(world: BackingUp) -> None:
    before = world.stock().backups
    world.machine.call("systemctl", "stop", etcd.UNIT)
    assert world.run() == 1
    stock = world.stock()
    assert stock.backups == before
    assert stock.stage is None
    assert "etcd does not answer" in str(backups.fault(stock, 60 * 60))
    world.machine.call("systemctl", "start", etcd.UNIT)
    assert world.run() == 0


def test_an_old_one_is_too_old(world: BackingUp) -> None:
    stock = world.stock()
    late = replace(stock, now=stock.backups[-1].time.replace(year=2400))
    assert "which is too old" in str(backups.fault(late, 60 * 60))
    assert backups.fault(replace(stock, backups=(), last=None), 60) == (
        "there is no backup of etcd yet"
    )


def test_a_full_disk_is_left_alone(world: BackingUp) -> None:
    """A database that would not fit twice: a sparse file, on a disk that is as large as it is."""
    half = "$(($(df --block-size=1 --output=avail /var | tail -n 1) / 2))"
    folder = "/srv/large/member/snap"
    world.machine.call("bash", "-euc", f"mkdir -p {folder}; truncate -s {half} {folder}/db")
    override = f"/run/systemd/system/{backup.SERVICE}.d"
    world.machine.write(f"{override}/large.conf", '[Service]\nEnvironment="DATA=/srv/large"\n')
    world.machine.call("systemctl", "daemon-reload")
    assert world.run() == 1
    assert "keep fewer backups or make the disk larger" in str(
        backups.fault(world.stock(), 60 * 60)
    )
    world.machine.call("rm", "-r", override, "/srv/large")
    world.machine.call("systemctl", "daemon-reload")
    assert world.run() == 0


def test_a_run_that_is_killed_leaves_nothing_half(world: BackingUp) -> None:
    before = world.stock().backups
    slow = "#!/bin/sh\necho begun >/run/begun\nexec sleep infinity\n"
    world.machine.write("/usr/local/bin/age", slow, 0o755)
    world.machine.call("systemctl", "--no-block", "start", backup.SERVICE)
    eventually("it encrypts", lambda: world.machine.path("/run/begun").exists())
    assert world.stock().stage == "encrypting the snapshot"
    world.machine.call("systemctl", "kill", "--signal=KILL", backup.SERVICE)
    eventually("it has ended", lambda: world.stock().stage is None)
    assert world.stock().backups == before
    world.machine.call("rm", "/usr/local/bin/age")
    assert world.run() == 0
    left = [path for path in world.machine.snapshot(layout.BACKUPS) if "/.new" in path]
    assert left == []


def test_a_copy_that_its_service_ends_is_told_and_begins_no_backup_anew(world: BackingUp) -> None:
    """As where it takes longer than the service may: what is kept here would be gone in hours."""
    slow = "#!/bin/sh\necho begun >/run/copying\nexec sleep infinity\n"
    world.machine.write("/usr/local/bin/sftp", slow, 0o755)
    override = f"/run/systemd/system/{backup.SERVICE}.d"
    world.machine.write(f"{override}/soon.conf", "[Service]\nTimeoutStartSec=20\nRestartSec=1\n")
    world.machine.call("systemctl", "daemon-reload")
    world.machine.call("systemctl", "--no-block", "start", backup.SERVICE)
    eventually("it copies", lambda: world.machine.path("/run/copying").exists())
    eventually("it has ended", lambda: world.stock().stage is None)
    eventually("and its service", lambda: state_of(world) not in ("activating", "deactivating"))
    assert state_of(world) == "failed", "it is not started again"
    newest = world.stock().backups[-1]
    assert not newest.copied
    assert "it was ended before it was done" in str(backups.fault(world.stock(), 60 * 60))
    world.machine.call("rm", "-r", override, "/usr/local/bin/sftp")
    world.machine.call("systemctl", "daemon-reload")
    assert world.run() == 0
    assert newest.name in copies(world)


def state_of(world: BackingUp) -> str:
    return world.machine.run(f"systemctl is-active {backup.SERVICE}").stdout.strip()


def test_a_guard_sees_the_timer_and_mends_it(world: BackingUp) -> None:
    step = backup.step(world.spec, NODE)
    # The package is in no archive that the container reaches.
    plan = NodePlan(node=NODE, steps=(replace(step, packages=(backup.PACKAGE,)),))
    held = contents(plan, world.content)
    items = tuple(item for item in held.items if item.step == step.name)
    guarded = GuardedMachine(world.machine, replace(held, items=items), {})
    assert guarded.observed() == {}
    guarded.shell(f"systemctl disable --now {backup.TIMER}")
    assert guarded.observed() == {f"service {backup.TIMER}": "disabled, stopped"}
    guarded.mend()
    assert guarded.observed() == {}
    guarded.shell(f"echo '# by hand' >>{layout.UNITS}/{backup.SERVICE}")
    assert f"file {layout.UNITS}/{backup.SERVICE}" in guarded.observed()
    guarded.mend()
    assert guarded.observed() == {}


def test_a_changed_period_takes_effect_and_unchanged_steps_change_nothing(world: BackingUp) -> None:
    def invocation() -> str:
        """With the times between backups, and without the times of the next ones."""
        shown = world.machine.call(
            "systemctl", "show", "--property=InvocationID,TimersMonotonic", backup.TIMER
        )
        return re.sub(r"next_elapse=[^}]*", "", shown)

    before = invocation()
    world.bring()
    assert invocation() == before
    own = world.spec.backup
    assert own is not None
    world.spec = world.spec.model_copy(
        update={"backup": own.model_copy(update={"every": "7d", "keep": 1})}
    )
    world.bring()
    assert invocation() != before
    assert "OnUnitActiveUSec=1w" in invocation()
    eventually("one is kept", lambda: len(world.stock().backups) == 1)
    eventually("and copied", lambda: world.stock().backups[0].copied)


def test_switched_off_it_leaves_nothing(world: BackingUp) -> None:
    world.spec = world.spec.model_copy(update={"backup": None})
    world.bring()
    done = world.machine.run(render.leaving(backup.NAME))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    left = world.machine.run(
        "systemctl list-unit-files --no-legend 'hardway-backup*'; ls -d /etc/hardway* "
        "/var/lib/hardway-backups /usr/local/lib/hardway/back-up /var/lib/hardway/running/*backup* "
        "/var/lib/hardway/applied/backup /var/lib/hardway/steps/backup 2>/dev/null || true"
    )
    assert left.stdout == ""
    assert copies(world) != {}
