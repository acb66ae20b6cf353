"""Whatever spec is taken can be planned: nothing fails later than the spec."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.table import certificates
from plan import render
from plan.cluster import cluster_plan
from plan.model import Source
from spec.cluster import Cluster, SpecError, parse
from tests.plan.golden import digests
from tests.spec.strategies import good_specs, spec_values


def _placeholder(source: Source) -> str:
    return f"{source}\n"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.one_of(good_specs(), spec_values()))
def test_a_spec_is_refused_or_planned(value: dict[str, Any]) -> None:
    try:
        spec = parse(value, name="dev")
    except SpecError:
        return
    known = {"digests": digests(spec.kubernetes)}
    spec = Cluster.model_validate({**spec.model_dump(exclude_unset=True), "artifacts": known})
    plan = cluster_plan(spec)
    assert plan.nodes.keys() == spec.machines.keys()
    assert certificates(spec)
    for step in (*(step for node in plan.nodes.values() for step in node.steps), *plan.add_ons):
        assert render.text(step, _placeholder)


def test_all_that_is_missing_in_the_store_is_told_at_once() -> None:
    machines = {"m": {"address": "10.0.0.9", "roles": "ai"}}
    spec = parse({"networks": {"machines": "10.0.0.0/24"}, "machines": machines}, name="dev")
    with pytest.raises(SpecError) as caught:
        cluster_plan(spec)
    lines = str(caught.value).splitlines()
    assert len(lines) > 3
    assert all("run this through ./hardway" in line for line in lines)
