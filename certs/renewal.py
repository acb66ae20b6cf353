"""Decides for each key and certificate whether it is kept, renewed, replaced or dropped.

A decision depends on the kept certificates, on the table of certificates and on the current time.
It makes nothing and needs no kept private key, so a preview can show it. ``renewed`` and
``renewed_authorities`` then carry out what was decided. The first of these cases that applies to a
certificate decides; a case that breaks more comes earlier:

1. the table has no row for it: *drop*;
2. no certificate is kept: *issue*;
3. the authority has changed: *replace*, since nobody would accept the certificate;
4. the names have changed: *reissue*, since some would not accept it;
5. it is due, or begins in the future: *renew*;
6. else *keep* it, byte for byte.

Authorities are decided and renewed first, since they sign the other certificates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.authority import (
    issued,
    new_authority,
    new_encryption_key,
    new_service_account_pair,
    prolonged,
)
from certs.bundle import (
    Authorities,
    Bundle,
    BundleError,
    EncryptionKeys,
    KeyRing,
    Pair,
    ServiceAccountPairs,
    Signer,
)
from certs.names import difference
from certs.signing import TRUSTED
from certs.table import Authority, Row
from spec.description import FIRST
from spec.refusal import listed

DUE = 1 / 3
"""A certificate is due for renewal when less than this part of its lifetime is left.

A leaf certificate is valid for a year, so four months are left. Kubernetes releases a minor version
every four months, so a cluster that is upgraded to each of them never has an expired certificate.
An authority is valid for ten years, so more than three years are left, and a leaf that is signed
for a year always expires before its authority.
"""

SERVICE_ACCOUNT, ENCRYPTION = "service-account", "encryption"
"""The names of the two kinds of keys without a certificate in the decisions on authorities."""

R = TypeVar("R", bound=KeyRing[Any])


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


Numbers = Mapping[Authority, tuple[int, ...]]
"""The numbers of each authority that the spec declares: first of the one that signs, then of those
that are trusted as well. An authority that is absent is the first, alone."""


def decided_authorities(
    held: Authorities | None,
    now: datetime,
    encryption: int = 1,
    service_accounts: int = 1,
    authorities: Numbers | None = None,
) -> tuple[Decision, ...]:
    """A decision for each authority, for the service accounts' key pair and the encryption key.

    ``encryption`` and ``service_accounts`` are the numbers of these keys that the spec declares.
    Raises BundleError where a kept authority is damaged.
    """
    numbers = authorities or {}

    def decision(authority: Authority) -> Decision:
        wanted = numbers.get(authority, FIRST)
        if held and (why := turned_over(held.numbers(authority), wanted)):
            return Decision(name=authority, action=Action.REPLACE, why=why)
        action, why = _of_authority(authority, held.signers[authority] if held else None, now)
        for signer in held.also_trusted.get(authority, ()) if held else ():
            its, reason = _of_authority(authority, signer, now)
            if action is Action.KEEP and its is not Action.KEEP:
                action, why = its, f"number {signer.number} is trusted as well, and {reason}"
        return Decision(name=authority, action=action, why=why)

    of_key = (Action.KEEP, "it never expires") if held else (Action.ISSUE, "it is new")
    of_pair = of_encryption = of_key
    if held and (why := _of_pair(held.service_accounts, service_accounts, now)):
        of_pair = Action.REPLACE, why
    if held and (key := key_name(encryption)) != held.encryption.current:
        of_encryption = Action.REPLACE, f"it turns over: {stages(held.encryption.current, key)}"
    return (
        *map(decision, Authority),
        Decision(name=SERVICE_ACCOUNT, action=of_pair[0], why=of_pair[1]),
        Decision(name=ENCRYPTION, action=of_encryption[0], why=of_encryption[1]),
    )


def stages(before: str, after: str) -> str:
    """The stages in which the encryption key turns over, from one name to another, in order."""
    return (
        f"{after} is known by all API servers, then used, then all Secrets are rewritten, then "
        f"{before} leaves the machines"
    )


def signing_stages(before: str, after: str) -> str:
    """The stages in which the service accounts' key pair turns over, in order."""
    return f"{after} is trusted by all API servers beside {before}, then signs"


def turned_over(before: Sequence[int], after: Sequence[int]) -> str:
    """What becomes of an authority whose numbers change; empty where it stays as it is."""
    joined, left = sorted({*after} - {*before}), sorted({*before} - {*after})
    parts = [
        f"number {after[0]} signs in place of {before[0]}" if after[0] != before[0] else "",
        f"{_numbered(joined)} trusted as well" if joined else "",
        f"{_numbered(left)} not trusted any more" if left else "",
    ]
    return ", and ".join(filter(None, parts))


def _numbered(numbers: Sequence[int]) -> str:
    names = listed([str(number) for number in numbers], "and")
    return f"number {names} is" if len(numbers) == 1 else f"numbers {names} are"


def renewed_authorities(
    held: Authorities | None,
    now: datetime,
    encryption: int = 1,
    service_accounts: int = 1,
    authorities: Numbers | None = None,
) -> Authorities:
    """The authorities after what is decided about them; kept ones stay the same byte for byte.

    ``encryption`` and ``service_accounts`` are the numbers of these keys that the spec declares.
    """
    if held is None:
        key, pair = key_name(encryption), pair_name(service_accounts)
        signers, also_trusted = _signers({}, authorities or {}, now)
        return Authorities(
            signers=signers,
            also_trusted=also_trusted,
            service_accounts=ServiceAccountPairs(
                keys={pair: new_service_account_pair()}, current=pair
            ),
            encryption=EncryptionKeys(keys={key: new_encryption_key()}, current=key),
        )
    # Also those that turn over at the same time.
    kept = {
        (authority, signer.number): prolonged(signer, now)
        if _of_authority(authority, signer, now)[0] is Action.RENEW
        else signer
        for authority in Authority
        for signer in held.every(authority)
    }
    signers, also_trusted = _signers(kept, authorities or {}, now)
    return replace(
        held,
        signers=signers,
        also_trusted=also_trusted,
        service_accounts=_signing(held.service_accounts, service_accounts, now),
        encryption=_turned(held.encryption, encryption),
    )


def _signers(
    kept: Mapping[tuple[Authority, int], Signer], numbers: Numbers, now: datetime
) -> tuple[dict[Authority, Signer], dict[Authority, tuple[Signer, ...]]]:
    """The authorities that sign, and those that are trusted beside them.

    Those that are not kept are made. An authority that the spec no longer names is gone for good:
    its number would come back with another key.
    """
    every = {
        authority: [
            kept.get((authority, number)) or new_authority(authority, now, number)
            for number in numbers.get(authority, FIRST)
        ]
        for authority in Authority
    }
    return (
        {authority: signers[0] for authority, signers in every.items()},
        {authority: tuple(signers[1:]) for authority, signers in every.items() if signers[1:]},
    )


def key_name(number: int) -> str:
    """The name of the encryption key with this number."""
    return f"key{number}"


def pair_name(number: int) -> str:
    """The name of the service accounts' key pair with this number."""
    return f"pair{number}"


def _turned(held: EncryptionKeys, number: int) -> EncryptionKeys:
    """The keys with the one of this number as the current one."""
    return _with_current(held, key_name(number), new_encryption_key)


def _signing(held: ServiceAccountPairs, number: int, now: datetime) -> ServiceAccountPairs:
    """The pairs with the one of this number as the current one.

    Those of before stay trusted as long as there may be tokens that they signed.
    """
    turned = _with_current(held, pair_name(number), new_service_account_pair)
    if turned is not held:
        former = tuple(sorted({*held.trusted} - {turned.current}))
        return replace(turned, since=now.replace(microsecond=0), former=former)
    if _is_outlived(held, now):
        return replace(held, turn=held.turn + 1, since=None, former=())
    return held


def _is_outlived(held: ServiceAccountPairs, now: datetime) -> bool:
    """Whether no token in use was signed by a former pair."""
    return held.since is not None and now >= held.since + TRUSTED


def _with_current(held: R, name: str, make: Callable[[], Any]) -> R:
    """The keys with the one of this name as the current one; it is made where it never was."""
    if held.current == name:
        return held
    keys = held.keys if name in held.keys else {**held.keys, name: make()}
    return replace(held, keys=keys, current=name, turn=held.turn + 1)


def _of_pair(held: ServiceAccountPairs, number: int, now: datetime) -> str:
    """Why the service accounts' pairs change; empty where they do not."""
    name = pair_name(number)
    if name != held.current:
        return (
            f"it turns over: {signing_stages(held.current, name)}; the first update after "
            f"{moment(now + TRUSTED)} ends the trust in tokens of before"
        )
    if _is_outlived(held, now):
        return (
            f"{name} has signed all tokens in use, so no other one is trusted any more: "
            f"{listed(held.former, 'and')}"
        )
    return ""


def moment(when: datetime) -> str:
    """A time for people, to the minute."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


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
        f"it is valid from {moment(begin)} on only, so this machine's clock was ahead "
        "when it was made, or is behind now"
    )


def _day(end: datetime) -> str:
    return f"{end:%Y-%m-%d}"
