"""The policy pack says of each resource what the rules say, and never a secret."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty  # type: ignore[attr-defined]
from pulumi.runtime.proto import analyzer_pb2
from pulumi.runtime.proto.analyzer_pb2_grpc import AnalyzerStub

from policy.analyzer import SHOWN, judge
from policy.rule import Changes, Rule, Violations
from policy.rules import RULES
from preview.registration import Registration, is_secret
from tests.declared import golden
from tests.policy.analyzer import analyzed, analyzed_stack, started
from tests.policy.declared import MEMBERS, made, spoiled
from tests.policy.test_rules import BROKEN

SEEN = {rule.name for rule in RULES if rule.needs <= SHOWN}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnalyzerStub]:
    with started(tmp_path_factory.mktemp("pack") / "pack.log") as stub:
        yield stub


def secrets(value: Any) -> Iterator[str]:
    """Every text in a secret's envelope, line by line."""
    if is_secret(value):
        yield from (line for text in texts(value["value"]) for line in text.splitlines())
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from secrets(item)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)
    else:
        yield str(value)


def test_it_has_a_policy_of_each_rule_and_all_stop_a_preview(pack: AnalyzerStub) -> None:
    info = pack.GetAnalyzerInfo(Empty())
    assert {policy.name for policy in info.policies} == {rule.name for rule in RULES}
    assert {policy.description for policy in info.policies} == {rule.why for rule in RULES}
    levels = {policy.enforcementLevel for policy in info.policies}
    assert levels <= {analyzer_pb2.MANDATORY, analyzer_pb2.REMEDIATE}


@pytest.mark.parametrize("name", ["default", MEMBERS])
def test_a_clean_program_passes(name: str, pack: AnalyzerStub) -> None:
    for resource in golden(name):
        answer = analyzed(pack, resource)
        assert not answer.diagnostics, resource.name
        assert not answer.not_applicable, resource.name


@pytest.mark.parametrize(
    ("rule", "resource", "how"),
    [(rule, name, how) for rule, cases in BROKEN.items() for name, how in cases if rule in SEEN],
)
def test_what_is_spoiled_is_said_in_the_rules_sentence_and_without_a_secret(
    rule: str,
    resource: str,
    how: Callable[[], Callable[[Registration], Registration]],
    pack: AnalyzerStub,
) -> None:
    (changed,) = [
        change.declared
        for change in spoiled(made("default"), resource, how())
        if change.name == resource and change.declared.custom
    ]
    (diagnostic,) = analyzed(pack, changed).diagnostics
    assert diagnostic.policyName == rule
    assert diagnostic.enforcementLevel == analyzer_pb2.MANDATORY
    assert resource in diagnostic.message
    private = {line for registration in golden("default") for line in secrets(registration.inputs)}
    assert len(private) > 100, "the search below looks for something"
    assert not [line for line in private if len(line) > 12 and line in diagnostic.message]


def test_what_it_is_not_told_does_not_apply(pack: AnalyzerStub) -> None:
    answer = analyzed_stack(pack, golden("default"))
    assert not answer.diagnostics
    reasons = {item.policy_name: item.reason for item in answer.not_applicable}
    assert reasons.keys() == {rule.name for rule in RULES} - SEEN
    assert all("./hardway preview" in reason for reason in reasons.values())


def test_a_rule_that_fails_does_not_say_with_what() -> None:
    def fails(changes: Changes) -> Violations:
        raise ValueError(changes[0].declared.inputs["stdin"])

    rule = Rule(name="a-rule", why="It fails.", judge=fails)
    resource = Registration(kind="a", name="of-master", inputs={"stdin": "hunter2"})
    with pytest.raises(RuntimeError) as raised:
        judge(rule, resource, lambda _sentence, _urn: None)
    assert "a-rule cannot be asked of of-master" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__
