"""Backups of etcd: a timer on the first member, and the service that it starts."""

from plan import etcd, layout, unit, web_proxy
from plan.artifact import artifacts
from plan.model import File, Step, Unit
from plan.program import program
from spec.backup import Backup, BackupBucket, BackupDestination, seconds
from spec.cluster import Cluster

NAME = "backup"
SERVICE = "hardway-backup.service"
TIMER = "hardway-backup.timer"

PACKAGE = "age"
"""Encrypts the backups. It is in Debian and Ubuntu, reads and writes streams, and its format has
libraries in several languages (pyrage decrypts here)."""

OF_SFTP, OF_BUCKET = "openssh-client", "rclone"
"""The packages whose programs copy backups elsewhere. Both are in Debian and Ubuntu."""

REMOTE = "bucket"
"""What rclone calls the bucket's server."""

SINGLE_REQUEST = "5G"
"""The size up to which a backup is uploaded in a single request: the largest that S3 takes."""

BACK_UP: File = program("back-up")


def packages(spec: Cluster, node: str) -> tuple[str, ...]:
    """The Debian packages that backups need on a machine."""
    if node != member(spec):
        return ()
    match destination(spec):
        case BackupDestination():
            return (PACKAGE, OF_SFTP)
        case BackupBucket():
            return (PACKAGE, OF_BUCKET)
    return (PACKAGE,)


def member(spec: Cluster) -> str | None:
    """The machine that makes backups; None where none are made."""
    return spec.etcd_members[0] if spec.backup else None


def too_old(backup: Backup) -> int:
    """The age in seconds from which the newest backup is too old."""
    return 2 * seconds(backup.every)


def destination(spec: Cluster) -> BackupDestination | BackupBucket | None:
    """Where backups are copied to."""
    return spec.backup.to if spec.backup else None


def step(spec: Cluster, node: str) -> Step:
    """The step that has a machine make backups; each change of it makes one at once."""
    assert spec.backup is not None
    service = File(path=f"{layout.UNITS}/{SERVICE}", content=unit.text(_service(spec)))
    files = (BACK_UP, service, *_trusted(destination(spec)))
    keys = [layout.BACKUP_RECIPIENT, *_keys(destination(spec))]
    timer = Unit(
        name=TIMER,
        description="Backups of etcd",
        program=SERVICE,
        schedule={
            "OnUnitActiveSec": spec.backup.every,
            "AccuracySec": "1s",
        },
        needs=(*(file.path for file in files), *keys),
        after=(),
        # A backup at once when the timer starts, which it does at a boot and after each change.
        # With OnActiveSec there would be one after each daemon-reload as well (systemd 257).
        wants=(SERVICE,),
        wanted_by="timers.target",
    )
    return Step(
        name=NAME,
        packages=packages(spec, node),
        files=files,
        units=(timer,),
        outcome=f"a backup every {spec.backup.every}, {spec.backup.keep} kept",
    )


def _service(spec: Cluster) -> Unit:
    """The service, which makes a backup and ends."""
    assert spec.backup is not None
    etcdctl, etcdutl = artifacts(spec, ("etcdctl", "etcdutl"))
    authority, certificate, key = etcd.OPERATOR
    return Unit(
        name=SERVICE,
        description="A backup of etcd",
        program=BACK_UP.path,
        type="oneshot",
        after=(etcd.UNIT, "network-online.target"),
        environment={
            "CLUSTER": spec.name,
            "KEEP": str(spec.backup.keep),
            "RECIPIENT": layout.BACKUP_RECIPIENT,
            "FOLDER": layout.BACKUPS,
            "DATA": layout.ETCD_DATA,
            "ETCDCTL": etcdctl.store_path,
            "ETCDUTL": etcdutl.store_path,
            "ETCDCTL_ENDPOINTS": f"https://127.0.0.1:{layout.ETCD_CLIENT_PORT}",
            "ETCDCTL_CACERT": authority,
            "ETCDCTL_CERT": certificate,
            "ETCDCTL_KEY": key,
            **_environment(spec),
        },
        service={
            "RemainAfterExit": "no",
            "TimeoutStartSec": "1h",
            # A snapshot fails where etcd has no leader for a moment. What fails at the other end
            # (exit status 2) is made up for by the next backup.
            "Restart": "on-failure",
            "RestartSec": "5min",
            "RestartPreventExitStatus": "2",
            # etcd and everything else on the machine come first.
            "Nice": "10",
            "CPUWeight": "10",
            "IOSchedulingClass": "idle",
            "ProtectSystem": "full",
            "ProtectHome": "yes",
            "PrivateTmp": "yes",
            "NoNewPrivileges": "yes",
        },
        wanted_by="",
    )


def _environment(spec: Cluster) -> dict[str, str]:
    """The settings of the copies, without a secret."""
    match destination(spec):
        case BackupDestination() as to:
            return {
                "TO": f"{to.user}@{to.host}",
                "TO_PORT": str(to.port),
                "TO_DIRECTORY": to.directory,
                "TO_KEY": layout.BACKUP_LOGIN,
                "TO_HOSTS": layout.BACKUP_HOSTS,
            }
        case BackupBucket() as to:
            return {
                "TO": f"{to.endpoint}/{to.path}",
                "TO_BUCKET": f"{REMOTE}:{to.path}",
                **_of_rclone(to),
                **web_proxy.environment(spec),
            }
    return {}


def _of_rclone(to: BackupBucket) -> dict[str, str]:
    """The settings that rclone has beside the access key."""
    return {
        "RCLONE_CONFIG": layout.BACKUP_BUCKET,
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENDPOINT": to.endpoint,
        "RCLONE_S3_REGION": to.region,
        "RCLONE_S3_FORCE_PATH_STYLE": str(to.path_style).lower(),
        # Otherwise it would make a bucket that is missing.
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
        # Several requests that are cut off leave parts, which nobody sees and somebody pays for.
        "RCLONE_S3_UPLOAD_CUTOFF": SINGLE_REQUEST,
        **({"RCLONE_CA_CERT": layout.BACKUP_AUTHORITY} if to.authority else {}),
    }


def _keys(to: BackupDestination | BackupBucket | None) -> list[str]:
    """The secret files that copy backups."""
    match to:
        case BackupDestination():
            return [layout.BACKUP_LOGIN]
        case BackupBucket():
            return [layout.BACKUP_BUCKET]
    return []


def _trusted(to: BackupDestination | BackupBucket | None) -> tuple[File, ...]:
    """The file by which the computer with the copies is recognised."""
    match to:
        case BackupDestination():
            name = to.host if to.port == 22 else f"[{to.host}]:{to.port}"
            key = " ".join(to.host_key.split()[:2])
            return (File(path=layout.BACKUP_HOSTS, content=f"{name} {key}\n"),)
        case BackupBucket(authority=str(authority)):
            return (File(path=layout.BACKUP_AUTHORITY, content=f"{authority.strip()}\n"),)
    return ()
