"""Backups of etcd: a timer on the first member, and the service that it starts."""

from plan import etcd, layout, unit
from plan.artifact import artifacts
from plan.model import File, Step, Unit
from plan.program import program
from spec.backup import Backup, BackupDestination, seconds
from spec.cluster import Cluster

NAME = "backup"
SERVICE = "hardway-backup.service"
TIMER = "hardway-backup.timer"

PACKAGE = "age"
"""Encrypts the backups. It is in Debian and Ubuntu, reads and writes streams, and its format has
libraries in several languages (pyrage decrypts here)."""

BACK_UP: File = program("back-up")


def packages(spec: Cluster, node: str) -> tuple[str, ...]:
    """The Debian packages that backups need on a machine."""
    if node != member(spec):
        return ()
    return (PACKAGE, *(("openssh-client",) if destination(spec) else ()))


def member(spec: Cluster) -> str | None:
    """The machine that makes backups; None where none are made."""
    return spec.etcd_members[0] if spec.backup else None


def too_old(backup: Backup) -> int:
    """The age in seconds from which the newest backup is too old."""
    return 2 * seconds(backup.every)


def destination(spec: Cluster) -> BackupDestination | None:
    """Where backups are copied to."""
    return spec.backup.to if spec.backup else None


def step(spec: Cluster, node: str) -> Step:
    """The step that has a machine make backups; each change of it makes one at once."""
    assert spec.backup is not None
    service = File(path=f"{layout.UNITS}/{SERVICE}", content=unit.text(_service(spec)))
    files = (BACK_UP, service, *_hosts(destination(spec)))
    keys = [layout.BACKUP_RECIPIENT, *([layout.BACKUP_LOGIN] if destination(spec) else [])]
    timer = Unit(
        name=TIMER,
        description="Backups of etcd",
        program=SERVICE,
        schedule={
            # At once when the timer starts, which it does at a boot and after each change.
            "OnActiveSec": "1s",
            "OnUnitActiveSec": spec.backup.every,
            "AccuracySec": "1s",
        },
        needs=(*(file.path for file in files), *keys),
        after=(),
        wants=(),
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
            **_environment(destination(spec)),
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


def _environment(to: BackupDestination | None) -> dict[str, str]:
    if to is None:
        return {}
    return {
        "TO": f"{to.user}@{to.host}",
        "TO_PORT": str(to.port),
        "TO_DIRECTORY": to.directory,
        "TO_KEY": layout.BACKUP_LOGIN,
        "TO_HOSTS": layout.BACKUP_HOSTS,
    }


def _hosts(to: BackupDestination | None) -> tuple[File, ...]:
    """The file by which the computer with the copies is recognised."""
    if to is None:
        return ()
    name = to.host if to.port == 22 else f"[{to.host}]:{to.port}"
    key = " ".join(to.host_key.split()[:2])
    return (File(path=layout.BACKUP_HOSTS, content=f"{name} {key}\n"),)
