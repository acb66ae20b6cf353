"""What a person sees beside a step's row, at a terminal of 100 columns, by the real engine."""

from pathlib import Path

import pytest

from plan.library import script
from plan.model import Step
from tests.engine.sshd import MakeSshd
from tests.engine.stack import EngineStack, eventually
from tests.plan import inline

pytestmark = pytest.mark.engine

STEP = Step(name="etcd", outcome="etcd 3.7.1, healthy")

PROGRAM = """
class Part(pulumi.ComponentResource):
    def __init__(self, kind, name, parent=None):
        super().__init__(f"hardway:index:{kind}", name, None, ResourceOptions(parent=parent))

role = Part("ControlPlane", "minion1", Part("Cluster", "dev"))

def step(name, text, after=(), **options):
    return remote.Command(name, connection=to("late", dial_error_limit=240), create="bash -s",
        stdin=text, opts=ResourceOptions(parent=role, depends_on=after), **options)

first = step("minion1-etcd", Path("first").read_text())
secret = step("minion1-identity", "true", logging="none")
step("minion1-control-plane", Path("last").read_text(), after=[first, secret])
"""


@pytest.mark.usefixtures("own_plugin")
def test_a_machine_that_boots_is_no_failure_and_what_is_done_waits_for_nothing(
    stack: EngineStack, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    late, answers, seen = make_sshd(), tmp_path / "answers", tmp_path / "seen"
    limits = inline.functions("prelude").partition("\nexport LC_ALL")[0]
    waiting = script("prelude").partition("\n# -- waiting ")[2].partition("\n# await_api ")[0]
    assert "await()" in waiting
    wait = f'await 60 "the member is healthy (a b c)" x test -e {answers}\n'
    (stack.directory / "first").write_text(
        "\n".join([limits, f"# {waiting}", wait, f"echo '{STEP.outcome}'", ""])
    )
    (stack.directory / "last").write_text(
        f"echo 'until the scheduler is healthy'; until [ -e {seen} ]; do sleep 0.1; done\n"
    )
    stack.write(PROGRAM, late=late.connection())
    screen = stack.up_at_terminal(columns=100)

    def shows(name: str, status: str, info: str) -> None:
        """The row comes to this, as far as there is room for it."""
        eventually(
            f"{name} shows {info}",
            lambda: (
                (row := screen.row(name).partition(status))[1] != ""
                and len(message := row[2].partition(")")[2].strip(" .")) >= 15
                and info.startswith(message)
            ),
        )

    shows("minion1-etcd", "creating (", "boots, no SSH yet (0 s)")
    late.start()
    shows("minion1-etcd", "creating (", "until the member is healthy")
    answers.touch()
    shows("minion1-control-plane", "creating (", "until the scheduler is healthy")
    shows("minion1-etcd", "created (", STEP.outcome)
    eventually("it is done", lambda: "created (" in screen.row("minion1-identity"))
    assert "logged in after" in screen.row("minion1-identity")
    seen.touch()
    assert screen.wait() == 0, screen.text
