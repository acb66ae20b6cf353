"""The names of resources, made and read."""

import pytest

from spec import resource_names
from spec.resource_names import DISK, GUARD, KEYS, SEED


@pytest.mark.parametrize("part", [DISK, GUARD, KEYS, SEED, "control-plane"])
@pytest.mark.parametrize("machine", ["a", "a-b", "a-disk"])
def test_a_name_is_read_as_it_was_made(machine: str, part: str) -> None:
    name = resource_names.part(machine, part)
    assert resource_names.part_of(name, machine) == part
    assert resource_names.owner(name, part) == machine


def test_of_machines_whose_names_begin_alike_the_longest_one_is_meant() -> None:
    machines = ["a", "a-b", "c"]
    assert resource_names.machine_of("a-b-node", machines) == "a-b"
    assert resource_names.machine_of("a-node", machines) == "a"
    for name in ("a", "b-node", resource_names.READY, resource_names.PEOPLE_KEYS):
        assert resource_names.machine_of(name, machines) is None
