"""The policy pack in previews of the real CLI: a clean program passes, a spoiled one is stopped."""

from pathlib import Path

import pytest

from policy.rules import judge
from preview.engine import changes_of
from tests.engine.stack import CliRun, EngineStack

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).resolve().parents[2]
PACK = ("--policy-pack", str(PROJECT / "policy" / "pack"))

# The program's own modules are at hand, as in the project itself.
HERE = {"PYTHONPATH": str(PROJECT)}

CLEAN = """
from ipaddress import IPv4Address

from components.remote import Login, remote_command
from plan import library

key = "-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2hunter2\\n-----END OPENSSH PRIVATE KEY-----\\n"
login = Login(
    address=IPv4Address("127.0.0.1"),
    private_key=Output.secret(key),
    host_key="ssh-ed25519 AAAA",
)
machine = pulumi.Stash("machine", input="a machine")


def step(name, data, **words):
    line = library.command(60, ["prelude"])
    return remote_command(
        name, line, data, login=login, machine=machine, parent=machine, seconds=60, **words
    )


step("machine-etcd", "step\\tetcd\\nartifact\\tetcd\\t%s\\t0555\\nend\\n" % ("0" * 64))
step("machine-identity", key, secret=True)
"""


def violations(run: CliRun, name: str) -> str:
    """What the pack says of a resource."""
    events = (event.get("policyEvent", {}) for event in run.events)
    return "\n".join(
        f"{event['policyName']}: {event['message']}"
        for event in events
        if event and event.get("resourceUrn", "").endswith(f"::{name}")
    )


def test_a_clean_program_passes(stack: EngineStack) -> None:
    stack.write(CLEAN)
    run = stack.preview(*PACK, environment=HERE)
    assert "hardway@v1.0.0" in run.text
    assert run.steps().keys() == {"machine-etcd", "machine-identity"}
    assert not [event for event in run.events if "policyEvent" in event]


SPOILED = {
    "no-private-key-in-the-clear": 'step("{}", key)',
    "artifact-has-a-digest": (
        'step("{}", "step\\tetcd\\nartifact\\tetcd\\tlatest\\t0555\\nend\\n")'
    ),
    "command-has-limits": 'remote.Command("{}", connection=to("a"))',
    "command-knows-its-host": 'remote.Command("{}", connection=to("a"))',
    "command-is-only-updated": 'remote.Command("{}", connection=to("a"), triggers=["a"])',
    "command-is-the-shell": 'remote.Command("{}", connection=to("a"), create="true")',
    "secret-script-stays-hidden": (
        'remote.Command("{}", connection=to("a"), stdin=Output.secret(key))'
    ),
}
"""A rule to a resource that breaks it, perhaps among others; its name is the rule's."""


def test_spoiled_ones_are_stopped_in_the_rules_words_without_a_secret(stack: EngineStack) -> None:
    spoiled = "\n".join(line.format(rule) for rule, line in SPOILED.items())
    stack.write(f"{CLEAN}\n{spoiled}\n", a={"host": "127.0.0.1", "user": "root"})
    run = stack.preview(*PACK, fails=True, environment=HERE)
    for rule in SPOILED:
        assert f"{rule}: " in violations(run, rule)
    assert "mandatory" in run.text
    assert violations(run, "machine-etcd") == violations(run, "machine-identity") == ""
    assert "hunter2" not in run.text
    assert "hunter2" not in run.logged()


def test_the_rules_say_the_same_of_what_the_engine_tells(stack: EngineStack) -> None:
    spoiled = 'remote.Command("spoiled", connection=to("a"), triggers=["a"], stdin=key)'
    stack.write(f"{CLEAN}\n{spoiled}\n", a={"host": "127.0.0.1", "user": "root"})
    changes = changes_of(stack.preview_as_json(environment=HERE))
    broken = {
        (violation.resource, violation.rule)
        for violation in judge(changes)
        # The machine here is none that a hypervisor made.
        if violation.rule != "command-dies-with-its-machine"
    }
    assert broken == {
        ("spoiled", "no-private-key-in-the-clear"),
        ("spoiled", "command-has-limits"),
        ("spoiled", "command-is-only-updated"),
        ("spoiled", "command-is-the-shell"),
    }
