"""``./hardway up`` goes on from the authorities and SSH keys of the last update that ended."""

import json
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.problem import Problem
from ops.numbers import demand_numbers
from spec.cluster import Cluster
from tests.certs.clusters import cluster


def stack_with(outputs: dict[str, Any] | None) -> Any:
    """A stack whose last update that ended has these outputs; None where none has."""

    def pulumi(*arguments: str, capture: bool) -> subprocess.CompletedProcess[str]:
        assert arguments == ("stack", "output", "--json")
        assert capture
        return subprocess.CompletedProcess(arguments, 0, json.dumps(outputs or {}), "")

    return cast(Any, SimpleNamespace(name="dev", pulumi=pulumi))


def declaring(*numbers: int) -> Cluster:
    return cluster({"c1": ("192.168.1.31", "eai")}, authorities={"etcd": [*numbers]})


@pytest.mark.parametrize(
    ("ended", "declared"),
    [
        (None, (2, 1)),
        ({"endpoint": "x"}, (1, 2)),
        ({"authorities": {"etcd": [1, 2]}}, (2, 1)),
        ({"authorities": {"etcd": [1, 2]}}, (1,)),
        ({"authorities": {"etcd": [2, 1]}}, (2,)),
    ],
)
def test_the_next_update_is_made(ended: dict[str, Any] | None, declared: tuple[int, ...]) -> None:
    demand_numbers(stack_with(ended), declaring(*declared))


@pytest.mark.parametrize(
    ("ended", "declared", "instead"),
    [
        # The state has the spec of an update to [1, 2], which failed.
        ({"endpoint": "x"}, (2, 1), "write [1, 2] first"),
        ({"authorities": {"etcd": [1, 2]}}, (2,), "write [2, 1] first"),
    ],
)
def test_an_update_is_refused_after_another_that_did_not_end(
    ended: dict[str, Any], declared: tuple[int, ...], instead: str
) -> None:
    with pytest.raises(Problem, match="since the last update that ended, authorities") as why:
        demand_numbers(stack_with(ended), declaring(*declared))
    assert instead in str(why.value)


def logging_in(*numbers: int) -> Cluster:
    more = {"ssh_keys": [*numbers]} if numbers else {}
    return cluster({"c1": ("192.168.1.31", "eai")}, **more)


@pytest.mark.parametrize(
    ("ended", "declared"),
    [
        (None, (2, 1)),
        ({"endpoint": "x"}, (1, 2)),
        ({"endpoint": "x"}, ()),
        ({"ssh_keys": [1, 2]}, (2, 1)),
        ({"ssh_keys": [2, 1]}, (2,)),
        ({"ssh_keys": [1]}, ()),
        ({"ssh_keys": [2]}, (2, 3)),
    ],
)
def test_the_next_update_logs_in(ended: dict[str, Any] | None, declared: tuple[int, ...]) -> None:
    demand_numbers(stack_with(ended), logging_in(*declared))


@pytest.mark.parametrize(
    ("ended", "declared", "instead"),
    [
        # The state has the spec of an update to [1, 2], [2, 1] or [1], which failed.
        ({"endpoint": "x"}, (2, 1), "write [1, 2] first"),
        ({"ssh_keys": [1, 2]}, (2,), "write [2, 1] first"),
        ({"ssh_keys": [1, 2]}, (), "write [1], and leave it out"),
        ({"ssh_keys": [2]}, (2, 1), "write [2, 3]"),
    ],
)
def test_no_update_logs_in_with_a_key_that_a_machine_may_not_know(
    ended: dict[str, Any], declared: tuple[int, ...], instead: str
) -> None:
    with pytest.raises(Problem, match="since the last update that ended, ssh_keys") as why:
        demand_numbers(stack_with(ended), logging_in(*declared))
    assert instead in str(why.value)
