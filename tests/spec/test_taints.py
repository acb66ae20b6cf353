"""Taints that a spec may give to its machines."""

import pytest

from spec.cluster import SpecError, parse
from tests.spec.test_refusals import GOOD


@pytest.mark.parametrize(
    "key",
    [
        "node-role.kubernetes.io/infra",
        "node-role.kubernetes.io/control-plane",
        "node.cluster.x-k8s.io/uninitialized",
        "example.org/dedicated",
    ],
)
def test_a_taint_that_no_controller_manages_is_taken(key: str) -> None:
    machines = {name: dict(machine) for name, machine in GOOD["machines"].items()}
    machines["m1"]["taints"] = [{"key": key, "effect": "NoSchedule"}]
    assert parse({**GOOD, "machines": machines}, name="dev").machines["m1"].taints[0].key == key


def test_a_control_planes_own_taint_stands_once() -> None:
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    machines = {
        "master": {"address": "192.168.1.10", "roles": "a", "taints": taints},
        "m1": {"address": "192.168.1.11"},
    }
    with pytest.raises(SpecError, match=r"machines\.master\.taints\.0\.key .* stand there twice"):
        parse({**GOOD, "machines": machines}, name="dev")
