"""``validate``: its verdict, and what a person and a program get to see."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from certs.renewal import renewed_authorities
from lab.problem import Problem
from ops import validate as module
from ops.expiry import Ending
from ops.validate import Health, again, demand_held, still_trusted, verdict
from plan.conditions import conditions
from preview.kinds import AUTHORITIES
from probe.access import Access, MachineAccess
from probe.watch import Outcome
from spec.cluster import Cluster
from tests.certs.clusters import APART, NOW, SINGLE, authorities
from tests.ops.exported import exported

KINDS = {condition.name: condition.check.kind for condition in conditions(APART)}


def outcomes(*failing: str, wholly: bool = False) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(name=name, holds=name not in failing, seconds=1, error=None, wholly=wholly)
        for name in KINDS
    )


@pytest.mark.parametrize(
    ("failing", "wholly", "expected"),
    [
        ((), False, Health.HEALTHY),
        (("members",), False, Health.BROKEN),
        (("api",), False, Health.BROKEN),
        (("nodes",), True, Health.BROKEN),
        (("space",), True, Health.BROKEN),
        (("space",), False, Health.USABLE_WITH_ERRORS),
        (("nodes",), False, Health.USABLE_WITH_ERRORS),
        (("dns",), True, Health.USABLE_WITH_ERRORS),
        (("pods-reach", "dns-runs"), True, Health.USABLE_WITH_ERRORS),
        (("dns", "api"), False, Health.BROKEN),
    ],
)
def test_the_verdict_follows_what_a_cluster_cannot_do_without(
    failing: tuple[str, ...], wholly: bool, expected: Health
) -> None:
    assert verdict(KINDS, outcomes(*failing, wholly=wholly)) is expected


def test_every_failure_alone_is_noticed() -> None:
    for name in KINDS:
        assert verdict(KINDS, outcomes(name)) is not Health.HEALTHY


@dataclass
class ReachedForValidate:
    spec: Cluster
    access: Access
    state: dict[str, Any] = field(default_factory=dict)
    unapplied: str | None = "Pulumi.dev.yaml has changes"


DOWN = MachineAccess(address="127.0.0.1", port=1, host_key="ssh-ed25519 none")


def validated(monkeypatch: pytest.MonkeyPatch, *arguments: str, **access: Any) -> Result:
    opened = Access(machines={"master": DOWN}, ssh_key="none", **access)
    monkeypatch.setattr(module, "reach", lambda _: ReachedForValidate(SINGLE, opened))
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    return CliRunner().invoke(app, ["validate", *arguments])


def test_a_cluster_that_is_not_there_is_broken_and_each_condition_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = validated(monkeypatch)
    assert done.exit_code == 1
    output = " ".join(done.stdout.split())
    for condition in conditions(SINGLE):
        assert condition.name in output
    assert "master" in output
    assert "no kubeconfig yet" in output
    assert "The cluster is broken." in output


def test_a_program_gets_json_and_nothing_else_on_its_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = validated(monkeypatch, "--json")
    report = json.loads(done.stdout)
    assert report["verdict"] == "broken"
    assert [outcome["name"] for outcome in report["conditions"]] == [
        outcome.name for outcome in conditions(SINGLE)
    ]
    assert not any(outcome["holds"] for outcome in report["conditions"])
    assert all(outcome["error"] for outcome in report["conditions"])


def test_a_kubeconfig_that_is_none_is_a_problem_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = validated(monkeypatch, "--stack", "other", kubeconfig="none: at all")
    assert "./hardway up --stack other" in str(done.exception)


@pytest.mark.parametrize("expected", list(Health))
def test_the_exit_code_is_the_verdict(monkeypatch: pytest.MonkeyPatch, expected: Health) -> None:
    failing = {Health.HEALTHY: (), Health.BROKEN: ("api",), Health.USABLE_WITH_ERRORS: ("dns",)}
    names = [condition.name for condition in conditions(SINGLE)]
    outcomes = tuple(
        Outcome(name=name, holds=name not in failing[expected], seconds=0, error="[why]")
        for name in names
    )
    monkeypatch.setattr(module, "run_watch", lambda *_, **__: outcomes)
    done = validated(monkeypatch)
    assert done.exit_code == {"HEALTHY": 0, "BROKEN": 1}.get(expected.name, 2)
    assert "[why]" in done.stdout
    assert "Pulumi.dev.yaml has changes" in done.stdout

    end = datetime.now(UTC) - timedelta(days=1)
    over = (Ending(holder="people", name="admin", end=end),)
    monkeypatch.setattr("ops.expiry.ending_soon", lambda _: over)
    done = validated(monkeypatch)
    assert done.exit_code == (1 if expected is Health.BROKEN else 2)
    assert f"admin of people ended on {end:%Y-%m-%d}" in done.stdout
    assert json.loads(validated(monkeypatch, "--json").stdout)["certificates"]


def test_a_command_that_waits_names_the_first_condition_that_does_not_hold() -> None:
    asked = conditions(APART)
    demand_held(asked, outcomes(), "it was done; ", "")
    with pytest.raises(Problem) as refused:
        demand_held(
            asked, outcomes("nodes", "api"), "it was done; ", again(" --stack lab2"), "; aside"
        )
    sentence = (
        "it was done; not so after 1 s: every API server is ready and is v1.37.1 (None); aside"
    )
    assert refused.value.what == sentence
    assert "./hardway validate --stack lab2" in str(refused.value)


def test_tokens_of_a_former_pair_are_noted_until_an_update_ends_the_trust() -> None:
    def noted(number: int) -> str | None:
        held = authorities()
        kept = renewed_authorities(held, NOW, 1, number).state()
        state = exported((AUTHORITIES, "authorities", {"kept": json.dumps(kept)}))
        return still_trusted(state, " --stack x")

    assert noted(1) is None
    assert still_trusted({}, "") is None
    assert noted(2) == (
        "pair2 signs the tokens of service accounts, and those of pair1 are accepted until the "
        "first ./hardway up --stack x after 2030-01-03 05:04 UTC"
    )
