"""The content of secret files, made from keys, certificates and passwords."""

import json
from base64 import b64encode
from collections.abc import Mapping

from certs.backup import BackupKeys
from certs.bundle import Authorities, Bundle
from certs.encryption import current_configuration, whole_configuration
from certs.kubeconfig import kubeconfig
from certs.passwords import derived_password
from certs.signing import private_key, public_keys, whole_pairs
from certs.table import Authority
from plan.backup import REMOTE
from plan.model import (
    AllEncryptionKeys,
    AllServiceAccountPairs,
    AuthorityCertificate,
    AuthorityKey,
    BackupLogin,
    BackupRecipient,
    BucketKey,
    Certificate,
    DerivedPassword,
    EncryptionConfiguration,
    Filled,
    Kubeconfig,
    LoginKeys,
    Material,
    PrivateKey,
    RegistryCredentials,
    ServiceAccountKey,
    SigningCertificate,
    Source,
)
from spec.bucket_key import HALVES
from spec.cluster import Cluster


def material(
    cluster: str,
    authorities: Authorities,
    bundle: Bundle,
    passwords: Mapping[str, str] | None = None,
    backups: BackupKeys | None = None,
    bucket: Mapping[str, str] | None = None,
    logins: str = "",
    password_seed: str = "",
) -> Material:
    """A function that returns the content of secret files, for the machine or person of a bundle.

    ``passwords`` are those of registries, by their names; files of backups need ``backups``, and
    one of them ``bucket``, the halves of the access key by their names (``spec.bucket_key``).
    ``logins`` are the public SSH keys that machines let in, a line each; passwords of the program's
    own making need ``password_seed``. The function raises KeyError for a certificate that the
    bundle does not have, and for a password or half that is not given.
    """
    signers, pairs = authorities.signers, bundle.pairs

    def content(source: Source) -> str:
        match source:
            case Certificate(name=name):
                return pairs[name].certificate
            case PrivateKey(name=name):
                return pairs[name].key
            case AuthorityCertificate(authority=name):
                return authorities.trusted(Authority(name))
            case SigningCertificate(authority=name):
                return signers[Authority(name)].certificate
            case AuthorityKey(authority=name):
                return signers[Authority(name)].key
            case ServiceAccountKey(half=half):
                pairs_held = authorities.service_accounts
                return public_keys(pairs_held) if half == "public" else private_key(pairs_held)
            case AllServiceAccountPairs():
                return whole_pairs(authorities.service_accounts)
            case EncryptionConfiguration():
                return current_configuration(authorities.encryption)
            case AllEncryptionKeys():
                return whole_configuration(authorities.encryption)
            case RegistryCredentials(users=users):
                return _credentials(users, passwords or {})
            case BackupRecipient():
                assert backups is not None
                return f"{backups.recipient}\n"
            case BackupLogin():
                assert backups is not None
                return backups.ssh_private
            case BucketKey():
                return _of_rclone(bucket or {})
            case LoginKeys(mark=mark):
                return "".join(f"{line} {mark}\n" for line in logins.splitlines())
            case DerivedPassword(name=name, number=number):
                assert password_seed
                return derived_password(password_seed, name, number)
            case Kubeconfig(certificate=name, server=server):
                return kubeconfig(
                    cluster_name=cluster,
                    server=server,
                    authority_pem=authorities.trusted(Authority.KUBERNETES),
                    certificate_pem=pairs[name].certificate,
                    key_pem=pairs[name].key,
                    user=name,
                )
            case Filled(template=template, values=values):
                for mark, value in values:
                    template = template.replace(mark, b64encode(content(value).encode()).decode())
                return f"{template}\n"

    return content


DOCKER_HUB = "https://index.docker.io/v1/"
"""What the file calls docker.io."""


def _credentials(users: tuple[tuple[str, str], ...], passwords: Mapping[str, str]) -> str:
    """Docker's ``config.json`` with these users of registries."""
    known = {
        DOCKER_HUB if name == "docker.io" else name: {
            "auth": b64encode(f"{user}:{passwords[name]}".encode()).decode()
        }
        for name, user in users
    }
    return json.dumps({"auths": known}, indent=1) + "\n"


def _of_rclone(halves: Mapping[str, str]) -> str:
    """The configuration of rclone with a remote of S3 and its access key, and no other setting."""
    lines = [f"[{REMOTE}]", "type = s3", *(f"{half} = {halves[half]}" for half in HALVES)]
    return "".join(f"{line}\n" for line in lines)


def kept_material(
    cluster: str,
    authorities: str,
    bundle: str,
    passwords: Mapping[str, str] | None = None,
    backups: str | None = None,
    bucket: Mapping[str, str] | None = None,
    logins: str = "",
    password_seed: str = "",
) -> Material:
    """The result of ``material`` for the JSON texts that a state keeps (``certs.tracked``).

    Raises BundleError where the state is damaged.
    """
    return material(
        cluster,
        Authorities.from_state(json.loads(authorities)),
        Bundle.from_state(json.loads(bundle)),
        passwords,
        BackupKeys.from_state(json.loads(backups)) if backups else None,
        bucket,
        logins,
        password_seed,
    )


def admin_kubeconfig(
    spec: Cluster, authorities: str, people: str, certificate: str = "admin"
) -> str:
    """The kubeconfig for people, with the cluster's endpoint and the keys that a state keeps.

    ``certificate`` is the name of a row of ``certs.table.FOR_PEOPLE``.
    """
    return kept_material(spec.name, authorities, people)(Kubeconfig(certificate, spec.api_url))
