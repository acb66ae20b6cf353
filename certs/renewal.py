"""Decides for each key and certificate whether it is kept, renewed, replaced or dropped.

A decision depends on the kept certificates, on the table of certificates and on the current time.
It makes nothing and needs no kept private key, so a preview can show it. ``renewed`` and
``renewed_authorities`` then carry the decisions out. The first of these cases that applies to a
certificate decides; a case that breaks more comes earlier:

1. the table has no row for it: *drop*;
2. no certificate is kept: *issue*;
3. the authority has changed: *replace*, since nobody would accept the certificate;
4. the names have changed: *reissue*, since some would not accept it;
5. it is due, or begins in the future: *renew*;
6. else *keep* it, byte for byte.

Authorities are decided and renewed first, since they sign the other certificates.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.authority import (
    issued,
    new_authority,
    new_encryption_key,
    new_service_account_pair,
    prolonged,
)
from certs.bundle import Authorities, Bundle, BundleError, EncryptionKeys, Pair, Signer
from certs.names import difference
from certs.table import Authority, Row

DUE = 1 / 3
"""A certificate is due for renewal when less than this part of its lifetime is left.

A leaf certificate is valid for a year, so four months are left. Kubernetes releases a minor version
every four months, so a cluster that is upgraded to each of them never has an expired certificate.
An authority is valid for ten years, so more than three years are left, and a leaf that is signed
for a year always expires before its authority.
"""

SERVICE_ACCOUNT, ENCRYPTION = "service-account", "encryption"
"""The names of the two keys without a certificate in the decisions on authorities."""


class Action(StrEnum):
    """What happens to a key and its certificate."""

    KEEP = "keep"
    RENEW = "renew"
    REISSUE = "reissue"
    REPLACE = "replace"
    ISSUE = "issue"
    DROP = "drop"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The action for one key and its certificate, and its reason; contains no secret."""

    name: str
    """The name of the row, of the authority or of the key without a certificate."""
    action: Action
    why: str
    """The reason. It changes only with the decision, so it does not count the days left."""
    row: Row | None = None
    """None for authorities and their keys, and for dropped certificates."""

    def __str__(self) -> str:
        return f"{self.action} {self.name} because {self.why}"


# -- certificates of machines and people ---------------------------------------------------------


def decided(
    rows: Iterable[Row], bundle: Bundle, signers: Mapping[Authority, Signer], now: datetime
) -> tuple[Decision, ...]:
    """A decision for each row, in their order, then one for each kept certificate without a row.

    Raises BundleError where a kept certificate is damaged.
    """
    rows = tuple(rows)
    names = {row.name for row in rows}
    certificates = {
        authority: _read(signer.certificate, f"the authority {authority}")
        for authority, signer in signers.items()
    }

    def decision(row: Row) -> Decision:
        action, why = _of_row(row, bundle.pairs.get(row.name), certificates[row.issuer], now)
        return Decision(name=row.name, action=action, why=why, row=row)

    return (
        *map(decision, rows),
        *(
            Decision(name=name, action=Action.DROP, why="nobody needs it")
            for name in sorted(bundle.pairs.keys() - names)
        ),
    )


def renewed(
    bundle: Bundle,
    decisions: Iterable[Decision],
    signers: Mapping[Authority, Signer],
    now: datetime,
) -> Bundle:
    """The bundle after these decisions; kept certificates stay the same byte for byte.

    Raises BundleError where an authority that would have to sign has expired.
    """

    def pair(row: Row, action: Action) -> Pair:
        if action is Action.KEEP:
            return bundle.pairs[row.name]
        return issued(row, signers[row.issuer], now)

    return Bundle(
        {
            decision.name: pair(decision.row, decision.action)
            for decision in decisions
            if decision.row
        }
    )


def _of_row(
    row: Row, kept: Pair | None, authority: x509.Certificate, now: datetime
) -> tuple[Action, str]:
    if kept is None:
        return Action.ISSUE, "it is new"
    certificate = _read(kept.certificate, row.name)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not _signed_by(certificate, authority):
        return Action.REPLACE, f"its authority {row.issuer} changed"
    if changed := difference(row, certificate):
        return Action.REISSUE, f"its names changed: {changed}"
    if begin > now:
        return Action.RENEW, _begins(begin)
    if end <= now:
        return Action.RENEW, f"it expired on {_day(end)}"
    # A certificate cannot outlive its authority. So a certificate that ends with its authority is
    # kept, since renewal would not extend it.
    if _due(certificate, now) and end < authority.not_valid_after_utc:
        return Action.RENEW, f"it expires on {_day(end)}"
    return Action.KEEP, f"it is valid until {_day(end)}"


# -- authorities and the cluster's other keys ----------------------------------------------------


def decided_authorities(
    held: Authorities | None, now: datetime, encryption: int = 1
) -> tuple[Decision, ...]:
    """A decision for each authority, for the service accounts' key pair and the encryption key.

    ``encryption`` is the number of the encryption key that the spec declares. Raises BundleError
    where a kept authority is damaged.
    """

    def decision(authority: Authority) -> Decision:
        action, why = _of_authority(authority, held.signers[authority] if held else None, now)
        return Decision(name=authority, action=action, why=why)

    of_key = (Action.KEEP, "it never expires") if held else (Action.ISSUE, "it is new")
    of_encryption = of_key
    if held and (turned := _turned(held.encryption, encryption)) != held.encryption:
        of_encryption = (
            Action.REPLACE,
            f"it turns over: {stages(held.encryption.current, turned.current)}",
        )
    return (
        *map(decision, Authority),
        Decision(name=SERVICE_ACCOUNT, action=of_key[0], why=of_key[1]),
        Decision(name=ENCRYPTION, action=of_encryption[0], why=of_encryption[1]),
    )


def stages(before: str, after: str) -> str:
    """The stages in which the encryption key turns over, from one name to another, in order."""
    return (
        f"{after} is known by all API servers, then used, then all Secrets are rewritten, then "
        f"{before} leaves the machines"
    )


def renewed_authorities(
    held: Authorities | None, decisions: Iterable[Decision], now: datetime, encryption: int = 1
) -> Authorities:
    """The authorities after these decisions; kept ones stay the same byte for byte.

    ``encryption`` is the number of the encryption key that the spec declares.
    """
    if held is None:
        name = key_name(encryption)
        return Authorities(
            signers={authority: new_authority(authority, now) for authority in Authority},
            service_account=new_service_account_pair(),
            encryption=EncryptionKeys(keys={name: new_encryption_key()}, current=name),
        )
    renewing = {decision.name for decision in decisions if decision.action is Action.RENEW}
    return replace(
        held,
        signers={
            authority: prolonged(signer, now) if authority in renewing else signer
            for authority, signer in held.signers.items()
        },
        encryption=_turned(held.encryption, encryption),
    )


def key_name(number: int) -> str:
    """The name of the encryption key with this number."""
    return f"key{number}"


def _turned(held: EncryptionKeys, number: int) -> EncryptionKeys:
    """The keys with the one of this number as the current one; it is made where it never was."""
    name = key_name(number)
    if held.current == name:
        return held
    keys = held.keys if name in held.keys else {**held.keys, name: new_encryption_key()}
    return EncryptionKeys(keys=keys, current=name, turn=held.turn + 1)


def _of_authority(authority: Authority, kept: Signer | None, now: datetime) -> tuple[Action, str]:
    if kept is None:
        return Action.ISSUE, "it is new"
    certificate = _read(kept.certificate, f"the authority {authority}")
    begin, end = certificate.not_valid_before_utc, _day(certificate.not_valid_after_utc)
    if begin > now:
        return Action.RENEW, f"{_begins(begin)}; its key stays, and so does all that it signed"
    if _due(certificate, now):
        return Action.RENEW, f"it expires on {end}; its key stays, and so does all that it signed"
    return Action.KEEP, f"it is valid until {end}"


# -- reading certificates ------------------------------------------------------------------------


def _read(pem: str, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise BundleError(f"{what} is not a certificate in PEM: {error}") from error


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _due(certificate: x509.Certificate, now: datetime) -> bool:
    end = certificate.not_valid_after_utc
    return end - now < (end - certificate.not_valid_before_utc) * DUE


def _begins(begin: datetime) -> str:
    """The reason for renewing a certificate that is not valid yet.

    Nobody accepts it before ``begin``, and the clock of this machine may have been corrected since
    it was made.
    """
    return (
        f"it is valid from {begin:%Y-%m-%d %H:%M} UTC on only, so this machine's clock was ahead "
        "when it was made, or is behind now"
    )


def _day(end: datetime) -> str:
    return f"{end:%Y-%m-%d}"
