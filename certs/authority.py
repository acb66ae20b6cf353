"""Makes authorities, certificates and keys: ECDSA P-256, with the extensions of RFC 5280.

The current time is an argument. Randomness for keys and serial numbers comes from the operating
system.
"""

import secrets
from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.bundle import BundleError, Pair, ServiceAccountPair, Signer
from certs.table import AUTHORITY_LIFETIME, Authority, Row, Use, common_name

BACKDATED = timedelta(minutes=5)
"""The validity of a certificate begins this long before its creation, since a machine's clock may
be behind at its first boot (kubernetes#76714)."""

USES = {Use.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Use.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


def new_authority(authority: Authority, now: datetime, number: int = 1) -> Signer:
    """An authority with a new key. ``now`` is aware of its time zone."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(authority, number))])
    public = key.public_key()
    itself = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    certificate = (
        _begun(name, name, key, now)
        .not_valid_after(_end(now))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(itself, critical=False)
        .sign(key, SHA256())
    )
    return Signer(certificate=_pem(certificate), key=_private(key), number=number)


def prolonged(signer: Signer, now: datetime) -> Signer:
    """The same authority with a certificate that ends later.

    Name, key and extensions stay, so the certificates that the authority has signed stay valid.
    ``now`` is aware of its time zone.
    """
    key = _key_of(signer)
    old = x509.load_pem_x509_certificate(signer.certificate.encode())
    longer = _begun(old.subject, old.subject, key, now).not_valid_after(_end(now))
    for extension in old.extensions:
        longer = longer.add_extension(extension.value, critical=extension.critical)
    return replace(signer, certificate=_pem(longer.sign(key, SHA256())))


def issued(row: Row, signer: Signer, now: datetime) -> Pair:
    """A new key and its certificate for a row of the table.

    The certificate ends no later than that of its authority. ``now`` is aware of its time zone.
    Raises BundleError where the authority has expired.
    """
    authority = x509.load_pem_x509_certificate(signer.certificate.encode())
    authority_key = _key_of(signer)
    if authority.not_valid_after_utc <= now:
        raise BundleError(
            f"the authority {row.issuer} ended on {authority.not_valid_after_utc:%Y-%m-%d}, so "
            f"nobody would accept {row.name}; renew the authority first"
        )
    key = _new_key()
    certificate = (
        _begun(_subject(row), authority.subject, key, now)
        .not_valid_after(min(_whole_seconds(now) + row.lifetime, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # ECDSA never enciphers a key, but the Kubernetes documentation requires this usage for
        # every leaf.
        .add_extension(_key_usage("digital_signature", "key_encipherment"), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([USES[use] for use in Use if use in row.uses]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    if row.dns_names or row.addresses:
        names = [*map(x509.DNSName, row.dns_names), *map(x509.IPAddress, row.addresses)]
        certificate = certificate.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(certificate=_pem(certificate.sign(authority_key, SHA256())), key=_private(key))


def new_service_account_pair() -> ServiceAccountPair:
    """A new key pair for service account tokens."""
    key = _new_key()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return ServiceAccountPair(public=public.decode(), private=_private(key))


def new_encryption_key() -> str:
    """A new key for secretbox: 32 bytes in base64."""
    return b64encode(secrets.token_bytes(32)).decode()


def _end(now: datetime) -> datetime:
    return _whole_seconds(now) + AUTHORITY_LIFETIME


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    """A certificate builder with the fields that all certificates have."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_whole_seconds(now) - BACKDATED)
    )


def _subject(row: Row) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, row.common_name)]
    if row.organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, row.organization))
    return x509.Name(parts)


def _key_usage(*usages: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{usage: usage in usages for usage in every.split()})


def _whole_seconds(now: datetime) -> datetime:
    """The time without fractions of a second, which certificates cannot express.

    Raises ValueError where ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now must be aware of its time zone")
    return now.replace(microsecond=0)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _key_of(signer: Signer) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(signer.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "this module makes no other keys"
    return key


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
