"""The members that may begin etcd's cluster, and those that join, also in the engine's previews."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).resolve().parents[2]

PROGRAM = """
from components.specification import Specification
from spec.cluster import parse

spec = parse({spec!r}, name="test")
specification = Specification(spec, ResourceOptions())
pulumi.Stash("step", input=specification.founding.apply(" ".join))
steps = {{name: pulumi.Stash(name, input=name) for name in spec.etcd_members}}
pulumi.Stash(
    "plane",
    input="plane",
    opts=ResourceOptions(
        depends_on=[specification.unless_joining(name, step) for name, step in steps.items()]
    ),
)
"""

HERE = {"PYTHONPATH": str(PROJECT)}
ALONE = {"specification": ["update"]}
"""The steps of a change that leaves what steps of members get as it was."""


def program(members: int, memory: int = 2048) -> str:
    """A cluster's spec, and a resource that depends on its founders as members' steps do."""
    machines = {
        f"e{number}": {"address": f"192.168.1.1{number}", "roles": "e"}
        for number in range(1, members + 1)
    }
    plane = {"address": "192.168.1.30", "roles": "ai", "memory": memory}
    spec = {"networks": {"machines": "192.168.1.0/24"}, "machines": {**machines, "master": plane}}
    return PROGRAM.format(spec=spec)


def in_state(stack: EngineStack, name: str) -> Any:
    resources = json.loads(stack.export())["deployment"]["resources"]
    (kept,) = (resource for resource in resources if resource["urn"].endswith(f"::{name}"))
    return kept


def founders(stack: EngineStack) -> str:
    return str(in_state(stack, "step")["inputs"]["input"])


def awaited(stack: EngineStack) -> set[str]:
    """The resources before which a control plane's step does not run."""
    return {urn.rpartition("::")[2] for urn in in_state(stack, "plane")["dependencies"]}


def test_members_that_come_later_begin_nothing(stack: EngineStack) -> None:
    stack.write(program(1))
    stack.up(environment=HERE)
    assert founders(stack) == "e1"
    assert awaited(stack) == {"specification", "e1"}

    stack.write(program(3))
    assert stack.preview(environment=HERE).steps() == ALONE
    stack.up(environment=HERE)
    assert founders(stack) == "e1"
    assert awaited(stack) == {"specification", "e1"}
    stack.preview("--expect-no-changes", environment=HERE)

    stack.write(program(3, memory=2304))
    assert stack.preview(environment=HERE).steps() == ALONE
    assert stack.up(environment=HERE).steps() == ALONE
    assert founders(stack) == "e1"
    assert awaited(stack) == {"specification", "e1", "e2", "e3"}
