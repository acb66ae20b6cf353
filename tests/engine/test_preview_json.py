"""A preview with a host and one without say the same: the engine's JSON, and two recordings."""

import json
import runpy
from collections.abc import Iterable
from pathlib import Path

import pytest

from preview.change import ResourceChange, Verb
from preview.comparing import changes
from preview.engine import NotPreviewed, changes_of
from preview.recorder import Recorder, record
from preview.recording import registration
from preview.registration import hidden, is_secret
from tests.engine.sshd import Sshd
from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

BEFORE = """
class Group(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("test:index:Group", name)

group = Group("group")
key = pulumi.Stash(
    "key",
    input=Output.secret("first candidate"),
    opts=ResourceOptions(parent=group, ignore_changes=["input"]),
)
changed = remote.Command(
    "changed",
    connection=to("sshd"),
    create="cat >/dev/null",
    stdin="one\\ntwo\\n",
    opts=ResourceOptions(parent=group, custom_timeouts=CustomTimeouts(create="30m")),
)
hushed = remote.Command(
    "hushed",
    connection=to("sshd"),
    create="cat >/dev/null",
    stdin=Output.secret("never to be told\\n"),
    opts=ResourceOptions(additional_secret_outputs=["stdout", "stderr"], depends_on=[changed]),
)
gone = remote.Command("gone", connection=to("sshd"), create="true", opts=ResourceOptions())
anew = remote.Command("anew", connection=to("sshd"), create="true", triggers=["first"])
dies = remote.Command(
    "dies", connection=to("sshd"), create="true", opts=ResourceOptions(deleted_with=group)
)
older = remote.Command(
    "older", connection=to("sshd"), create="true", opts=ResourceOptions(ignore_changes=["update"])
)
"""

AFTER = (
    BEFORE.replace("first candidate", "second candidate")
    .replace("two", "three")
    .replace("never to be told", "nor this")
    .replace('"gone"', '"come"')
    .replace('triggers=["first"]', 'triggers=["second"]')
    # What an older program did not say, and what is settled with the first update.
    .replace("opts=ResourceOptions(ignore", 'update="false", opts=ResourceOptions(ignore')
)


def recorded(program: str, folder: Path, before: Recorder | None = None) -> Recorder:
    (folder / "__main__.py").write_text(program)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return record(
            lambda: runpy.run_path("__main__.py"),
            stack="test",
            held=before.seen if before else (),
        )


def by_name(resource_changes: Iterable[ResourceChange]) -> dict[str, ResourceChange]:
    return {change.name: change for change in resource_changes}


def test_what_the_engine_says_is_what_two_recordings_say(stack: EngineStack, sshd: Sshd) -> None:
    stack.write(BEFORE, sshd=sshd.connection())
    first = recorded((stack.directory / "__main__.py").read_text(), stack.directory)
    stack.up()
    stack.write(AFTER)
    output = stack.preview("--json", "--show-sames").text
    assert "never to be told" not in output
    engine = by_name(changes_of(output))
    second = recorded((stack.directory / "__main__.py").read_text(), stack.directory, first)
    without = by_name(
        changes(
            tuple(registration(resource) for resource in first.seen),
            tuple(registration(resource) for resource in second.seen),
        )
    )
    assert {name: change.verb for name, change in engine.items()} == {
        "group": Verb.SAME,
        "key": Verb.SAME,
        "changed": Verb.UPDATE,
        "hushed": Verb.UPDATE,
        "gone": Verb.DELETE,
        "come": Verb.CREATE,
        "anew": Verb.REPLACE,
        "dies": Verb.SAME,
        "older": Verb.SAME,
    }
    assert {name: change.verb for name, change in without.items()} == {
        name: change.verb for name, change in engine.items()
    }
    for name, change in engine.items():
        recording = without[name]
        assert change.kind == recording.kind
        assert change.keys == recording.keys or change.verb is Verb.SAME, name
        for side, same_side in ((change.before, recording.before), (change.after, recording.after)):
            assert (side is None) == (same_side is None), name
            if side and same_side and name != "key":
                assert side.custom == same_side.custom
                assert side.deleted_with == same_side.deleted_with
                assert side.dependencies == same_side.dependencies, name
                for key, value in same_side.inputs.items():
                    assert hidden(side.inputs[key]) == hidden(value), (name, key)
    assert engine["changed"].after
    assert engine["changed"].after.timeouts == {"create": "1800s"}
    hushed = engine["hushed"].after
    assert hushed
    assert is_secret(hushed.inputs["stdin"])
    assert {"stdout", "stderr"} <= set(hushed.additional_secret_outputs)


def test_a_program_that_fails_has_no_preview_but_its_words(stack: EngineStack, sshd: Sshd) -> None:
    stack.write("raise pulumi.RunError('the network is not given')", sshd=sshd.connection())
    output = stack.preview("--json", "--show-sames", fails=True).text
    with pytest.raises(NotPreviewed, match="the network is not given"):
        changes_of(output)


def test_a_provider_that_ends_slowly_is_no_error_of_a_preview_that_succeeded() -> None:
    urn = "urn:pulumi:dev::hardway::pulumi:pulumi:Stash::key"
    step = {"op": "create", "urn": urn, "newState": {"urn": urn, "type": "pulumi:pulumi:Stash"}}
    error = {"severity": "error", "message": "Detected that a plugin exited prematurely."}
    text = json.dumps({"steps": [step], "diagnostics": [error]})
    (change,) = changes_of(text, succeeded=True)
    assert change.verb is Verb.CREATE
    with pytest.raises(NotPreviewed, match="exited prematurely"):
        changes_of(text)
