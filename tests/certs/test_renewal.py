"""What becomes of certificates: when, why, in which order, and nothing more than needed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.authority import issued, new_authority
from certs.bundle import Authorities, Bundle, BundleError, Pair, Signer
from certs.renewal import (
    Action,
    Decision,
    decided,
    decided_authorities,
    renewed,
    renewed_authorities,
)
from certs.signing import TRUSTED
from certs.table import BOTH, Authority, Row, held_by
from spec.cluster import Cluster
from tests.certs.clusters import APART, NOW, SINGLE, authorities, cluster, issue, made, rows_of

DAY = timedelta(days=1)
ROWS = held_by(SINGLE, "master")
API = next(row for row in ROWS if row.name == "apiserver")
CLIENT = next(row for row in ROWS if row.name == "apiserver-kubelet-client")


def decision_for(row: Row, bundle: Bundle, signers: Authorities, now: datetime) -> Decision:
    return next(
        decision
        for decision in decided((row,), bundle, signers.signers, now)
        if decision.row is row
    )


def rotated(signers: Authorities, authority: Authority) -> Authorities:
    new = {authority: new_authority(authority, NOW)}
    return replace(signers, signers={**signers.signers, **new})


# -- each decision, its sentence and its place in the order --------------------------------------

MOVED = replace(API, addresses=(IPv4Address("192.168.1.11"), *API.addresses[1:]))


@pytest.mark.parametrize(
    ("row", "days", "other_authority", "sentence"),
    [
        (API, 0, False, "keep apiserver because it is valid until 2031-01-02"),
        (API, 243, False, "keep apiserver because it is valid until 2031-01-02"),
        (API, 244, False, "renew apiserver because it expires on 2031-01-02"),
        (API, 364, False, "renew apiserver because it expires on 2031-01-02"),
        (API, 365, False, "renew apiserver because it expired on 2031-01-02"),
        (
            MOVED,
            0,
            False,
            "reissue apiserver because its names changed: +IP:192.168.1.11 -IP:192.168.1.10",
        ),
        (
            replace(API, dns_names=(*API.dns_names, "api.example.org")),
            0,
            False,
            "reissue apiserver because its names changed: +DNS:api.example.org",
        ),
        (
            replace(CLIENT, organization="system:masters"),
            0,
            False,
            "reissue apiserver-kubelet-client because its names changed: +O=system:masters",
        ),
        (
            replace(CLIENT, common_name="other"),
            0,
            False,
            (
                "reissue apiserver-kubelet-client because its names changed: "
                "+CN=other -CN=kube-apiserver-kubelet-client"
            ),
        ),
        (
            replace(API, uses=BOTH),
            0,
            False,
            "reissue apiserver because its names changed: +use:client",
        ),
        (API, 0, True, "replace apiserver because its authority kubernetes changed"),
        # The order: authority before names before dates.
        (MOVED, 400, True, "replace apiserver because its authority kubernetes changed"),
        (
            MOVED,
            400,
            False,
            "reissue apiserver because its names changed: +IP:192.168.1.11 -IP:192.168.1.10",
        ),
    ],
)
def test_a_decision_says_why(row: Row, days: int, other_authority: bool, sentence: str) -> None:
    kept = issue((API, CLIENT), signers := authorities())
    if other_authority:
        signers = rotated(signers, Authority.KUBERNETES)
    assert str(decision_for(row, kept, signers, NOW + days * DAY)) == sentence


def test_what_is_new_is_issued_and_what_nobody_needs_is_dropped() -> None:
    kept = issue((API,), signers := authorities())
    decisions = decided((CLIENT,), kept, signers.signers, NOW)
    assert list(map(str, decisions)) == [
        "issue apiserver-kubelet-client because it is new",
        "drop apiserver because nobody needs it",
    ]
    assert list(renewed(kept, decisions, signers.signers, NOW).pairs) == [CLIENT.name]


def test_the_order_of_names_is_no_change() -> None:
    kept = issue((API,), signers := authorities())
    turned = replace(API, dns_names=API.dns_names[::-1], addresses=API.addresses[::-1])
    assert decision_for(turned, kept, signers, NOW).action is Action.KEEP


def test_a_leaf_that_ends_with_its_authority_is_renewed_once_the_authority_is() -> None:
    signers = authorities()
    kept = issue((API,), signers, NOW + 3640 * DAY)
    later = NOW + 3648 * DAY
    assert decision_for(API, kept, signers, later).action is Action.KEEP
    longer = renewed_authorities(signers, later)
    assert decision_for(API, kept, longer, later).action is Action.RENEW


def test_only_the_changed_authoritys_certificates_are_replaced() -> None:
    kept = issue(ROWS, signers := authorities())
    for decision in decided(ROWS, kept, rotated(signers, Authority.ETCD).signers, NOW):
        assert decision.row
        assert (decision.action is Action.REPLACE) == (decision.row.issuer is Authority.ETCD)


# -- authorities ---------------------------------------------------------------------------------


def sentences(held: Authorities | None, now: datetime) -> list[str]:
    return list(map(str, decided_authorities(held, now)))


def test_authorities_are_made_once() -> None:
    assert sentences(None, NOW) == [
        f"issue {name} because it is new"
        for name in ("kubernetes", "etcd", "front-proxy", "service-account", "encryption")
    ]
    held = authorities()
    assert sentences(held, NOW + 2433 * DAY) == [
        "keep kubernetes because it is valid until 2039-12-31",
        "keep etcd because it is valid until 2039-12-31",
        "keep front-proxy because it is valid until 2039-12-31",
        "keep service-account because it never expires",
        "keep encryption because it never expires",
    ]
    again = renewed_authorities(held, NOW)
    assert again.state() == held.state()


def test_another_number_turns_the_encryption_key_over_once() -> None:
    held = authorities()
    decisions = decided_authorities(held, NOW, 2)
    assert str(decisions[-1]) == (
        "replace encryption because it turns over: key2 is known by all API servers, then used, "
        "then all Secrets are rewritten, then key1 leaves the machines"
    )
    assert {decision.action for decision in decisions[:-1]} == {Action.KEEP}
    turned = renewed_authorities(held, NOW, 2)
    assert turned.signers == held.signers
    again = decided_authorities(turned, NOW, 2)
    assert {decision.action for decision in again} == {Action.KEEP}


def test_the_pair_of_service_accounts_turns_over_and_the_former_one_is_trusted_for_a_day() -> None:
    held = authorities()
    decisions = decided_authorities(held, NOW, 1, 2)
    (decision,) = (entry for entry in decisions if entry.action is not Action.KEEP)
    assert str(decision) == (
        "replace service-account because it turns over: pair2 is trusted by all API servers beside "
        "pair1, then signs; the first update after 2030-01-03 05:04 UTC ends the trust in tokens "
        "of before"
    )
    turned = renewed_authorities(held, NOW, 1, 2)
    pairs, began = turned.service_accounts, NOW.replace(microsecond=0)
    assert (pairs.trusted, pairs.turn, pairs.since) == (("pair2", "pair1"), 1, began)
    assert pairs.keys["pair1"] == held.service_accounts.keys["pair1"]
    assert (turned.signers, turned.encryption) == (held.signers, held.encryption)

    for later in (timedelta(0), TRUSTED - timedelta(seconds=1)):
        again = decided_authorities(turned, NOW + later, 1, 2)
        assert {decision.action for decision in again} == {Action.KEEP}
        assert renewed_authorities(turned, NOW + later, 1, 2) == turned

    over = decided_authorities(turned, NOW + TRUSTED, 1, 2)
    (decision,) = (entry for entry in over if entry.action is not Action.KEEP)
    assert str(decision) == (
        "replace service-account because pair2 has signed all tokens in use, so no other one is "
        "trusted any more: pair1"
    )
    last = renewed_authorities(turned, NOW + TRUSTED, 1, 2)
    assert (last.service_accounts.trusted, last.service_accounts.turn) == (("pair2",), 2)
    assert {decision.action for decision in decided_authorities(last, NOW + 9 * DAY, 1, 2)} == {
        Action.KEEP
    }


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ((1,), (1, 2), "number 2 is trusted as well"),
        ((1, 2), (1,), "number 2 is not trusted any more"),
        ((1, 2), (2, 1), "number 2 signs in place of 1"),
        ((2, 1), (1, 2), "number 1 signs in place of 2"),
        ((2, 1), (2,), "number 1 is not trusted any more"),
        ((2,), (2, 3), "number 3 is trusted as well"),
    ],
)
def test_an_authority_turns_over_update_by_update(
    before: tuple[int, ...], after: tuple[int, ...], sentence: str
) -> None:
    held = numbered(before, None)
    numbers = {Authority.ETCD: after}
    decisions = decided_authorities(held, NOW, authorities=numbers)
    (decision,) = (entry for entry in decisions if entry.action is not Action.KEEP)
    assert str(decision) == f"replace etcd because {sentence}"
    turned = numbered(after, held)
    assert turned.numbers(Authority.ETCD) == after
    again = decided_authorities(turned, NOW, authorities=numbers)
    assert {decision.action for decision in again} == {Action.KEEP}
    assert renewed_authorities(turned, NOW, authorities=numbers) == turned
    # Each stays the same, and trusted certificates stand in an order that who signs has no part in.
    was, now_is = (every(state) for state in (held, turned))
    assert all(now_is[number] == was[number] for number in {*before} & {*after})
    assert turned.trusted(Authority.ETCD) == "".join(
        now_is[number].certificate for number in sorted(after)
    )
    # Leaves follow where another one signs, and only then.
    leaves = issue(ROWS, held)
    of_etcd = {row.name for row in ROWS if row.issuer is Authority.ETCD}
    replaced = {
        decision.name
        for decision in decided(ROWS, leaves, turned.signers, NOW)
        if decision.action is not Action.KEEP
    }
    assert replaced == (of_etcd if before[0] != after[0] else set())


def numbered(numbers: tuple[int, ...], held: Authorities | None) -> Authorities:
    """The authorities with these numbers of etcd's."""
    wanted = {Authority.ETCD: numbers}
    return renewed_authorities(held, NOW, authorities=wanted)


def every(state: Authorities) -> dict[int, Signer]:
    """The number of each of etcd's authorities to it."""
    return {signer.number: signer for signer in state.every(Authority.ETCD)}


def test_an_authority_that_was_left_out_comes_back_with_another_key() -> None:
    held = numbered((1, 2), None)
    again = numbered((1, 2), numbered((1,), held))
    assert every(again)[1] == every(held)[1]
    assert every(again)[2].key != every(held)[2].key


@pytest.mark.parametrize("numbers", [(1,), (2, 1)])
def test_a_trusted_authority_that_ends_is_renewed_also_where_it_turns_over(
    numbers: tuple[int, ...],
) -> None:
    """Whether it signs or not; with the same key."""
    held, later = numbered((1, 2), None), NOW + 2434 * DAY
    turned = renewed_authorities(held, later, authorities={Authority.ETCD: numbers})
    for number, signer in every(turned).items():
        assert signer.key == every(held)[number].key
        assert _end(signer.certificate) > _end(every(held)[number].certificate)
    again = decided_authorities(turned, later, authorities={Authority.ETCD: numbers})
    of_etcd = next(entry for entry in again if entry.name == Authority.ETCD)
    assert of_etcd.action is Action.KEEP
    as_it_was = decided_authorities(held, later, authorities={Authority.ETCD: (1, 2)})
    assert next(row for row in as_it_was if row.name == Authority.ETCD).action is Action.RENEW


def test_an_authority_is_renewed_and_its_leaves_are_not() -> None:
    held, later = authorities(), NOW + 2434 * DAY
    decisions = decided_authorities(held, later)
    assert str(decisions[0]) == (
        "renew kubernetes because it expires on 2039-12-31; its key stays, and so does all that "
        "it signed"
    )
    leaves = issue(ROWS, held, later)
    longer = renewed_authorities(held, later)
    assert {decision.action for decision in decided(ROWS, leaves, longer.signers, later)} == {
        Action.KEEP
    }
    assert {decision.action for decision in decided_authorities(longer, later)} == {Action.KEEP}
    assert longer.service_accounts == held.service_accounts
    assert longer.encryption == held.encryption


def test_twenty_five_years_pass_without_an_outage() -> None:
    """A run every four months: all is valid until the next one, and nothing is done twice."""
    signers, bundle = authorities(), Bundle()
    for run in range(75):
        now = NOW + run * 121 * DAY
        signers = renewed_authorities(signers, now)
        bundle = renewed(bundle, decided(ROWS, bundle, signers.signers, now), signers.signers, now)
        assert {decision.action for decision in decided(ROWS, bundle, signers.signers, now)} == {
            Action.KEEP
        }
        ends = {name: _end(signer.certificate) for name, signer in signers.signers.items()}
        for row in ROWS:
            assert now + 121 * DAY < _end(bundle.pairs[row.name].certificate) < ends[row.issuer]


def _end(pem: str) -> datetime:
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


# -- invariants ----------------------------------------------------------------------------------


def _cluster(machines: Mapping[str, int]) -> Cluster:
    """The machine ``m`` runs everything; the others are minions."""
    return cluster(
        {
            name: (f"192.168.1.{last}", "ai" if name == "m" else "i")
            for name, last in machines.items()
        }
    )


worlds = st.dictionaries(
    st.sampled_from("abcd"), st.integers(20, 24), min_size=0, max_size=3
).flatmap(
    lambda minions: st.just({name: last * 8 + ord(name) - 97 for name, last in minions.items()})
)
masters = st.integers(10, 11)


@settings(max_examples=25, deadline=None)
@given(
    before=worlds,
    after=worlds,
    master=st.tuples(masters, masters),
    days=st.integers(0, 800),
    rotate=st.sets(st.sampled_from(Authority), max_size=1),
)
def test_decisions_are_carried_out_once_and_touch_nothing_else(
    before: dict[str, int],
    after: dict[str, int],
    master: tuple[int, int],
    days: int,
    rotate: set[Authority],
) -> None:
    signers, now = authorities(), NOW + days * DAY
    old = _cluster({"m": master[0]} | before)
    kept = {name: issue(rows, signers) for name, rows in rows_of(old).items()}
    for authority in rotate:
        signers = rotated(signers, authority)
    for name, rows in rows_of(_cluster({"m": master[1]} | after)).items():
        bundle = kept.get(name, Bundle())
        decisions = decided(rows, bundle, signers.signers, now)
        result = renewed(bundle, decisions, signers.signers, now)
        assert list(result.pairs) == [row.name for row in rows]
        for decision in decisions:
            same = result.pairs.get(decision.name) == bundle.pairs.get(decision.name)
            assert same == (decision.action is Action.KEEP)
        again = decided(rows, result, signers.signers, now)
        assert {decision.action for decision in again} <= {Action.KEEP}
        assert renewed(result, again, signers.signers, now) == result


@settings(max_examples=25, deadline=None)
@given(moved=st.sampled_from(sorted(APART.machines)), last=st.integers(150, 250))
def test_a_moved_machine_changes_its_own_bundle_and_who_names_it(moved: str, last: int) -> None:
    world = made("apart")
    address = IPv4Address(f"192.168.1.{last}")
    machines = APART.machines | {
        moved: APART.machines[moved].model_copy(update={"address": address})
    }
    spec = APART.model_copy(update={"machines": machines})
    for name, rows in rows_of(spec).items():
        for decision in decided(rows, world.bundles[name], world.authorities.signers, NOW):
            assert decision.row
            names_it = address in decision.row.addresses
            assert (decision.action is Action.REISSUE) == names_it
            assert not names_it or name == moved


def test_the_clocks_zone_does_not_matter() -> None:
    from datetime import timezone

    kept = issue((API,), signers := authorities())
    there = (NOW + 250 * DAY).astimezone(timezone(timedelta(hours=9)))
    assert str(decision_for(API, kept, signers, there)) == str(
        decision_for(API, kept, signers, there.astimezone(UTC))
    )
    assert _end(issued(API, signers.signers[API.issuer], there).certificate) == (
        NOW.replace(microsecond=0) + 615 * DAY
    )


def test_a_damaged_bundle_is_told() -> None:
    damaged = Bundle({API.name: Pair(certificate="nothing", key="")})
    with pytest.raises(BundleError, match="apiserver is not a certificate"):
        decided((API,), damaged, authorities().signers, NOW)


# -- clocks ----------------------------------------------------------------------------------------


def test_what_begins_in_the_future_is_made_anew_with_that_reason() -> None:
    signers, ahead = authorities(), NOW + 40 * DAY
    row = held_by(SINGLE, "master")[0]
    made = renewed(
        Bundle(), decided([row], Bundle(), signers.signers, ahead), signers.signers, ahead
    )
    (decision,) = decided([row], made, signers.signers, NOW)
    assert decision.action is Action.RENEW
    assert "valid from 2030-02-11 02:59 UTC on only" in decision.why
    assert "clock was ahead" in decision.why
    anew = renewed(made, [decision], signers.signers, NOW)
    (kept,) = decided([row], anew, signers.signers, NOW)
    assert kept.action is Action.KEEP


def test_an_authority_that_begins_in_the_future_is_made_anew_and_keeps_its_key() -> None:
    ahead = NOW + 40 * DAY
    held = renewed_authorities(None, ahead)
    decisions = decided_authorities(held, NOW)
    renewals = [decision for decision in decisions if decision.name in set(Authority)]
    assert {decision.action for decision in renewals} == {Action.RENEW}
    assert all("valid from 2030-02-11" in decision.why for decision in renewals)
    anew = renewed_authorities(held, NOW)
    for authority in Authority:
        assert anew.signers[authority].key == held.signers[authority].key
    assert {decision.action for decision in decided_authorities(anew, NOW)} == {Action.KEEP}


def test_a_certificate_of_a_moment_ago_is_no_affair_of_clocks() -> None:
    signers = authorities()
    row = held_by(SINGLE, "master")[0]
    made = renewed(Bundle(), decided([row], Bundle(), signers.signers, NOW), signers.signers, NOW)
    (decision,) = decided([row], made, signers.signers, NOW - DAY / 24 / 30)
    assert decision.action is Action.KEEP, "two minutes, as clocks differ anyway"
