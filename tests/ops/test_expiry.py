"""Certificates that end soon: those of a state, made by the same authorities as real ones."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.authority import issued
from certs.bundle import Bundle
from certs.renewal import renewed_authorities
from certs.table import FOR_PEOPLE, Authority, Row, held_by
from lab.stack import Stack
from ops.expiry import ending, in_lab
from preview.kinds import AUTHORITIES, CERTIFICATES, CLUSTER, MACHINE
from tests.certs.clusters import SINGLE
from tests.ops.exported import exported
from tests.ops.test_reach import KEYS, up

MADE = datetime(2030, 1, 1, tzinfo=UTC)
AUTHORITIES_OF_IT = renewed_authorities(None, MADE)
ROWS = held_by(SINGLE, "master")
OF_MACHINE = f"{CLUSTER}${MACHINE}${CERTIFICATES}"


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    pairs = {row.name: issued(row, AUTHORITIES_OF_IT.signers[row.issuer], MADE) for row in ROWS}
    return exported(
        (AUTHORITIES, "authorities", {"kept": json.dumps(AUTHORITIES_OF_IT.state())}),
        (OF_MACHINE, "master-keys", {"kept": json.dumps(Bundle(pairs).state())}),
        # Another kind's resource may have any name.
        ("hardway:index:Machine", "authorities", {"kept": "no JSON"}),
    )


def test_young_certificates_are_not_named(state: dict[str, Any]) -> None:
    assert ending(state, MADE + timedelta(days=334)) == ()


def test_each_certificate_is_named_thirty_days_before_its_end(state: dict[str, Any]) -> None:
    endings = ending(state, MADE + timedelta(days=340))
    assert {certificate.name for certificate in endings} == {row.name for row in ROWS}
    assert {certificate.holder for certificate in endings} == {"master"}
    assert "of master ends on 2031-01-01" in endings[0].sentence(MADE)
    assert "of master ended on 2031-01-01" in endings[0].sentence(MADE + timedelta(days=370))


def test_authorities_end_as_well(state: dict[str, Any]) -> None:
    endings = ending(state, MADE + timedelta(days=3650))
    assert {
        certificate.name for certificate in endings if certificate.holder == "the cluster"
    } == set(Authority)


def test_a_machine_may_be_called_as_what_keeps_the_keys_of_people() -> None:
    def kept(kind: str, row: Row) -> tuple[str, str, dict[str, str]]:
        pair = issued(row, AUTHORITIES_OF_IT.signers[row.issuer], MADE)
        return kind, "people-keys", {"kept": json.dumps(Bundle({row.name: pair}).state())}

    of_machine, of_people = kept(OF_MACHINE, ROWS[0]), kept(CERTIFICATES, FOR_PEOPLE[0])
    for state in (exported(of_machine, of_people), exported(of_people, of_machine)):
        endings = ending(state, MADE + timedelta(days=340))
        assert {(certificate.holder, certificate.name) for certificate in endings} == {
            ("people", ROWS[0].name),
            ("its people and add-ons", FOR_PEOPLE[0].name),
        }


def test_a_stack_without_keys_has_no_certificate() -> None:
    assert ending({"deployment": {"resources": None}}, MADE) == ()


@pytest.mark.engine
def test_status_reads_the_states_of_the_lab(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real keys in a real state: only the clock is another."""
    stack.create()
    assert up(stack, KEYS) == 0
    assert in_lab(["dev"], stack.paths) == ([], False)
    monkeypatch.setattr("ops.expiry.SOON", timedelta(days=400))
    every, warned = in_lab(["dev"], stack.paths)
    assert any(line.startswith("dev: admin of its people and add-ons ends on ") for line in every)
    assert warned
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
    (line,), warned = in_lab(["dev"], stack.paths)
    assert line.startswith("dev: not known, since pulumi stack export failed (")
    assert not warned
