"""Backups in a bucket: a real member, its real script, and a server that checks signatures."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certs.backup import decrypt
from lab import gobuild
from lab.cache import Cache
from lab.progress import PlainProgress
from lab.recipe import recipe
from ops import restore
from plan import backup, etcd, layout, render
from probe import backups
from spec.backup import Backup, BackupBucket
from tests.engine.stack import eventually
from tests.plan.backing_up import NODE, BackingUp, booted, of_one
from tests.plan.container import Container
from tests.plan.stored import as_root

pytestmark = [as_root, pytest.mark.timeout(1800)]

HOST, PORT, BEHIND = "store.example.org", 7443, 7444
"""The name of the server, its port, and the one behind a relay on which it really listens."""
REGION = "eu-test-1"
ACCESS_KEY = {"access_key_id": "KEYNUMBER0ONE", "secret_access_key": "never/Shown+Anywhere=42"}
BUCKET, PREFIX = "backups", "clusters/dev"
OBJECTS = "/srv/objects"
WHOLE, CUTTING = "relay", "cutting-relay"
"""Services that connect the port with the server, the latter for the first megabyte alone."""
SERVER = f"""\
[Service]
EnvironmentFile=/srv/key
ExecStart=/usr/local/bin/versitygw --quiet --port 127.0.0.1:{BEHIND} --region {REGION} \
--cert /srv/server.crt --key /srv/server.key --virtual-domain {HOST} \
posix --sidecar /srv/about {OBJECTS}
"""
ARRANGED = f"""
install -d /srv/about {OBJECTS}/{BUCKET}
echo '127.0.0.1 {HOST} {BUCKET}.{HOST}' >>/etc/hosts
cd /srv
certificate() {{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=$1" -keyout "$1-ca.key" -out "$1-ca.crt"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={HOST} \
        -keyout "$1.key" -out "$1.csr"
    echo 'subjectAltName=DNS:{HOST},DNS:*.{HOST}' >names
    openssl x509 -req -days 30 -in "$1.csr" -CA "$1-ca.crt" -CAkey "$1-ca.key" -extfile names \
        -out "$1.crt"
}}
certificate server
certificate stranger
"""


@dataclass
class Uploading(BackingUp):
    """A member of etcd that uploads its backups."""

    def goes_to(self, **more: Any) -> None:
        """Have backups go to the bucket, with these settings of it in the place of others."""
        to = BackupBucket(
            kind="s3",
            endpoint=f"https://{HOST}:{PORT}",
            region=REGION,
            bucket=BUCKET,
            **{
                "prefix": PREFIX,
                "authority": self.machine.read("/srv/server-ca.crt"),
                **more,
            },
        )
        made = of_one(Backup(every="30d", keep=2, to=to))
        self.spec = self.spec.model_copy(update={"backup": made.backup})

    def has_key(self, **halves: str) -> None:
        """Give the machine this access key, as an update does."""
        self.keys.bucket = {**ACCESS_KEY, **halves}

    def uploaded(self, prefix: str = PREFIX) -> dict[str, str]:
        """Name to digest of the objects with a prefix."""
        folder = f"{OBJECTS}/{BUCKET}/{prefix}"
        lines = self.machine.run(
            f"[ ! -d {folder} ] || find {folder} -type f -exec sha256sum {{}} +"
        ).stdout
        return {line.split()[1].rpartition("/")[2]: line.split()[0] for line in lines.splitlines()}

    def brought(self) -> None:
        """Bring the steps, of which each change makes a backup, and wait for its end."""
        before = self.stock().last
        self.bring()
        eventually("the run that this begins has ended", lambda: self.stock().last != before)
        eventually("and its service", lambda: self.stock().stage is None)

    def fault(self) -> str:
        return str(backups.fault(self.stock(), 60 * 60))

    def is_well(self) -> None:
        """What is kept here is in the bucket as well, and nothing is to be warned of."""
        stock = self.stock()
        assert backups.fault(stock, 60 * 60) is None
        assert all(stored.copied for stored in stock.backups)
        own = {stored.name: stored.sha256 for stored in stock.backups}
        assert own.items() <= self.uploaded().items()


def relay(machine: Container, name: str = WHOLE) -> None:
    """Connect the server's port with the server by the service of this name."""
    machine.call("systemctl", "stop", WHOLE, CUTTING)
    machine.call("systemctl", "start", name)
    answers = f"until openssl s_client -connect 127.0.0.1:{PORT} </dev/null; do sleep 0.1; done"
    machine.call("bash", "-c", f"{answers} &>/dev/null")


@contextmanager
def limited(machine: Container, rate: str) -> Iterator[None]:
    """Uploads of so many bytes a second, by rclone itself.

    A drop-in would not do: systemd starts the timer's service after each reload.
    """
    machine.call("systemctl", "set-environment", f"RCLONE_BWLIMIT={rate}")
    yield
    machine.call("systemctl", "unset-environment", "RCLONE_BWLIMIT")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uploading]:
    folder = tmp_path_factory.mktemp("backup-bucket")
    built = gobuild.build(recipe("versitygw", "1.8.0"), Cache(), PlainProgress(), folder)
    with booted(folder) as machine:
        machine.call("bash", "-euc", ARRANGED)
        program = Cache().blob(built.files["versitygw"]).read_bytes()
        machine.write("/usr/local/bin/versitygw", program, 0o755)
        key_id, secret = ACCESS_KEY.values()
        machine.write("/srv/key", f"ROOT_ACCESS_KEY={key_id}\nROOT_SECRET_KEY={secret}\n", 0o600)
        machine.write("/run/systemd/system/object-store.service", SERVER)
        for name, options in ((WHOLE, ""), (CUTTING, ",readbytes=1000000")):
            listens = f"TCP-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr{options}"
            machine.write(
                f"/run/systemd/system/{name}.service",
                f"[Service]\nExecStart=socat {listens} TCP:127.0.0.1:{BEHIND}\n",
            )
        machine.call("systemctl", "daemon-reload")
        machine.call("systemctl", "start", "object-store")
        relay(machine)
        made = Uploading(machine, of_one(Backup()))
        made.goes_to()
        made.has_key()
        made.bring()
        yield made


def test_a_backup_is_in_the_bucket_and_brings_etcd_back(world: Uploading) -> None:
    eventually("a backup is made", lambda: world.stock().last is not None)
    world.etcdctl("put", "which", "was kept")
    # The upload takes a while, so that the next tests can cut it off.
    for number in range(12):
        noise = "head --bytes=300000 /dev/urandom | base64"
        put = " ".join(("etcdctl", *world.flags, "put", f"large-{number}"))
        world.machine.call("bash", "-euc", f"{noise} | {put}")
    assert world.run() == 0
    world.is_well()
    stored = world.stock().backups[-1]
    settings = world.machine.run(
        f"systemctl show --property=Environment --value {backup.SERVICE}"
    ).stdout
    variables = dict(word.split("=", 1) for word in settings.split() if word.startswith("RCLONE_"))
    exports = " ".join(f"{name}={value}" for name, value in variables.items())
    world.machine.call(
        "bash",
        "-c",
        f"{exports} rclone copyto bucket:{BUCKET}/{PREFIX}/{stored.name} /root/fetched",
    )
    plain = io.BytesIO()
    decrypt(
        world.keys.backups,
        io.BytesIO(world.machine.path("/root/fetched").read_bytes()),
        plain,
    )
    world.etcdctl("put", "which", "is lost")
    world.machine.write(f"{layout.ETCD_DATA}/restore/snapshot.db", plain.getvalue(), 0o600)
    flags = etcd.unit(world.spec, NODE).flags
    peers = flags["initial-advertise-peer-urls"], etcd.initial_cluster(world.spec)
    for action, *arguments in (
        ("prepare", layout.ETCD_DATA, "/usr/local/bin/etcdutl", NODE, *peers, "token"),
        ("stop", etcd.UNIT),
        ("swap", layout.ETCD_DATA),
    ):
        text = restore.SCRIPT.read_text()
        world.machine.call("bash", "-c", text, "restore", action, *arguments)
    world.machine.call("systemctl", "start", etcd.UNIT)
    assert world.etcdctl("get", "which", "--print-value-only") == "was kept\n"


def test_the_newest_are_kept_and_what_others_have_stays(world: Uploading) -> None:
    others = (
        *("somebody-elses", "test2-20260101T000000Z-r1.db.age", "test-notes-r1.db.age"),
        # Of a cluster whose name goes on with a number: test-2.
        *("test-2-20260101T000000Z-r1.db.age", ".part-test-2-20260101T000000Z-r1.db.age"),
    )
    for name in others:
        world.machine.write(f"{OBJECTS}/{BUCKET}/{PREFIX}/{name}", "of others")
    below = f"{OBJECTS}/{BUCKET}/{PREFIX}/below/test-20200101T000000Z-r1.db.age"
    world.machine.write(below, "of others")
    for number in range(3):
        world.etcdctl("put", f"kept-{number}", "value")
        assert world.run() == 0
    world.is_well()
    own = {stored.name for stored in world.stock().backups}
    assert len(own) == 2
    assert world.uploaded().keys() == own | {*others, below.rpartition("/")[2]}
    world.machine.call("rm", "-r", str(Path(below).parent))
    for name in others:
        world.machine.call("rm", f"{OBJECTS}/{BUCKET}/{PREFIX}/{name}")


def test_the_access_key_is_in_one_file_of_root_and_in_no_process(world: Uploading) -> None:
    kept = world.machine.snapshot(layout.BACKUP_BUCKET)
    assert kept[layout.BACKUP_BUCKET].startswith("-rw------- 0:0 ")
    secret = ACCESS_KEY["secret_access_key"]
    world.etcdctl("put", "for", "an upload that takes its time")
    with limited(world.machine, "256k"):
        world.machine.call("systemctl", "--no-block", "start", backup.SERVICE)
        eventually("rclone runs", lambda: world.machine.run("pgrep -f copyto").stdout != "")
        server = world.machine.call(
            "systemctl", "show", "--property=MainPID", "--value", "object-store"
        )
        for half in ACCESS_KEY.values():
            holders = world.machine.run(
                "for process in /proc/[0-9]*; do\n"
                f"    ! grep --text --quiet --fixed-strings '{half}' "
                '"$process/cmdline" "$process/environ" 2>/dev/null || basename "$process"\n'
                "done"
            )
            assert holders.stdout == server, "the server alone, which has it from this test"
        eventually("the upload ends", lambda: world.stock().stage is None)
    world.is_well()
    files = world.machine.run(
        f"grep --recursive --text --files-with-matches --fixed-strings '{secret}' "
        "/etc /var /run /root /tmp /usr/local 2>/dev/null || true"
    ).stdout
    assert files.split() == [layout.BACKUP_BUCKET]
    journal = world.machine.call("journalctl", "--no-pager", "--output=export")
    for half in ACCESS_KEY.values():
        assert half not in journal


def test_a_wrong_key_is_told_and_what_was_not_uploaded_is_made_up_for(world: Uploading) -> None:
    before = world.uploaded()
    world.has_key(secret_access_key="another")
    world.brought()
    assert not world.stock().backups[-1].copied
    assert f"the copy to https://{HOST}:{PORT}/{BUCKET}/{PREFIX}/ fails" in world.fault()
    assert "SignatureDoesNotMatch" in world.fault()
    assert "access key" in world.fault()
    assert "ssh" not in world.fault()
    assert world.run() == 2
    assert world.uploaded() == before
    world.has_key()
    world.brought()
    world.is_well()


def test_a_bucket_that_is_missing_is_told_and_never_made(world: Uploading) -> None:
    world.machine.call("mv", f"{OBJECTS}/{BUCKET}", "/srv/aside")
    assert world.run() == 2
    assert "there is no such bucket" in world.fault()
    assert not world.machine.path(f"{OBJECTS}/{BUCKET}").exists()
    world.machine.call("mv", "/srv/aside", f"{OBJECTS}/{BUCKET}")
    assert world.run() == 0
    world.is_well()


def test_a_server_that_is_gone_is_told(world: Uploading) -> None:
    world.machine.call("systemctl", "stop", WHOLE)
    assert world.run() == 2
    assert "connection refused" in world.fault()
    assert "max-keys" not in world.fault()
    relay(world.machine)
    assert world.run() == 0
    world.is_well()


def test_an_upload_that_is_cut_off_is_not_there(world: Uploading) -> None:
    before = world.uploaded()
    relay(world.machine, CUTTING)
    world.etcdctl("put", "cut", "off")
    assert world.run() == 2
    assert not world.stock().backups[-1].copied
    assert world.uploaded() == before
    for text in ("Signature", *ACCESS_KEY.values()):
        assert text not in world.fault()
    relay(world.machine)
    assert world.run() == 0
    world.is_well()


def test_a_run_that_is_killed_while_it_uploads_is_made_up_for(world: Uploading) -> None:
    before = world.uploaded()
    world.etcdctl("put", "killed", "while it uploads")
    with limited(world.machine, "100k"):
        world.machine.call("systemctl", "--no-block", "start", backup.SERVICE)
        eventually("it uploads", lambda: world.machine.run("pgrep -f copyto").stdout != "")
        assert re.match(f"copying test-.* to https://{HOST}", world.stock().stage or "")
        world.machine.call("systemctl", "kill", "--signal=KILL", backup.SERVICE)
        eventually("it has ended", lambda: world.stock().stage is None)
    assert world.uploaded() == before
    assert world.run() == 0
    world.is_well()


def test_another_server_in_its_place_gets_nothing(world: Uploading) -> None:
    before = world.uploaded()
    world.goes_to(authority=world.machine.read("/srv/stranger-ca.crt"))
    world.brought()
    assert "certificate signed by unknown authority" in world.fault()
    assert world.uploaded() == before
    world.goes_to()
    world.brought()
    world.is_well()


def test_a_bucket_can_be_a_part_of_the_hosts_name(world: Uploading) -> None:
    world.goes_to(path_style=False)
    world.brought()
    world.is_well()
    world.machine.call("sed", "-i", f"s/ {BUCKET}.{HOST}//", "/etc/hosts")
    assert world.run() == 2
    assert f"{BUCKET}.{HOST}" in world.fault()
    world.machine.call("bash", "-c", f"echo '127.0.0.1 {BUCKET}.{HOST}' >>/etc/hosts")
    world.goes_to()
    world.brought()
    world.is_well()


def test_another_place_gets_all_that_are_kept(world: Uploading) -> None:
    world.goes_to(prefix="")
    world.brought()
    at_the_top = {path.name for path in world.machine.path(f"{OBJECTS}/{BUCKET}").iterdir()}
    assert {stored.name for stored in world.stock().backups} <= at_the_top
    assert world.uploaded(), "those of before stay where they are"
    world.goes_to()
    world.brought()
    world.is_well()


def test_unchanged_steps_change_nothing(world: Uploading) -> None:
    before = world.stock()
    held = world.machine.snapshot("/etc/hardway", "/etc/systemd/system", "/usr/local/lib/hardway")
    world.bring()
    assert world.stock().backups == before.backups
    assert world.stock().last == before.last
    after = world.machine.snapshot("/etc/hardway", "/etc/systemd/system", "/usr/local/lib/hardway")
    assert after == held


def test_switched_off_it_leaves_nothing_and_the_bucket_as_it_is(world: Uploading) -> None:
    kept = world.uploaded()
    world.spec = world.spec.model_copy(update={"backup": None})
    world.bring()
    done = world.machine.run(render.leaving(backup.NAME))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    left = world.machine.run(
        "ls -d /etc/hardway* /var/lib/hardway-backups /usr/local/lib/hardway/back-up 2>/dev/null; "
        "systemctl list-unit-files --no-legend 'hardway-backup*'"
    )
    assert left.stdout == ""
    assert world.uploaded() == kept
