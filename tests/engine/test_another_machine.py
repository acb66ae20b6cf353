"""A machine that is replaced or lost gets all its steps again, in the same update.

The machine is a file that a dynamic provider makes and that a refresh looks for; its steps are the
project's own remote commands, over a real SSH server.
"""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from lab.paths import PROJECT
from tests.engine.sshd import Sshd
from tests.engine.stack import CliRun, EngineStack

pytestmark = pytest.mark.engine

PROGRAM = """
import uuid

from pulumi import dynamic
from pulumi_command import remote


class MachineProvider(dynamic.ResourceProvider):
    def diff(self, id_, olds, news):
        replaces = ["size"] if olds["size"] != news["size"] else []
        return dynamic.DiffResult(
            changes=bool(replaces), replaces=replaces, delete_before_replace=True
        )

    def create(self, props):
        Path(props["file"]).touch()
        return dynamic.CreateResult(uuid.uuid4().hex, dict(props))

    def read(self, id_, props):
        return dynamic.ReadResult(id_ if Path(props["file"]).exists() else None, props)

    def delete(self, id_, props):
        Path(props["file"]).unlink(missing_ok=True)


class Machine(dynamic.Resource):
    def __init__(self, name, opts):
        super().__init__(MachineProvider(), name, {"size": SIZE, "file": FILE}, opts)


class Cluster(pulumi.ComponentResource):
    def __init__(self, opts=None):
        super().__init__("test:index:Cluster", "cluster", None, opts)
        connection = connections["sshd"]
        machine = Machine("machine", ResourceOptions(parent=self, delete_before_replace=True))
        done = []
        for step in ("ready", "node"):
            done = [self.step(f"machine-{step}", f"echo {step} >>{RAN}", connection, machine, done)]

    def step(self, name, script, connection, machine, after):
        raise NotImplementedError

"""

TODAY = """
from ipaddress import IPv4Address

from components.remote import Login, provider, remote_command


class Today(Cluster):
    def step(self, name, script, connection, machine, after):
        login = Login(
            address=IPv4Address(connection["host"]),
            private_key=connection["private_key"],
            host_key=connection["host_key"],
        )
        return remote_command(
            name,
            "timeout -k 10 1800 bash -euo pipefail -s",
            script,
            login=login,
            machine=machine,
            parent=self,
            after=after,
            seconds=1800,
        )


# The server of this test listens at another port, for another user.
HERE = {key: connections["sshd"][key] for key in ("port", "user")}
there = remote.ConnectionArgs
remote.ConnectionArgs = lambda **given: there(**{**given, **HERE})
Today(ResourceOptions(providers=[provider()]))
"""

BEFORE = """
class Before(Cluster):
    \"\"\"As the program declared its steps until it had a provider of commands of its own.\"\"\"

    def step(self, name, script, connection, machine, after):
        return remote.Command(
            name,
            connection=remote.ConnectionArgs(
                **{**connection, "dial_error_limit": 30, "per_dial_timeout": 30}
            ),
            create="timeout -k 10 1800 bash -euo pipefail -s",
            stdin=script,
            add_previous_output_in_env=False,
            opts=ResourceOptions(
                parent=self,
                deleted_with=machine,
                replace_with=[machine],
                depends_on=[machine, *after],
                custom_timeouts=CustomTimeouts(create="2040s", update="2040s", delete="1m"),
            ),
        )


Before()
"""


class TwoStepStack:
    """A stack of one machine with two steps."""

    def __init__(self, stack: EngineStack, sshd: Sshd, folder: Path) -> None:
        self.stack, self.sshd = stack, sshd
        self.machine, self.ran = folder / "machine", folder / "ran"

    def write(self, program: str, *, size: int = 1) -> None:
        names = f"SIZE, FILE, RAN = {size!r}, {str(self.machine)!r}, {str(self.ran)!r}\n"
        text = textwrap.dedent(PROGRAM).replace(
            "\n\nclass Machine", f"\n\n{names}\n\nclass Machine"
        )
        connection: dict[str, Any] = self.sshd.connection()
        self.stack.write(text + textwrap.dedent(program), sshd=connection)

    def up(self, *options: str) -> CliRun:
        return self.stack.up(*options, environment={"PYTHONPATH": str(PROJECT)})

    def preview(self, *options: str) -> CliRun:
        return self.stack.preview(*options, environment={"PYTHONPATH": str(PROJECT)})

    def done(self) -> list[str]:
        """The steps that ran since this was asked last."""
        steps = self.ran.read_text().split() if self.ran.exists() else []
        self.ran.unlink(missing_ok=True)
        return steps


@pytest.fixture
def living(stack: EngineStack, sshd: Sshd, tmp_path: Path) -> TwoStepStack:
    return TwoStepStack(stack, sshd, tmp_path)


ALL = ["ready", "node"]


@pytest.mark.parametrize("program", [TODAY, BEFORE], ids=["of today", "made before"])
def test_a_machine_that_is_replaced_gets_all_its_steps_in_that_update(
    living: TwoStepStack, program: str
) -> None:
    living.write(program)
    living.up()
    assert living.done() == ALL
    living.write(TODAY)
    living.preview("--expect-no-changes")
    for size in (2, 3):
        living.write(TODAY, size=size)
        previewed = living.preview().steps()
        run = living.up()
        assert living.done() == ALL, run.text
        assert run.steps().keys() == previewed.keys() >= {"machine", "machine-node"}
        living.preview("--expect-no-changes")


def test_a_machine_that_was_lost_gets_all_its_steps_in_that_update(living: TwoStepStack) -> None:
    living.write(TODAY)
    living.up()
    assert living.done() == ALL
    living.machine.unlink()
    living.up("--refresh")
    assert living.machine.exists()
    assert living.done() == ALL
    living.preview("--expect-no-changes")
