"""Drift through the real engine: seen only by a refresh, told in clear, mended and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lab.paths import PROJECT
from preview.change import Verb
from preview.engine import changes_of
from preview.reviewing import _resources
from tests.engine.sshd import Sshd
from tests.engine.stack import EngineStack
from tests.probe.machine import machine

pytestmark = pytest.mark.engine

PROGRAM = """
from components.guard import Guard, login
from plan.contents import ITEMS, STEPS, Contents

values = json.loads(Path("guarded.json").read_text())
contents = Contents(
    items=ITEMS.validate_python(values["items"]), steps=STEPS.validate_python(values["steps"])
)
guard = Guard(
    "master-guard",
    login=login("master", values["access"], values["key"]),
    contents=contents,
    secrets=json.dumps(values["secrets"]),
    opts=ResourceOptions(),
)
pulumi.export("repairs", guard.repairs)
"""

# Providers are found by their module's name, which in the project itself is at hand.
HERE = {"PYTHONPATH": str(PROJECT)}
SECRET = "a key that nobody sees\n"


class Guarded:
    """A machine with two files and a secret one, each made by a step of its own."""

    def __init__(self, stack: EngineStack, sshd: Sshd, folder: Path) -> None:
        self.stack, self.sshd, self.folder = stack, sshd, folder
        folder.mkdir()
        self.owner = folder.owner() + ":" + folder.group()
        self.contents = {"one": "first\n", "two": "second\n"}
        self.ran = folder / "ran"
        self.write()

    def path(self, name: str) -> Path:
        return self.folder / name

    def sum(self, name: str) -> str:
        return hashlib.sha256(self.path(name).read_bytes()).hexdigest()

    def write(self) -> None:
        items = [self._item(name, text) for name, text in self.contents.items()]
        items.append(self._item("key", None))
        texts = {**self.contents, "key": SECRET}
        steps = [
            {
                "name": name,
                "line": "exec bash -euo pipefail -s",
                "data": self._text(name, text),
                "seconds": 60,
                "secret": name == "key",
            }
            for name, text in texts.items()
        ]
        values = {
            "items": items,
            "steps": steps,
            "access": vars(machine(self.sshd)),
            "key": (self.sshd.directory / "client_key").read_text(),
            "secrets": {str(self.path("key")): hashlib.sha256(SECRET.encode()).hexdigest()},
        }
        (self.stack.directory / "guarded.json").write_text(json.dumps(values))
        self.stack.write(PROGRAM)

    def _item(self, name: str, text: str | None) -> dict[str, Any]:
        content = "as kept in the state"
        if text is not None:
            content = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        wanted = f"{content} 0600 {self.owner}"
        return {"kind": "file", "name": str(self.path(name)), "wanted": wanted, "step": name}

    def _text(self, name: str, text: str) -> str:
        path = self.path(name)
        return (
            f"umask 077\necho {name} >>{self.ran}\nprintf %s {text!r} >{path}.new\n"
            f"mv {path}.new {path}\n"
        ).replace(repr(text), "$'" + text.replace("\n", "\\n") + "'")

    def done(self) -> list[str]:
        """The steps that ran since this was asked last."""
        steps = self.ran.read_text().split() if self.ran.exists() else []
        self.ran.unlink(missing_ok=True)
        return steps

    def preview(self, *options: str) -> Any:
        return self.stack.preview(*options, environment=HERE)

    def up(self, *options: str, fails: bool = False) -> Any:
        return self.stack.up(*options, environment=HERE, fails=fails)

    def logins(self) -> int:
        return self.sshd.log().count("Accepted publickey")

    def exported(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole state with its secrets in the clear, and the guard in it."""
        state = json.loads(self.stack.export())
        (guard,) = (
            resource
            for resource in state["deployment"]["resources"]
            if resource["urn"].endswith("::master-guard")
        )
        return state, guard


@pytest.fixture
def guarded(stack: EngineStack, sshd: Sshd, tmp_path: Path) -> Guarded:
    machine = Guarded(stack, sshd, tmp_path / "machine")
    machine.up()
    assert machine.done() == ["one", "two", "key"], "what is not there is brought about"
    return machine


def test_only_a_refresh_asks_and_a_clean_machine_is_no_change(guarded: Guarded) -> None:
    asked = guarded.logins()
    guarded.preview("--expect-no-changes")
    assert guarded.up().steps() == {}
    assert guarded.logins() == asked
    guarded.preview("--refresh", "--expect-no-changes")
    assert guarded.up("--refresh").steps().get("master-guard") in (None, ["refresh"])
    assert guarded.logins() == asked + 2
    assert guarded.done() == []


def test_drift_is_told_with_both_digests_and_exactly_that_is_mended(guarded: Guarded) -> None:
    wanted = guarded.sum("one")
    guarded.path("one").write_text("by hand\n")
    drifted = guarded.sum("one")
    guarded.preview("--expect-no-changes")
    preview = guarded.preview("--refresh", "--diff")
    print(preview.text)
    assert "update" in preview.steps()["master-guard"]
    for word in ("master-guard", str(guarded.path("one")), wanted, drifted):
        assert word in preview.text, preview.text
    print(preview.text)
    assert guarded.done() == []
    assert guarded.sum("one") == drifted, "a preview changes nothing"

    run = guarded.up("--refresh")
    print(run.text)
    assert guarded.done() == ["one"]
    assert guarded.sum("one") == wanted
    assert json.loads(guarded.stack.export())["deployment"]
    guarded.preview("--refresh", "--expect-no-changes")


def test_a_secret_file_is_told_without_its_digest_and_no_key_is_in_the_clear(
    guarded: Guarded,
) -> None:
    guarded.path("key").write_text("another\n")
    drifted = guarded.sum("key")
    preview = guarded.preview("--refresh", "--diff")
    assert "other content" in preview.text
    refreshed = guarded.stack._run("refresh", "--yes", "--skip-preview", environment=HERE)
    state = guarded.stack.state()
    run = guarded.up()
    assert guarded.done() == ["key"]
    assert guarded.path("key").read_text() == SECRET
    texts = [preview.text, refreshed.text, run.text, state, guarded.stack.state()]
    texts += [json.dumps(cli_run.events) for cli_run in (preview, refreshed, run)]
    ssh_key = (guarded.sshd.directory / "client_key").read_text().splitlines()[1]
    wanted = hashlib.sha256(SECRET.encode()).hexdigest()
    for text in texts:
        for secret in (ssh_key, wanted, drifted, SECRET.strip()):
            assert secret not in text


def test_a_machine_that_cannot_be_asked_has_not_drifted(guarded: Guarded) -> None:
    guarded.path("one").write_text("by hand\n")
    guarded.sshd.stop()
    preview = guarded.preview("--refresh", "--expect-no-changes")
    print(preview.text)
    assert "master (127.0.0.1 port" in preview.text
    assert "nobody knows what master holds now" in preview.text
    assert "Traceback" not in preview.text
    run = guarded.up("--refresh")
    assert guarded.done() == []
    assert "Traceback" not in run.text
    guarded.sshd.start()
    assert "update" in guarded.preview("--refresh").steps()["master-guard"]


def test_what_cannot_be_mended_is_told_in_a_sentence_and_seen_again(guarded: Guarded) -> None:
    guarded.contents["two"] = "third\n"
    guarded.write()
    broken = json.loads((guarded.stack.directory / "guarded.json").read_text())
    broken["steps"][1]["data"] = "true\n"
    (guarded.stack.directory / "guarded.json").write_text(json.dumps(broken))
    run = guarded.up(fails=True)
    print(run.text)
    assert f"file {guarded.path('two')} is sha256:{guarded.sum('two')} 0600" in run.text
    assert "Traceback" not in run.text
    guarded.write()
    guarded.up()
    assert guarded.done() == ["two"]
    assert guarded.path("two").read_text() == "third\n"


def test_inputs_that_an_earlier_program_kept_as_texts_become_digests_without_a_change(
    guarded: Guarded,
) -> None:
    names = {"items", "login", "secrets", "steps"}
    state, guard = guarded.exported()
    digests = {name: guard["inputs"][name] for name in names}
    assert {len(json.loads(digest["plaintext"])) for digest in digests.values()} == {64}
    for name in names - {"steps"}:
        guard["inputs"][name] = guard["outputs"][name]
    guard["inputs"]["steps"] = guard["outputs"]["items"]  # its text is in no state any more
    guarded.stack.take(json.dumps(state))
    guarded.preview("--expect-no-changes")
    guarded.preview("--refresh", "--expect-no-changes")
    assert guarded.up().steps() == {}
    assert guarded.done() == []
    _, guard = guarded.exported()
    assert {name: guard["inputs"][name] for name in names} == digests


def test_a_change_of_nothing_but_secrets_says_so(guarded: Guarded) -> None:
    file = guarded.stack.directory / "guarded.json"
    changed = json.loads(file.read_text())
    changed["steps"][1]["data"] += "true\n"
    file.write_text(json.dumps(changed))
    # Not by ``reviewed``: there is no cluster in this program.
    (line,) = _resources(changes_of(guarded.stack.preview_as_json(environment=HERE)))
    assert (line.name, line.verb) == ("master-guard", Verb.UPDATE)
    assert line.why == "secret inputs change (of these: items, login, secrets, steps)"
