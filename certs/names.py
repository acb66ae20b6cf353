"""The names and uses in a certificate, as words that can be compared and shown."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.authority import USES
from certs.table import Row

Words = frozenset[str]
"""Words such as ``CN=kube-apiserver``, ``O=system:nodes``, ``DNS:master``, ``IP:10.0.0.1`` and
``use:server``."""


def wanted(row: Row) -> Words:
    """The words that the certificate of a row must have."""
    return frozenset(
        [f"CN={row.common_name}"]
        + ([f"O={row.organization}"] if row.organization else [])
        + [f"DNS:{name}" for name in row.dns_names]
        + [f"IP:{address}" for address in row.addresses]
        + [f"use:{use}" for use in row.uses]
    )


def words_of(certificate: x509.Certificate) -> Words:
    """The words of a certificate."""
    subject = certificate.subject
    by_identifier = {identifier: f"use:{use}" for use, identifier in USES.items()}
    return frozenset(
        [f"CN={name.value!s}" for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        + [
            f"O={name.value!s}"
            for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ]
        + [_word(name) for name in _alternatives(certificate)]
        + [by_identifier.get(use, f"use:{use.dotted_string}") for use in _uses(certificate)]
    )


def difference(row: Row, certificate: x509.Certificate) -> str:
    """The words that the certificate lacks (+) or must not have (-), sorted; empty if it fits."""
    have, want = words_of(certificate), wanted(row)
    return " ".join(
        [f"+{word}" for word in sorted(want - have)] + [f"-{word}" for word in sorted(have - want)]
    )


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except x509.ExtensionNotFound:
        return []


def _uses(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _word(name: x509.GeneralName) -> str:
    kind = {x509.DNSName: "DNS", x509.IPAddress: "IP"}.get(type(name), type(name).__name__)
    return f"{kind}:{name.value}"
