"""The pairs of service accounts' tokens in the state and in files."""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from certs.bundle import Authorities, BundleError, ServiceAccountPairs
from certs.renewal import renewed_authorities
from certs.signing import TRUSTED, private_key, public_keys, whole_pairs
from tests.certs.clusters import NOW, authorities

PAIR = {"public": "P", "private": "Q"}


def after(held: Authorities | None, number: int, later: timedelta = timedelta(0)) -> Authorities:
    now = NOW + later
    return renewed_authorities(held, now, 1, number)


def test_a_state_from_before_has_pair1_and_the_same_files() -> None:
    pairs = ServiceAccountPairs.from_state({"service-account": PAIR})
    assert (list(pairs.keys), pairs.current, pairs.turn) == (["pair1"], "pair1", 0)
    assert (public_keys(pairs), private_key(pairs)) == ("P", "Q")
    assert pairs.state() == PAIR


def test_each_pair_stays_and_former_ones_are_trusted_until_their_time_is_over() -> None:
    held = authorities()
    first = held.service_accounts.keys["pair1"]
    day = timedelta(days=1)
    for number, later, trusted, turn in (
        (1, day, ("pair1",), 0),
        (3, day, ("pair3", "pair1"), 1),
        (3, 2 * day, ("pair3", "pair1"), 1),
        (2, 2 * day, ("pair2", "pair1", "pair3"), 2),
        (1, 2 * day, ("pair1", "pair2", "pair3"), 3),
        (1, 2 * day + TRUSTED, ("pair1",), 4),
        (1, 9 * day, ("pair1",), 4),
        (3, 9 * day, ("pair3", "pair1"), 5),
    ):
        held = after(held, number, later)
        pairs = held.service_accounts
        assert (pairs.trusted, pairs.turn) == (trusted, turn)
        assert pairs.keys["pair1"] == first
        assert Authorities.from_state(json.loads(json.dumps(held.state()))) == held
        assert public_keys(pairs) == "".join(pairs.keys[name].public for name in sorted(trusted))
        own = load_pem_private_key(private_key(pairs).encode(), None).public_key()
        assert own == load_pem_public_key(pairs.keys[f"pair{number}"].public.encode())
        lines = whole_pairs(pairs).splitlines()
        assert lines[:2] == [f"# turn {turn}", f"# trusted {' '.join(trusted)}"]
        assert sum(line.startswith("- name: ") for line in lines) == len(pairs.keys)


def test_a_new_cluster_begins_with_the_pair_that_it_declares() -> None:
    made = after(None, 5)
    assert made.service_accounts.keys.keys() == {"pair5"}
    assert (made.service_accounts.turn, made.service_accounts.trusted) == (0, ("pair5",))
    assert Authorities.from_state(made.state()) == made


def test_a_clock_that_was_ahead_makes_the_trust_last_longer_and_never_shorter() -> None:
    held = after(authorities(), 2, timedelta(days=30))
    again = after(held, 2)
    assert again == held
    assert again.service_accounts.since == (NOW + timedelta(days=30)).replace(microsecond=0)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"public": "P"},
        {**PAIR, "current": "pair2", "turn": "1"},
        {**PAIR, "former": "pair7"},
        {**PAIR, "turn": "once"},
        {**PAIR, "since": "yesterday"},
    ],
)
def test_a_damaged_state_is_no_other_pair(damaged: dict[str, str]) -> None:
    with pytest.raises(BundleError, match=r"the state has no .* of service-account"):
        ServiceAccountPairs.from_state({"service-account": damaged})
