"""The identity step, which installs the keys, certificates and passwords of a machine."""

from collections.abc import Iterator
from typing import Any

from certs.table import held_by
from plan import apiserver, backup, controller_manager, etcd, layout, registries, turn
from plan.artifact import artifacts
from plan.model import (
    AuthorityCertificate,
    AuthorityKey,
    BackupLogin,
    BackupRecipient,
    BucketKey,
    Certificate,
    EncryptionConfiguration,
    LoginKeys,
    Logins,
    PrivateKey,
    SecretFile,
    ServiceAccountKey,
    SigningCertificate,
    Step,
)
from plan.walk import walk
from spec.backup import BackupBucket, BackupDestination
from spec.cluster import Cluster

NAME = "identity"
MEMBER = "etcd:etcd"


def step(spec: Cluster, node: str) -> Step:
    """Every key, certificate and password of a machine."""
    member = node in spec.etcd_members
    # A control plane may be new, or made anew, while keys turn over, and takes part before another
    # step brings this program.
    asks = spec.keys is not None and node in spec.control_planes
    return Step(
        name=NAME,
        users=("etcd",) if member else (),
        artifacts=artifacts(spec, (turn.LOCK_PROGRAM,)) if asks else (),
        secret_files=tuple(_files(spec, node)),
        logins=_logins(spec, node),
        walk=walk(spec, node, apiserver.UNIT),
        turns=(*etcd.turns(spec, node), *apiserver.turns(spec, node)),
        **_two_authorities(spec, node),
        script="identity",
    )


def _logins(spec: Cluster, node: str) -> Logins | None:
    """The SSH keys that the machine lets in, where the spec says which.

    Otherwise they are those of its first boot, or of its attachment.
    """
    if spec.ssh_keys is None:
        return None
    return Logins(user=spec.login_of(node).user, keys=LoginKeys(layout.login_mark(spec.name)))


def _two_authorities(spec: Cluster, node: str) -> dict[str, Any]:
    """What refuses a second authority where an earlier program brought the controller manager."""
    if node not in spec.control_planes or len(spec.authority_numbers.kubernetes) == 1:
        return {}
    settings = {
        "controllers": f"{layout.UNITS}/{controller_manager.UNIT}",
        "signing": layout.SIGNING_AUTHORITY,
    }
    return {"begin": "second-authority", "settings": settings}


def turning(spec: Cluster, node: str) -> Step:
    """A part of the step: the keys of a control plane turn over, wherever they stand."""
    whole = step(spec, node)
    paths = (layout.ENCRYPTION, layout.SERVICE_ACCOUNT_PRIVATE, layout.SERVICE_ACCOUNT_PUBLIC)
    return Step(
        name=NAME,
        secret_files=tuple(file for file in whole.secret_files if file.path in paths),
        walk=whole.walk,
        turns=apiserver.turns(spec, node),
        script=whole.script,
        alone=False,
    )


def _files(spec: Cluster, node: str) -> Iterator[SecretFile]:
    """The secret files in the order of their installation: of each pair, the key comes first."""
    yield from _of_components(spec, node)
    if node in spec.etcd_members:
        yield SecretFile(
            path=layout.MEMBER_AUTHORITY,
            source=AuthorityCertificate("etcd"),
            mode=0o644,
            owner=MEMBER,
        )
    if node in spec.control_planes:
        yield SecretFile(path=layout.AUTHORITY_KEY, source=AuthorityKey("kubernetes"))
        yield _public(layout.SIGNING_AUTHORITY, SigningCertificate("kubernetes"))
    if node in spec.nodes:
        yield _public(layout.AUTHORITY, AuthorityCertificate("kubernetes"))
        yield from registries.credentials(spec)
    if node in spec.control_planes or (node in spec.nodes and spec.flannel.store == "etcd"):
        yield _public(layout.ETCD_AUTHORITY, AuthorityCertificate("etcd"))
    if node in spec.control_planes:
        yield _public(layout.FRONT_PROXY_AUTHORITY, AuthorityCertificate("front-proxy"))
        yield SecretFile(path=layout.SERVICE_ACCOUNT_PRIVATE, source=ServiceAccountKey("private"))
        yield _public(layout.SERVICE_ACCOUNT_PUBLIC, ServiceAccountKey("public"))
        yield SecretFile(path=layout.ENCRYPTION, source=EncryptionConfiguration())
    if node == backup.member(spec):
        match backup.destination(spec):
            case BackupDestination():
                yield SecretFile(path=layout.BACKUP_LOGIN, source=BackupLogin())
            case BackupBucket():
                yield SecretFile(path=layout.BACKUP_BUCKET, source=BucketKey())
        yield SecretFile(path=layout.BACKUP_RECIPIENT, source=BackupRecipient(), mode=0o644)


def _of_components(spec: Cluster, node: str) -> Iterator[SecretFile]:
    for row in held_by(spec, node):
        owner = MEMBER if row.name.startswith("etcd-") else "root:root"
        yield SecretFile(
            path=layout.private_key(row.name), source=PrivateKey(row.name), owner=owner
        )
        yield SecretFile(
            path=layout.certificate(row.name),
            source=Certificate(row.name),
            mode=0o644,
            owner=owner,
        )


def _public(
    path: str, source: AuthorityCertificate | SigningCertificate | ServiceAccountKey
) -> SecretFile:
    return SecretFile(path=path, source=source, mode=0o644)
