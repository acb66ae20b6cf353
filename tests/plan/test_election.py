"""Who loses a lease comes back by itself."""

import pytest

from plan import unit
from tests.plan.golden import NAMES, golden_plan


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_ends_is_started_again_however_often(name: str) -> None:
    """As a controller manager ends that has lost its lease."""
    for node in golden_plan(name).nodes.values():
        for service in (
            service
            for step in node.steps
            for service in step.units
            if service.type != "oneshot" and not service.schedule
        ):
            lines = unit.text(service).splitlines()
            assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(lines), service.name
