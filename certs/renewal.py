"""Decides for each key and certificate whether it is kept, renewed, replaced or dropped.

A decision depends on the kept certificates, on the table of certificates and on the current time.
It makes nothing and needs no kept private key, so a preview can show it. ``renewed`` and
``renewed_authorities`` then carry the decisions out. The first of these cases that applies to a
certificate decides; a case that breaks more comes earlier:

1. a person has supplied the certificate: *take* it, or leave the kept copy and *warn* when it is
   due;
2. the table has no row for it: *drop*;
3. no certificate is kept: *issue*;
4. the authority has changed: *replace*, since nobody would accept the certificate;
5. the names have changed: *reissue*, since some would not accept it;
6. it is due, or begins in the future: *renew*, or *warn* where its authority is external;
7. else *keep* it, byte for byte.

Authorities are decided and renewed first, since they sign the other certificates. A certificate of
an external authority only causes a warning until it expires, since this program cannot sign
another one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs.authority import (
    issued,
    new_authority,
    new_encryption_key,
    new_service_account_pair,
    prolonged,
)
from certs.bundle import Authorities, Bundle, BundleError, Pair, Signer
from certs.names import difference
from certs.table import Authority, Row

DUE = 1 / 3
"""A certificate is due for renewal when less than this part of its lifetime is left.

A leaf certificate is valid for a year, so four months are left. Kubernetes releases a minor version
every four months, so a cluster that is upgraded to each of them never has an expired certificate.
An authority is valid for ten years, so more than three years are left, and a leaf that is signed
for a year always expires before its authority.
"""

OR_ELSE = "set this machine's clock if it is behind, wait until then, or supply another"

SERVICE_ACCOUNT, ENCRYPTION = "service-account", "encryption"
"""The names of the two keys without a certificate in the decisions on authorities."""


class Action(StrEnum):
    """What happens to a key and its certificate."""

    KEEP = "keep"
    RENEW = "renew"
    REISSUE = "reissue"
    REPLACE = "replace"
    ISSUE = "issue"
    TAKE = "take"
    WARN = "warn about"
    DROP = "drop"


SIGNED = frozenset({Action.ISSUE, Action.REPLACE, Action.REISSUE, Action.RENEW})
"""The actions that need the authority's private key."""


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
    rows: Iterable[Row],
    bundle: Bundle,
    authorities: Authorities,
    now: datetime,
    supplied: Mapping[str, Pair] | None = None,
) -> tuple[Decision, ...]:
    """A decision for each row, in their order, then one for each kept certificate without a row.

    ``supplied`` maps row names to certificates that an external authority has signed and a person
    brings. Raises BundleError where a supplied certificate does not fit.
    """
    brought = supplied or {}
    rows = tuple(rows)
    names = {row.name for row in rows}
    if unknown := sorted(brought.keys() - names):
        raise BundleError(
            f"no certificate is called {', '.join(unknown)} here; supply some of "
            f"{', '.join(sorted(names))}"
        )
    signers = {
        authority: _read(signer.certificate, f"the authority {authority}")
        for authority, signer in authorities.signers.items()
    }
    external = {
        authority for authority, signer in authorities.signers.items() if signer.key is None
    }

    def decision(row: Row) -> Decision:
        kept, candidate = bundle.pairs.get(row.name), brought.get(row.name)
        authority = signers[row.issuer]
        if candidate:
            action, why = _of_supplied(row, candidate, kept, authority, now)
        else:
            action, why = _of_row(row, kept, authority, row.issuer in external, now)
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
    authorities: Authorities,
    now: datetime,
    supplied: Mapping[str, Pair] | None = None,
) -> Bundle:
    """The bundle after these decisions; kept certificates stay the same byte for byte.

    Raises BundleError, which names all certificates that an external authority would have to sign.
    """
    decisions = tuple(decisions)
    if sentence := missing(decisions, authorities):
        raise BundleError(sentence)

    def pair(row: Row, action: Action) -> Pair:
        if action in SIGNED:
            return issued(row, authorities.signers[row.issuer], now)
        return (supplied or {})[row.name] if action is Action.TAKE else bundle.pairs[row.name]

    return Bundle(
        {
            decision.name: pair(decision.row, decision.action)
            for decision in decisions
            if decision.row
        }
    )


def missing(decisions: Iterable[Decision], authorities: Authorities) -> str | None:
    """A sentence that names the certificates which a person must supply first, or None.

    Without them these decisions cannot be carried out. Takes the decisions of one bundle or of
    several bundles together.
    """
    rows = [
        decision.row
        for decision in decisions
        if decision.row
        and decision.action in SIGNED
        and authorities.signers[decision.row.issuer].key is None
    ]
    if not rows:
        return None
    keys = " and ".join(sorted({row.issuer for row in rows}))
    names = ", ".join(f"{row.name} of {row.node}" if row.node else row.name for row in rows)
    return (
        f"the key of {keys} is external, so nothing can be signed here: "
        f"supply certificate and key of {names}"
    )


def _of_row(
    row: Row, kept: Pair | None, authority: x509.Certificate, external: bool, now: datetime
) -> tuple[Action, str]:
    if kept is None:
        return Action.ISSUE, "it is new"
    certificate = _read(kept.certificate, row.name)
    end = certificate.not_valid_after_utc
    if not _signed_by(certificate, authority):
        return Action.REPLACE, f"its authority {row.issuer} changed"
    if changed := difference(row, certificate):
        return Action.REISSUE, f"its names changed: {changed}"
    begin = certificate.not_valid_before_utc
    if begin > now and external:
        return Action.WARN, f"{_begins(begin)}, and {row.issuer} is external: supply another"
    if begin > now:
        return Action.RENEW, _begins(begin)
    if end <= now:
        return Action.RENEW, f"it expired on {_day(end)}"
    if _due(certificate, now) and external:
        return (
            Action.WARN,
            f"it expires on {_day(end)} and {row.issuer} is external: supply another",
        )
    # A certificate cannot outlive its authority. So a certificate that ends with its authority is
    # kept, since renewal would not extend it.
    if _due(certificate, now) and end < authority.not_valid_after_utc:
        return Action.RENEW, f"it expires on {_day(end)}"
    return Action.KEEP, f"it is valid until {_day(end)}"


def _of_supplied(
    row: Row, candidate: Pair, kept: Pair | None, authority: x509.Certificate, now: datetime
) -> tuple[Action, str]:
    """The action for a supplied certificate. Raises BundleError where it does not fit the row."""
    where = f"the supplied certificate {row.name}" + (f" of {row.node}" if row.node else "")
    certificate = _read(candidate.certificate, where)
    if not _belongs(certificate, candidate.key):
        raise BundleError(f"{where} has another key than the one supplied with it")
    if not _signed_by(certificate, authority):
        raise BundleError(f"{where} is not signed by the authority {row.issuer}")
    if changed := difference(row, certificate):
        raise BundleError(f"{where} has other names than it must have: {changed}")
    return _taken(where, certificate, now, known=candidate == kept)


# -- authorities and the cluster's other keys ----------------------------------------------------


def decided_authorities(
    held: Authorities | None, now: datetime, supplied: Mapping[Authority, Signer] | None = None
) -> tuple[Decision, ...]:
    """A decision for each authority, for the service accounts' key pair and the encryption key.

    ``supplied`` holds authorities that a person brings, with their private key or, if external,
    without it. Raises BundleError where a supplied authority does not fit.
    """
    brought = supplied or {}

    def decision(authority: Authority) -> Decision:
        kept = held.signers[authority] if held else None
        if candidate := brought.get(authority):
            action, why = _of_supplied_authority(authority, candidate, kept, now)
        else:
            action, why = _of_authority(authority, kept, now)
        return Decision(name=authority, action=action, why=why)

    of_key = (Action.KEEP, "it never expires") if held else (Action.ISSUE, "it is new")
    return (
        *map(decision, Authority),
        *(
            Decision(name=name, action=of_key[0], why=of_key[1])
            for name in (SERVICE_ACCOUNT, ENCRYPTION)
        ),
    )


def renewed_authorities(
    held: Authorities | None,
    decisions: Iterable[Decision],
    now: datetime,
    supplied: Mapping[Authority, Signer] | None = None,
) -> Authorities:
    """The authorities after these decisions; kept ones stay the same byte for byte."""
    actions = {decision.name: decision.action for decision in decisions}

    def signer(authority: Authority) -> Signer:
        match actions[authority]:
            case Action.ISSUE:
                return new_authority(authority, now)
            case Action.TAKE:
                return (supplied or {})[authority]
            case action:
                assert held, f"{action} {authority} without authorities"
                kept = held.signers[authority]
                return prolonged(authority, kept, now) if action is Action.RENEW else kept

    return Authorities(
        signers={authority: signer(authority) for authority in Authority},
        service_account=held.service_account if held else new_service_account_pair(),
        encryption_key=held.encryption_key if held else new_encryption_key(),
    )


def _of_authority(authority: Authority, kept: Signer | None, now: datetime) -> tuple[Action, str]:
    if kept is None:
        return Action.ISSUE, "it is new"
    certificate = _read(kept.certificate, f"the authority {authority}")
    end, begin = _day(certificate.not_valid_after_utc), certificate.not_valid_before_utc
    if not _due(certificate, now) and begin <= now:
        return Action.KEEP, f"it is valid until {end}"
    foreign = kept.key is None or certificate.subject != certificate.issuer
    if begin > now:
        if foreign:
            return Action.WARN, f"{_begins(begin)}, and somebody else signs it: supply another"
        return Action.RENEW, f"{_begins(begin)}; its key stays, and so does all that it signed"
    if foreign:
        return Action.WARN, f"it expires on {end} and somebody else signs it: supply another"
    return Action.RENEW, f"it expires on {end}; its key stays, and so does all that it signed"


def _of_supplied_authority(
    authority: Authority, candidate: Signer, kept: Signer | None, now: datetime
) -> tuple[Action, str]:
    """The action for a supplied authority. Raises BundleError where it cannot be an authority."""
    where = f"the supplied authority {authority}"
    certificate = _read(candidate.certificate, where)
    if not _may_sign(certificate):
        raise BundleError(f"{where} may not sign certificates (CA:TRUE, keyCertSign)")
    if candidate.key is not None and not _belongs(certificate, candidate.key):
        raise BundleError(f"{where} has another key than the one supplied with it")
    return _taken(where, certificate, now, known=candidate == kept)


def _taken(
    where: str, certificate: x509.Certificate, now: datetime, *, known: bool
) -> tuple[Action, str]:
    """The action for a supplied certificate that fits.

    Raises BundleError where the certificate has expired, or where it is new and not valid yet.
    """
    end, begin = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if end <= now:
        raise BundleError(f"{where} expired on {_day(end)}; supply another")
    if begin > now and not known:
        raise BundleError(f"{where} is valid from {_minute(begin)} on only; {OR_ELSE}")
    if begin > now:
        return Action.WARN, f"it is valid from {_minute(begin)} on only and is supplied; {OR_ELSE}"
    if not known:
        return Action.TAKE, f"it is supplied and valid until {_day(end)}"
    if _due(certificate, now):
        return Action.WARN, f"it expires on {_day(end)} and is supplied: supply another"
    return Action.KEEP, f"it is valid until {_day(end)}"


# -- reading certificates ------------------------------------------------------------------------


def _read(pem: str, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise BundleError(f"{what} is not a certificate in PEM: {error}") from error


def _belongs(certificate: x509.Certificate, key: str) -> bool:
    try:
        return load_pem_private_key(key.encode(), None).public_key() == certificate.public_key()
    except (ValueError, TypeError):
        return False


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def _due(certificate: x509.Certificate, now: datetime) -> bool:
    end = certificate.not_valid_after_utc
    return end - now < (end - certificate.not_valid_before_utc) * DUE


def _begins(begin: datetime) -> str:
    """The reason for renewing a certificate that is not valid yet.

    Nobody accepts it before ``begin``, and the clock of this machine may have been corrected since
    it was made.
    """
    return (
        f"it is valid from {_minute(begin)} on only, so this machine's clock was ahead "
        "when it was made, or is behind now"
    )


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _day(end: datetime) -> str:
    return f"{end:%Y-%m-%d}"
