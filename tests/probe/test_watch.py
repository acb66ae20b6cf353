"""Waiting: what is asked how often, what is told to whom, and when it ends."""

import asyncio
import selectors
from collections.abc import Sequence

import pytest

from plan.condition import Check, Condition, Pods
from probe import pace
from probe import watch as module
from probe.access import Access
from probe.conditions import Doors
from probe.failure import Unmet
from probe.machines import Machines
from probe.watch import Outcome, watch

NOWHERE = Access(machines={}, ssh_key="")


class WaitingClock(selectors.SelectSelector):
    """Time that passes only while everybody waits: what is asked costs none, however busy the host.

    An event loop asks its selector to wait for the next thing that is due.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop that goes by such a clock."""

    def __init__(self, clock: WaitingClock) -> None:
        super().__init__(clock)
        self._clock = clock

    def time(self) -> float:
        return self._clock.now


class AnsweringCluster:
    """Answers each condition with what it has for it, the last for ever; counts the questions."""

    def __init__(self, **answers: Sequence[str | None]) -> None:
        self._answers = {name: iter(reasons) for name, reasons in answers.items()}
        self._last: dict[str, str | None] = {}
        self.asked: list[str] = []
        self.messages: list[str] = []
        self.pace = 1.0

    async def ask(self, check: Check, through: Doors) -> Unmet | None:
        del through
        assert isinstance(check, Pods)
        name = check.namespace
        self.asked.append(name)
        if name in self._answers:
            self._last[name] = next(self._answers[name], self._last.get(name))
        answer = self._last.get(name)
        if answer == "hangs":
            await asyncio.sleep(3600)
        return None if answer is None else Unmet(answer)


def condition(name: str, deadline: int = 60) -> Condition:
    check = Pods(namespace=name, selector={}, count=1)
    return Condition(name=name, waits_for=f"{name} is so", check=check, deadline=deadline)


def watched(
    cluster: AnsweringCluster,
    monkeypatch: pytest.MonkeyPatch,
    *conditions: Condition,
    limit: float | None = None,
) -> tuple[Outcome, ...]:
    async def slowest(machines: Machines, before: float) -> float:
        del machines, before
        return cluster.pace

    monkeypatch.setattr(pace, "slowest", slowest)
    clock = WaitingClock()
    monkeypatch.setattr(module, "ask", cluster.ask)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
        return runner.run(watch(conditions, NOWHERE, say=cluster.messages.append, limit=limit))


def test_what_holds_is_asked_once_and_told_with_its_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = AnsweringCluster()
    (outcome,) = watched(cluster, monkeypatch, condition("a"))
    assert (outcome.name, outcome.holds, outcome.error) == ("a", True, None)
    assert cluster.asked == ["a"]
    assert cluster.messages == ["a: a is so (0.0 s)"]


def test_what_is_waited_for_is_told_once_and_each_new_reason_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = AnsweringCluster(a=[*["first"] * 12, *["second"] * 12, None])
    (outcome,) = watched(cluster, monkeypatch, condition("a", 600))
    assert outcome.holds
    assert cluster.messages[0] == "waiting until a is so"
    first, second = cluster.messages[1:-1]
    assert first.startswith("a: not yet, first (no news for ")
    assert second.startswith("a: not yet, second (no news for ")
    assert cluster.messages[-1] == f"a: a is so ({outcome.seconds:.1f} s)"
    assert 30 < outcome.seconds < 24 * module.LONGEST_PAUSE


def test_after_the_first_failure_the_others_are_asked_once_and_all_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = AnsweringCluster(b=["no b"], d=["no d"])
    outcomes = watched(cluster, monkeypatch, *map(condition, "abcd"), limit=10)
    assert [(outcome.name, outcome.holds, outcome.error) for outcome in outcomes] == [
        ("a", True, None),
        ("b", False, "no b"),
        ("c", True, None),
        ("d", False, "no d"),
    ]
    assert cluster.asked.count("b") > 3
    assert (cluster.asked.count("c"), cluster.asked.count("d")) == (1, 1)
    assert cluster.messages == ["a: a is so (0.0 s)", "waiting until b is so"]


def test_each_condition_has_its_own_deadline_where_there_is_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = AnsweringCluster(a=["no"] * 20 + [None], b=["never"])
    outcomes = watched(cluster, monkeypatch, condition("a", 60), condition("b", 1))
    assert [outcome.holds for outcome in outcomes] == [True, False]
    assert outcomes[0].seconds > 30
    assert outcomes[1].seconds == pytest.approx(1)


def test_what_says_something_new_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = [f"{'x' * number} is missing" for number in range(50)]
    (outcome,) = watched(AnsweringCluster(a=[*reasons, None]), monkeypatch, condition("a", 100))
    assert outcome.holds
    assert outcome.seconds > 100


def test_what_only_counts_or_goes_round_in_circles_is_not_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = [f"{name} for {number} s" for number in range(500) for name in ("a", "b")]
    (outcome,) = watched(AnsweringCluster(a=reasons), monkeypatch, condition("a", 100))
    assert not outcome.holds
    assert not outcome.hard
    assert outcome.news.startswith("no news for ")


def test_what_says_something_new_for_ever_ends_at_the_hard_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = ["x" * number for number in range(5000)]
    (outcome,) = watched(AnsweringCluster(a=reasons), monkeypatch, condition("a", 100))
    assert (outcome.holds, outcome.hard) == (False, True)
    assert outcome.seconds >= 800


def test_slow_machines_have_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = AnsweringCluster(a=["no"] * 45 + [None], b=["never"])
    cluster.pace = 6.0
    a, b = watched(cluster, monkeypatch, condition("a", 100), condition("b", 100))
    assert a.holds
    assert a.seconds > 100
    assert not b.holds
    assert b.seconds >= 600
    assert b.news.endswith("the slowest machine is 6.0 x slower than a quiet one")


def test_a_limit_is_for_all_of_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = AnsweringCluster(a=["no"] * 20 + [None], b=["never"])
    a, b = watched(cluster, monkeypatch, condition("a"), condition("b"), limit=100)
    assert (a.holds, b.holds) == (True, False)
    assert a.seconds > 30
    assert a.seconds + b.seconds == pytest.approx(100)


def test_without_patience_each_is_asked_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = AnsweringCluster(a=["no", None])
    outcomes = watched(cluster, monkeypatch, *map(condition, "abc"), limit=0)
    assert [outcome.holds for outcome in outcomes] == [False, True, True]
    assert sorted(cluster.asked) == ["a", "b", "c"]


def test_a_question_that_hangs_is_given_up_and_announced_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = AnsweringCluster(a=["hangs"])
    (outcome,) = watched(cluster, monkeypatch, condition("a"), limit=0)
    assert outcome.error == "no answer within 90 s"
    assert outcome.seconds == pytest.approx(90)
    assert cluster.messages == ["waiting until a is so"]


def test_questions_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = AnsweringCluster(a=["no"])
    watched(cluster, monkeypatch, condition("a"), limit=60)
    # Every half second it would be 120, every three seconds it is 20.
    assert 20 <= len(cluster.asked) <= 30
