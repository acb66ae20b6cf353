"""Every certificate of every cluster before openssl, which knows nothing of the table's code."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pytest

from certs.authority import issued, new_authority, prolonged
from certs.bundle import BundleError
from certs.table import Authority, Row, Use, certificates
from tests.certs.clusters import (
    NOW,
    PEOPLE,
    SHAPES,
    SINGLE,
    Made,
    authorities,
    made,
    rows_of,
)
from tests.certs.openssl import ShownCertificate, accepted, shown

PURPOSE = {Use.SERVER: "sslserver", Use.CLIENT: "sslclient"}
SECONDS = NOW.replace(microsecond=0)


@dataclass(frozen=True)
class Written:
    """A cluster's certificates as files."""

    made: Made
    folder: Path

    @cached_property
    def leaves(self) -> dict[Path, Row]:
        rows = certificates(self.made.spec)
        return {self.folder / f"{row.node or PEOPLE}-{row.name}.pem": row for row in rows}

    def of(self, issuer: Authority, use: Use | None = None) -> dict[Path, Row]:
        return {
            path: row
            for path, row in self.leaves.items()
            if row.issuer is issuer and (use is None or use in row.uses)
        }

    def authority(self, authority: Authority) -> Path:
        return self.folder / f"{authority}-ca.pem"

    @cached_property
    def shown(self) -> dict[Path, ShownCertificate]:
        return dict(zip(self.leaves, shown(self.leaves), strict=True))

    @cached_property
    def shown_authorities(self) -> dict[Authority, ShownCertificate]:
        return dict(zip(Authority, shown(map(self.authority, Authority)), strict=True))

    def write(self) -> "Written":
        for authority, signer in self.made.authorities.signers.items():
            self.authority(authority).write_text(signer.certificate)
        for path, row in self.leaves.items():
            pair = self.made.bundles[row.node or PEOPLE].pairs[row.name]
            path.write_text(pair.certificate)
            path.with_suffix(".key").write_text(pair.key)
        return self


@pytest.fixture(scope="module", params=SHAPES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(made(request.param), tmp_path_factory.mktemp(request.param)).write()


@pytest.mark.parametrize("use", Use)
def test_each_certificate_has_its_purposes_and_no_other(written: Written, use: Use) -> None:
    for issuer in Authority:
        leaves = written.of(issuer)
        fit = accepted(written.authority(issuer), leaves, "-purpose", PURPOSE[use], at=NOW)
        assert fit == set(written.of(issuer, use))


def test_no_certificate_counts_under_another_authority(written: Written) -> None:
    for issuer in Authority:
        others = [path for path, row in written.leaves.items() if row.issuer is not issuer]
        assert accepted(written.authority(issuer), others, at=NOW) == set()


@pytest.mark.parametrize(("option", "kind"), [("-verify_hostname", "dns"), ("-verify_ip", "ip")])
def test_a_server_answers_to_its_names_and_to_no_other(
    written: Written, option: str, kind: str
) -> None:
    def names(row: Row) -> set[str]:
        return set(row.dns_names) if kind == "dns" else set(map(str, row.addresses))

    for issuer in (Authority.KUBERNETES, Authority.ETCD):
        servers = written.of(issuer, Use.SERVER)
        for name in set().union(*map(names, servers.values())):
            fit = accepted(
                written.authority(issuer), servers, "-purpose", "sslserver", option, name, at=NOW
            )
            assert fit == {path for path, row in servers.items() if name in names(row)}, name


EXTENDED = {
    Use.SERVER: "TLS Web Server Authentication",
    Use.CLIENT: "TLS Web Client Authentication",
}


def test_openssl_reads_what_the_row_says(written: Written) -> None:
    for path, row in written.leaves.items():
        text = written.shown[path]
        organization = f"O={row.organization}," if row.organization else ""
        assert text.name("Subject") == f"{organization}CN={row.common_name}"
        assert text.extension("Key Usage") == (True, "Digital Signature, Key Encipherment")
        assert text.extension("Basic Constraints") == (True, "CA:FALSE")
        uses = ", ".join(EXTENDED[use] for use in Use if use in row.uses)
        assert text.extension("Extended Key Usage") == (False, uses)
        names = [f"DNS:{name}" for name in row.dns_names]
        names += [f"IP Address:{address}" for address in row.addresses]
        assert text.extension("Subject Alternative Name") == (False, ", ".join(names))


def test_keys_are_p256_and_signatures_ecdsa(written: Written) -> None:
    for text in (*written.shown.values(), *written.shown_authorities.values()):
        assert text.field("ASN1 OID") == "prime256v1"
        assert text.field("Signature Algorithm") == "ecdsa-with-SHA256"


def test_a_leaf_is_valid_for_a_year_and_a_little_before(written: Written) -> None:
    for text in written.shown.values():
        assert text.date("Not Before") == SECONDS - timedelta(minutes=5)
        assert text.date("Not After") == datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    ca, leaf = written.authority(Authority.KUBERNETES), [written.folder / f"{PEOPLE}-admin.pem"]
    minute = timedelta(minutes=1)
    assert accepted(ca, leaf, at=NOW - 4 * minute)
    assert not accepted(ca, leaf, at=NOW - 6 * minute)
    assert not accepted(ca, leaf, at=NOW + timedelta(days=365) + minute)


def test_an_authority_signs_only_leaves_for_ten_years(written: Written) -> None:
    names = {
        Authority.KUBERNETES: "kubernetes-ca",
        Authority.ETCD: "etcd-ca",
        Authority.FRONT_PROXY: "kubernetes-front-proxy-ca",
    }
    for authority in Authority:
        path, text = written.authority(authority), written.shown_authorities[authority]
        assert text.name("Subject") == text.name("Issuer") == f"CN={names[authority]}"
        assert text.extension("Basic Constraints") == (True, "CA:TRUE, pathlen:0")
        assert text.extension("Key Usage") == (True, "Certificate Sign, CRL Sign")
        assert text.date("Not Before") == SECONDS - timedelta(minutes=5)
        assert text.date("Not After") == SECONDS + timedelta(days=3650)
        assert accepted(path, [path], at=NOW)


def test_identifiers_lead_from_leaf_to_authority(written: Written) -> None:
    for path, row in written.leaves.items():
        authority, text = written.shown_authorities[row.issuer], written.shown[path]
        own = authority.extension("Subject Key Identifier")[1]
        assert text.extension("Authority Key Identifier") == (False, own)
        assert text.extension("Subject Key Identifier")[1] not in ("", own)


def test_serial_numbers_are_random_and_positive(written: Written) -> None:
    serials = [text.serial for text in written.shown.values()]
    serials += [text.serial for text in written.shown_authorities.values()]
    assert len(set(serials)) == len(serials)
    assert all(0 < serial < 2**160 for serial in serials)
    assert min(serials) > 2**100


def test_every_key_belongs_to_its_certificate(written: Written) -> None:
    keys = set()
    for path in written.leaves:
        key = path.with_suffix(".key")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key)
        keys.add(key.read_text())
    assert len(keys) == len(written.leaves)


# -- authorities that end ------------------------------------------------------------------------

ADMIN = rows_of(SINGLE)[PEOPLE][0]


def test_a_prolonged_authority_still_has_signed_its_leaves(tmp_path: Path) -> None:
    old = authorities().signers[Authority.KUBERNETES]
    later = NOW + timedelta(days=3000)
    new = prolonged(old, later)
    before, after = tmp_path / "before.pem", tmp_path / "after.pem"
    before.write_text(old.certificate)
    after.write_text(new.certificate)
    by_old, by_new = tmp_path / "by-old.pem", tmp_path / "by-new.pem"
    by_old.write_text(issued(ADMIN, old, later).certificate)
    by_new.write_text(issued(ADMIN, new, later).certificate)
    assert accepted(after, [by_old, by_new], at=later) == {by_old, by_new}
    assert accepted(before, [by_old, by_new], at=later) == {by_old, by_new}
    first, second = shown([before, after])
    assert second.date("Not After") == SECONDS + timedelta(days=6650)
    assert second.serial != first.serial
    for name in ("Basic Constraints", "Key Usage", "Subject Key Identifier"):
        assert first.extension(name) == second.extension(name) != (False, "")


def test_a_leaf_ends_with_its_authority(tmp_path: Path) -> None:
    signer = authorities().signers[Authority.KUBERNETES]
    path = tmp_path / "leaf.pem"
    path.write_text(issued(ADMIN, signer, NOW + timedelta(days=3600)).certificate)
    assert shown([path])[0].date("Not After") == SECONDS + timedelta(days=3650)
    with pytest.raises(BundleError, match="the authority kubernetes ended on 2039-12-31"):
        issued(ADMIN, signer, NOW + timedelta(days=3651))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        new_authority(Authority.ETCD, NOW.replace(tzinfo=None))
