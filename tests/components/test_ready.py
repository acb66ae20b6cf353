"""What is said where a cluster does not become ready."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.ready import CONDITIONS, NotReady, ReadyProvider, _message
from plan.condition import Condition, Pods
from probe import watch
from probe.watch import Outcome


def condition(name: str) -> Condition:
    check = Pods(namespace=name, selector={}, count=1)
    return Condition(name=name, waits_for=f"{name} is so", check=check, deadline=60)


def outcome(name: str, seconds: float, error: str | None = None) -> Outcome:
    return Outcome(name=name, holds=error is None, seconds=seconds, error=error)


def test_the_condition_that_was_waited_for_in_vain_comes_first_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = (
        outcome("members", 3),
        outcome("nodes", 900.4, "the node minion1 is not Ready"),
        outcome("service", 0.2),
        outcome("dns", 0.1, "no pod answers"),
    )

    async def watched(
        asked: Sequence[Condition], *arguments: Any, **more: Any
    ) -> Sequence[Outcome]:
        assert [item.name for item in asked] == [item.name for item in outcomes]
        return outcomes

    monkeypatch.setattr(watch, "watch", watched)
    props = {
        "conditions": CONDITIONS.dump_json(
            tuple(condition(item.name) for item in outcomes)
        ).decode(),
        "access": json.dumps({"nodes": {}, "ssh_private_key": "", "kubeconfig": ""}),
    }
    with pytest.raises(NotReady) as raised:
        ReadyProvider().create(props)
    assert str(raised.value).splitlines() == [
        "not yet after 900 s: nodes is so (the node minion1 is not Ready)",
        "of what comes after it:",
        "dns: no pod answers",
    ]
    hard = replace(outcomes[1], hard=True, news="no news for 3 s")
    assert next(_message((condition("nodes"), hard))) == (
        "not yet after 900 s, the hard limit: nodes is so "
        "(the node minion1 is not Ready; no news for 3 s)"
    )
