"""Members and API servers restart as their units say, under calls: real ones, three of each."""

import time
from collections.abc import Iterator

import pytest

from tests.plan.restarts import MACHINES, Planes, writing


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planes]:
    with Planes(tmp_path_factory.mktemp("planes")).running() as running:
        yield running


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_who_leads_hands_over_before_it_stops_and_nobody_else_does(planes: Planes) -> None:
    leader = planes.leader()
    planes.members[leader].before_stop()
    successor = planes.leader()
    assert successor != leader
    other = next(name for name in MACHINES if name not in (leader, successor))
    for name in (leader, other):
        planes.members[name].before_stop()
        assert planes.leader() == successor


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_members_restart_without_a_gap_and_without_a_lost_write(planes: Planes) -> None:
    with writing(planes, MACHINES[:2]) as writes:
        for leads in (False, True, True):
            leader = planes.leader()
            name = next(one for one in MACHINES if (one == leader) is leads)
            began = time.monotonic()
            stopped = planes.members[name].stop()
            assert not stopped.killed
            assert planes.leader() != name
            planes.members[name].start()
            planes.await_member(name)
            assert writes.gap(began, time.monotonic()) <= 1, (name, writes.failed)
    assert {name for _, name in writes.done} <= planes.config_maps()


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_the_last_member_that_is_well_stops_all_the_same(planes: Planes) -> None:
    leader = planes.leader()
    others = [planes.members[name] for name in MACHINES if name != leader]
    for one in others:
        one.kill()
    assert not planes.members[leader].stop().killed
    for one in planes.members.values():
        one.start()
    for name in MACHINES:
        planes.await_member(name)
