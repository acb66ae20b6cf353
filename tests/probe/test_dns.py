"""DNS messages, as a real CoreDNS understands and writes them."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from probe import dns
from tests.plan.stored import as_root
from tests.probe.network import ADDRESS, MANY, NAME, PodNetwork

pytestmark = [pytest.mark.engine, as_root]

IDENTIFIER = 0x0A0A
"""Newlines, which must not cut a message in two."""

ANSWERS = {
    NAME: ("NOERROR", {ADDRESS}),
    f"{NAME}.": ("NOERROR", {ADDRESS}),
    "two.test": ("NOERROR", {"192.0.2.7", "192.0.2.8"}),
    "many.test": ("NOERROR", set(MANY)),
    "alias.test": ("NOERROR", {ADDRESS}),
    "nobody.test": ("NXDOMAIN", set()),
    "broken.test": ("SERVFAIL", set()),
}


@pytest.fixture(scope="module")
def answers(network: PodNetwork) -> dict[str, bytes]:
    return {name: network.resolve(dns.query(name, IDENTIFIER)) for name in ANSWERS}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_what_the_server_was_configured_to_say(
    answers: dict[str, bytes], name: str
) -> None:
    code, addresses = ANSWERS[name]
    answer = dns.read(answers[name], IDENTIFIER)
    assert (answer.code, set(answer.addresses)) == (code, set(map(IPv4Address, addresses)))


def test_an_answer_to_another_question_is_none(answers: dict[str, bytes]) -> None:
    with pytest.raises(dns.NoDns):
        dns.read(answers[NAME], IDENTIFIER + 1)
    with pytest.raises(dns.NoDns):
        dns.read(dns.query(NAME, IDENTIFIER), IDENTIFIER)


def test_an_answer_that_is_cut_off_is_none(answers: dict[str, bytes]) -> None:
    whole = answers[NAME]
    for length in range(len(whole)):
        try:
            answer = dns.read(whole[:length], IDENTIFIER)
        except dns.NoDns:
            continue
        # Only what comes after the answers may be missing.
        assert answer == dns.read(whole, IDENTIFIER)


@settings(max_examples=300, deadline=None)
@given(some.binary(max_size=80))
def test_whatever_comes_is_an_answer_or_none(data: bytes) -> None:
    header = IDENTIFIER.to_bytes(2, "big") + b"\x80\x00"
    for message in (data, header + data):
        try:
            dns.read(message, IDENTIFIER)
        except dns.NoDns:
            continue
