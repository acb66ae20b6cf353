"""An existing machine through the real engine: attached, given steps by sudo, and handed back."""

import json
import os
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from lab.paths import PROJECT
from plan import render
from plan.layout import STATE
from tests.engine.stack import EngineStack, empty_stack, stack
from tests.hypervisors.answering import AnsweringMachine
from tests.hypervisors.history import READY, ROLE, differing, home, listing, machine
from tests.plan.conftest import memory, new_machine

__all__ = ["empty_stack", "home", "machine", "memory", "new_machine", "stack"]

pytestmark = [pytest.mark.engine, pytest.mark.container]

PROGRAM = """
from ipaddress import IPv4Address
from components.remote import Login, copied_scripts, remote_command
from hypervisors.existing.machines import ExistingMachine
from hypervisors.port import ClusterKey
from spec.hypervisor import LoginSettings

values = json.loads(Path("values.json").read_text())
key = ClusterKey(public=values["public"], private=Output.secret(values["private"]))
machine = ExistingMachine(
    "m1", cluster="dev", access=values["access"], key=key, opts=ResourceOptions()
)
login = Login(
    address=IPv4Address("127.0.0.1"),
    private_key=key.private,
    host_key=values["access"]["host_key"],
    settings=LoginSettings(user="admin", port=values["access"]["port"]),
)
after = copied_scripts("m1-scripts", login=login, machine=machine, parent=machine)
for name, line, data, leaving in values["steps"]:
    after = remote_command(
        f"m1-{name}", line, data, seconds=300, login=login, machine=machine, parent=machine,
        after=[after], secret=True, leaving=leaving,
    )
"""

KEY = new_key_pair()
SECRET = "a key that nobody sees\n"


def test_a_machine_joins_and_leaves_through_the_engine(
    stack: EngineStack, machine: AnsweringMachine, home: Path
) -> None:
    container = machine.container
    before = listing(container)
    access = {"address": "127.0.0.1", "host_key": machine.host_key}
    steps = [
        (step.name, render.command(step), render.text(step, lambda _: SECRET), leaving)
        for step, leaving in ((READY, None), (ROLE, render.leaving("role")))
    ]
    values = {
        "access": access | {"port": machine.port, "user": "admin"},
        "public": KEY.public,
        "private": KEY.private,
        "steps": steps,
    }
    (stack.directory / "values.json").write_text(json.dumps(values))
    stack.write(PROGRAM)
    with_keys = {"PYTHONPATH": os.fspath(PROJECT), "HOME": os.fspath(home)}
    done = stack.up(environment=with_keys)
    assert done.steps()["m1"] == ["create"]
    assert container.read("/etc/x/key") == SECRET
    without_keys = {**with_keys, "HOME": "/nonexistent"}
    assert stack.preview("--expect-no-changes", environment=without_keys).status == 0
    refreshed = stack.up("--refresh", environment=without_keys).steps()
    assert {op for ops in refreshed.values() for op in ops} == {"refresh"}, refreshed
    for secret in (SECRET.strip(), KEY.private.splitlines()[2]):
        assert secret not in stack.state() + done.text + done.logged()
    container.call("rm", f"{STATE}/cluster")
    again = stack.up("--refresh", environment=with_keys).steps()
    assert again["m1"] == ["refresh", "create"]
    identifier = container.read("/etc/machine-id")
    container.write("/etc/machine-id", f"{'a' * 32}\n")
    again = stack.up("--refresh", environment=with_keys).steps()
    assert again["m1"] == ["refresh", "create"]
    assert "create-replacement" in again["m1-role"], "another machine gets all steps"
    container.write("/etc/machine-id", identifier)
    stack.destroy(environment=without_keys)
    assert differing(before, listing(container)) == {}
