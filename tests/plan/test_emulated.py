"""Emulated machines are spared, and nothing else in a plan depends on where machines run."""

from dataclasses import replace

import pytest

from plan import apiserver, etcd
from plan.cluster import node_plan
from plan.model import NodePlan, Unit
from tests.plan.emulated import on
from tests.plan.golden import NAMES, golden_spec

CLUSTERS = pytest.mark.parametrize("name", NAMES)
SPARED = {
    apiserver.UNIT: {"etcd-count-metric-poll-period", "feature-gates"},
    etcd.UNIT: {"log-level", "warning-apply-duration", "warning-unary-request-duration"},
}
SLACK = "TimerSlackNSec"
GO = {"GOGC", "GODEBUG"}


@CLUSTERS
def test_every_service_of_an_emulated_machine_may_wait_for_the_others(name: str) -> None:
    spec = on(golden_spec(name), "qemu")
    units = [unit for node in spec.machines for unit in node_plan(spec, node).units]
    assert len(units) > len(spec.machines)
    assert {unit.service.get(SLACK) for unit in units} == {"50ms"}
    assert all(unit.environment.keys() >= GO for unit in units)


@CLUSTERS
def test_nothing_else_depends_on_where_machines_run(name: str) -> None:
    spec = golden_spec(name)
    for node in spec.machines:
        usual = _of_any_disk(node_plan(spec, node))
        assert _of_any_disk(node_plan(on(spec, "kvm"), node)) == usual
        emulated = _of_any_disk(node_plan(on(spec, "qemu"), node))
        assert emulated != usual
        assert _unspared(emulated) == usual


GIVEN = ("disk", "power_button")


def _of_any_disk(plan: NodePlan) -> NodePlan:
    """Without a disk's size and a power button, which nobody gives a machine that exists."""
    steps = tuple(
        replace(
            step,
            files=() if step.name == "ready" else step.files,
            settings={key: value for key, value in step.settings.items() if key not in GIVEN},
            outcome="" if step.name == "ready" else step.outcome,
        )
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _unspared(plan: NodePlan) -> NodePlan:
    steps = tuple(replace(step, units=tuple(map(_without, step.units))) for step in plan.steps)
    return replace(plan, steps=steps)


def _without(unit: Unit) -> Unit:
    spared = SPARED.get(unit.name, set())
    flags = {flag: value for flag, value in unit.flags.items() if flag not in spared}
    assert len(flags) == len(unit.flags) - len(spared)
    service = {key: value for key, value in unit.service.items() if key != SLACK}
    environment = {key: value for key, value in unit.environment.items() if key not in GO}
    assert len(environment) == len(unit.environment) - len(GO)
    return replace(unit, flags=flags, service=service, environment=environment)
