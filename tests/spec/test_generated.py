"""Any spec at all is either taken or refused in sentences for people."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spec.change import refused_changes
from spec.cluster import parse
from tests.spec.sentences import check, refused
from tests.spec.strategies import JUNK, good_specs, spec_values


@settings(max_examples=60, deadline=None, derandomize=True)
@given(good_specs())
def test_a_good_spec_is_taken_whatever_its_shape(value: dict[str, Any]) -> None:
    assert refused(value) == []


@settings(max_examples=120, deadline=None, derandomize=True)
@given(spec_values())
def test_a_spec_is_taken_or_refused_in_sentences(value: dict[str, Any]) -> None:
    sentences = refused(value)
    for sentence in sentences:
        check(sentence)
    assert len(sentences) == len(set(sentences))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(JUNK, st.sampled_from(["machines", "networks", "endpoint", "hypervisor", "artifacts"]))
def test_junk_is_refused_in_sentences(junk: Any, field: str) -> None:
    value = {"networks": {"machines": "192.168.1.0/24"}, "machines": {"m": {"address": "x"}}}
    for sentence in [*refused({**value, field: junk}), *refused(junk)]:
        check(sentence)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(good_specs(), st.randoms(use_true_random=False))
def test_the_order_in_which_machines_are_written_does_not_matter(
    value: dict[str, Any], random: Any
) -> None:
    machines = list(value["machines"].items())
    random.shuffle(machines)
    first, second = (
        parse({**value, "machines": dict(m)}, name="dev")
        for m in (value["machines"].items(), machines)
    )
    assert first == second
    assert first.etcd_members == second.etcd_members
    assert first.api_url == second.api_url


@settings(max_examples=30, deadline=None, derandomize=True)
@given(good_specs(), good_specs())
def test_a_change_is_taken_or_refused_in_sentences(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = parse(before, name="dev"), parse(after, name="dev")
    assert refused_changes(old, old) == ()
    for sentence in refused_changes(old, new):
        check(sentence)
