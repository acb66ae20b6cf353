"""Three real control planes are upgraded minor by minor, under a client that reads and writes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plan import apiserver, etcd
from tests.machine.lab import at_length
from tests.plan.container import Memory
from tests.plan.stored import as_root
from tests.plan.turning import THREE, TurningPlanes, programs

VERSIONS = "1.35.4", "1.36.3", "1.37.1"
"""A version of each minor; people who cannot download them have a recipe."""


@pytest.fixture
def planes(memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurningPlanes]:
    store = tmp_path_factory.mktemp("store")
    for version in VERSIONS:
        programs(store, kubernetes=version)
    made = TurningPlanes(memory, store, THREE, kubernetes=VERSIONS[0])
    try:
        made.begin()
        made.update()
        yield made
    finally:
        made.end()


def serving(planes: TurningPlanes) -> set[str]:
    """The versions that API servers give as theirs."""
    return {planes.api(name, "/version")["gitVersion"] for name in planes.names}


@as_root
@at_length
@pytest.mark.timeout(3600)
def test_an_upgrade_of_three_control_planes_fails_no_call_and_restarts_each_unit_once(
    planes: TurningPlanes, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    units = (etcd.UNIT, apiserver.UNIT)
    for version in VERSIONS[1:]:
        etcd_before = planes.spec.versions.etcd
        before = {name: [planes.starts(name, unit) for unit in units] for name in THREE}
        with planes.client(tmp_path / version) as client:
            planes.upgrade(kubernetes=version)
        counts = client.counts()
        record_property(version, counts)
        print(version, counts)
        assert counts["failed"] == counts["lost"] == counts["unreadable"] == []
        assert serving(planes) == {f"v{version}"}
        members_are_upgraded = planes.spec.versions.etcd != etcd_before
        for name, (of_etcd, of_api) in before.items():
            after = [planes.starts(name, unit) for unit in units]
            assert after == [of_etcd + members_are_upgraded, of_api + 1], name
