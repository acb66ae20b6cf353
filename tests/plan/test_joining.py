"""Control planes that are new start after another one, and before one that restarts for them."""

import pytest

from tests.plan.stored import as_root
from tests.plan.turning import LONE, TWO, PlanesOf


@as_root
@pytest.mark.timeout(1800)
def test_the_first_control_plane_of_a_cluster_starts_alone(planes_of: PlanesOf) -> None:
    planes = planes_of(TWO)
    assert planes.moment("c2", "ExecMainStart") > planes.moment("c1", "ActiveEnter")


@as_root
@pytest.mark.timeout(1800)
def test_a_control_plane_joins_and_the_other_one_restarts_after_it(planes_of: PlanesOf) -> None:
    planes = planes_of(LONE)
    before = planes.starts("c1")
    planes.become(TWO)
    planes.everywhere(TWO, lambda name: planes.run(name, planes.identity(name)))
    planes.everywhere(TWO, planes.serve)
    assert planes.starts("c1") == before + 1, "it has other flags"
    assert planes.moment("c1", "ExecMainStart") > planes.moment("c2", "ActiveEnter")
