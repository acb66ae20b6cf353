"""Which plugin made a stack is no change of it, asked of the real engine."""

import json
from typing import Any

import pytest

from tests.engine.sshd import Sshd
from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

MARK = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"


@pytest.mark.usefixtures("own_plugin")
def test_a_stack_that_an_earlier_build_made_has_an_empty_preview(
    stack: EngineStack, sshd: Sshd
) -> None:
    """It kept the key as text within the secret connection; the published plugin never did."""
    stack.write(
        'remote.Command("step", connection=to("sshd"), create="echo done")', sshd=sshd.connection()
    )
    stack.up()
    kept = json.loads(stack.export())
    step = resource_of(kept, "step")
    for values in (step["inputs"], step["outputs"]):
        connection = json.loads(values["connection"]["plaintext"])
        assert connection["privateKey"][MARK] == SECRET, "as the published plugin keeps it"
        connection["privateKey"] = json.loads(connection["privateKey"]["plaintext"])
        values["connection"]["plaintext"] = json.dumps(connection)
        values["addPreviousOutputInEnv"] = True
    stack.take(json.dumps(kept))
    assert stack.preview("--expect-no-changes").steps() == {}
    assert stack.up("--expect-no-changes").steps() == {}
    now = json.loads(
        resource_of(json.loads(stack.export()), "step")["inputs"]["connection"]["plaintext"]
    )
    assert now["privateKey"][MARK] == SECRET, "an update brings the inputs to today's form"


def resource_of(kept: dict[str, Any], name: str) -> dict[str, Any]:
    resources = [r for r in kept["deployment"]["resources"] if r["urn"].endswith(f"::{name}")]
    result: dict[str, Any] = resources[0]
    return result
