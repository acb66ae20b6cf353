"""Clocks that differ are named: what readings come to, and machines whose clocks are others."""

from collections.abc import Iterator

import pytest

from plan.condition import Clocks
from probe.access import Access
from probe.clocks import Clock, Moment, Reading, compared, differences
from probe.machines import Unreachable
from tests.plan.stored import as_root
from tests.probe.asking import asked_once
from tests.probe.machine import with_clocks


def readings(ahead: float, speed: float, trips: tuple[float, ...]) -> list[Reading]:
    """Of a clock that is ``ahead`` at first; the trips there, each as long as the one back."""
    here, taken = 1000.0, []
    for trip in trips:
        there = 1000 + ahead + (here + trip - 1000) * speed
        taken.append(
            Reading(
                before=Moment(date=here, uptime=here),
                there=Moment(date=there, uptime=there),
                after=Moment(date=here + 2 * trip, uptime=here + 2 * trip),
            )
        )
        here += 2 * trip + 1
    return taken


QUICK, SLOW = (0.0, 0.0, 0.0), (9.0, 5.0, 7.0)
"""Trips in seconds."""


@pytest.mark.parametrize(
    ("ahead", "speed", "trips", "message"),
    [
        (0, 1, QUICK, None),
        (0, 1, SLOW, None),
        (50, 1.0005, SLOW, None),  # a time service sets it
        (300, 1, QUICK, "is 300 s ahead of this computer's"),
        (-300, 1, QUICK, "is 300 s behind this computer's"),
        (300, 1, SLOW, "is 295 s ahead of this computer's"),
        (0, 15, QUICK, "goes at least 15.0 times as fast as this computer's"),
        (0, 15, SLOW, "goes at least 9.5 times as fast as this computer's"),
        (5000, 15, QUICK, "goes at least 15.0 times as fast as this computer's"),
        (0, 0.1, QUICK, "goes at most 0.10 times as fast as this computer's"),
    ],
)
def test_a_difference_counts_as_far_as_no_round_trip_explains_it(
    ahead: float, speed: float, trips: tuple[float, ...], message: str | None
) -> None:
    assert compared(readings(ahead, speed, trips)).message == message


def off(ahead: float) -> Clock:
    return compared(readings(ahead, 1, QUICK))


def test_each_clock_that_differs_is_named() -> None:
    lost = Unreachable("m4 does not answer")
    assert differences({"m1": off(0), "m2": off(-90), "m3": off(3600), "m4": lost}) == [
        "the clock of m2 is 90 s behind this computer's",
        "the clock of m3 is 3600 s ahead of this computer's",
    ]
    assert differences({"m1": off(0), "m2": off(1), "m4": lost}) == []
    assert differences({"m1": off(70)}) == ["the clock of m1 is 70 s ahead of this computer's"]


def test_this_computers_clock_is_named_where_all_machines_agree_on_another_time() -> None:
    assert differences({"m1": off(300), "m2": off(310)}) == [
        "the clock of this computer is 300 s behind those of m1, m2, which agree with each other"
    ]
    assert len(differences({"m1": off(300), "m2": off(-300)})) == 2
    assert len(differences({"m1": off(300), "m2": compared(readings(0, 15, QUICK))})) == 2


# -- machines --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(
    tmp_path_factory: pytest.TempPathFactory, privilege_separation_directory: None
) -> Iterator[Access]:
    with with_clocks(tmp_path_factory.mktemp("clocks"), m1=0, m2=400, m3=-500) as access:
        yield access


@pytest.mark.engine
@as_root
def test_machines_are_asked_and_named(machines: Access) -> None:
    unmet = asked_once(Clocks(machines=("m1", "m2", "m3")), machines)
    sentence = str(unmet)
    assert "the clock of m2 is " in sentence
    assert " s ahead of this computer's" in sentence
    assert "the clock of m3 is " in sentence
    assert " s behind this computer's" in sentence
    assert "m1" not in sentence
    assert asked_once(Clocks(machines=("m1",)), machines) is None


@pytest.mark.engine
@as_root
def test_a_clock_that_cannot_be_asked_does_not_go_right(machines: Access) -> None:
    unmet = asked_once(Clocks(machines=("m1", "m4")), machines)
    assert "m4 is no machine of this stack" in str(unmet)
    assert unmet is not None
    assert not unmet.wholly
