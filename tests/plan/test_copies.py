"""What a member gets for the copies of its backups, by SFTP and in a bucket."""

from typing import Any

from certs.bundle import Bundle
from plan import backup, identity, layout
from plan.material import material
from plan.model import BucketKey, Step
from plan.unit import text
from spec.backup import Backup, BackupBucket
from spec.cluster import Cluster
from spec.proxy import Proxy
from tests.certs.clusters import SINGLE
from tests.plan.running import Keys
from tests.spec.pem import PEM

NODE = "master"
BUCKET: dict[str, Any] = {
    "kind": "s3",
    "endpoint": "https://s3.example.org:9000",
    "bucket": "backups",
}


def spec_with(more: dict[str, Any] | None = None, **fields: Any) -> Cluster:
    to = BackupBucket(**BUCKET, **(more or {}))
    return SINGLE.model_copy(update={"backup": Backup(to=to), **fields})


def service(step: Step) -> str:
    (content,) = (file.content for file in step.files if file.path.endswith(backup.SERVICE))
    return content


def test_a_bucket_is_written_by_rclone_with_the_key_in_a_file_of_root_alone() -> None:
    spec = spec_with()
    step = backup.step(spec, NODE)
    assert step.packages == ("age", "rclone")
    (timer,) = step.units
    assert layout.BACKUP_BUCKET in timer.needs, "another key takes effect"
    (file,) = (
        file
        for file in identity.step(spec, NODE).secret_files
        if file.path.startswith(layout.BACKUP_KEYS) and file.path != layout.BACKUP_RECIPIENT
    )
    assert (file.path, file.mode, file.owner) == (layout.BACKUP_BUCKET, 0o600, "root:root")
    halves = {"access_key_id": "NUMBER", "secret_access_key": "a+b/c="}
    content = material("dev", Keys(spec).authorities, Bundle({}), bucket=halves)(BucketKey())
    assert content == ("[bucket]\ntype = s3\naccess_key_id = NUMBER\nsecret_access_key = a+b/c=\n")
    assert "PROXY" not in service(step)
    assert "CA_CERT" not in service(step)
    assert 'Environment="TO_BUCKET=bucket:backups/"' in service(step)
    assert "a+b/c=" not in "".join(text(unit) for unit in step.units) + service(step)


def test_the_settings_of_a_bucket_reach_rclone() -> None:
    more = {"region": "auto", "prefix": "a/b", "path_style": False, "authority": PEM}
    proxy = Proxy(https="http://proxy.example.org:3128")
    step = backup.step(spec_with(more, proxy=proxy), NODE)
    for line in (
        "RCLONE_S3_ENDPOINT=https://s3.example.org:9000",
        "RCLONE_S3_REGION=auto",
        "RCLONE_S3_FORCE_PATH_STYLE=false",
        f"RCLONE_CA_CERT={layout.BACKUP_AUTHORITY}",
        f"RCLONE_CONFIG={layout.BACKUP_BUCKET}",
        "TO_BUCKET=bucket:backups/a/b/",
        "HTTPS_PROXY=http://proxy.example.org:3128",
    ):
        assert f'Environment="{line}"\n' in service(step)
    (authority,) = (file for file in step.files if file.path == layout.BACKUP_AUTHORITY)
    assert authority.content.strip() == PEM.strip()
    (timer,) = step.units
    assert layout.BACKUP_AUTHORITY in timer.needs
