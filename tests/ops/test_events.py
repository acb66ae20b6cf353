"""What is kept of the engine's events: never a value."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.events import kept_events, kept_of

METADATA = {"op": "create", "urn": "urn:pulumi:dev::p::t::n", "type": "t"}
PRE = {
    "sequence": 3,
    "timestamp": 12,
    "resourcePreEvent": {"metadata": {**METADATA, "new": {"inputs": {"key": "value"}}}},
}


def unsaid(sentence: str) -> None:
    pytest.fail(sentence)


def unseen(event: dict[str, Any]) -> None:
    del event


def test_names_operations_and_times_are_kept_and_values_are_not() -> None:
    assert kept_of(PRE) == {
        "timestamp": 12,
        "resourcePreEvent": {"metadata": METADATA},
    }


def test_what_a_plugin_prints_is_not_kept() -> None:
    printed = {"timestamp": 1, "diagnosticEvent": {"message": "ed25519_private: '-----BEGIN"}}
    assert kept_of(printed) is None


def error(message: str) -> str:
    """What is kept of an error of the engine about a resource."""
    diagnostic = {"urn": METADATA["urn"], "severity": "error", "message": message, "color": "raw"}
    event = kept_of({"timestamp": 7, "diagnosticEvent": diagnostic})
    assert event is not None
    kept = event.pop("diagnosticEvent")
    assert event == {"timestamp": 7}
    assert (kept.pop("urn"), kept.pop("severity")) == (METADATA["urn"], "error")
    (sentence,) = kept.values()
    assert "\n" not in sentence
    return str(sentence)


def test_of_a_failure_its_sentence_is_kept_and_nothing_of_the_log_below() -> None:
    log = "connection refused\nthe last lines of kubelet.service:\nI1128 a line with a token: x"
    command = "the command on root@192.168.1.10:22 failed with exit status 1"
    step = f"{command}\nstderr ends with:\nfailed: not yet after 300 s: it is up\n{log}\n"
    assert error(step) == "not yet after 300 s: it is up"
    assert error(f"{command}\nstderr ends with:\n{log}\n") == command
    assert error("Exception calling application: not yet after 9 s: b (c)\nd\n") == (
        "not yet after 9 s: b (c)"
    )
    assert len(error("x" * 5000)) <= 400


def test_no_key_is_kept_of_a_failure() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAA\\n"
    assert "b3Blbn" not in error(f"invalid user data: {key}")


def test_an_error_of_no_resource_is_not_kept() -> None:
    diagnostic = {"severity": "error", "message": "update failed"}
    assert kept_of({"timestamp": 1, "diagnosticEvent": diagnostic}) is None
    warning = {"urn": METADATA["urn"], "severity": "warning", "message": "a value"}
    assert kept_of({"timestamp": 1, "diagnosticEvent": warning}) is None


def test_what_another_process_writes_arrives_whole_and_the_pipe_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "events.json"
    lines = [json.dumps({**PRE, "timestamp": n, "more": "x" * 5000}) for n in range(200)]
    with kept_events(target, unsaid, unseen) as pipe:
        assert pipe.stat().st_mode & 0o777 == 0o600
        with pipe.open("a") as log:
            subprocess.run(
                ["cat"], input="\n".join(lines) + "\n", text=True, stdout=log, check=True
            )
    assert [json.loads(line)["timestamp"] for line in target.read_text().splitlines()] == [
        *range(200)
    ]
    assert not pipe.exists()


def test_an_engine_that_never_starts_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "events.pipe").write_text("left by one that was killed")
    with kept_events(tmp_path / "events.json", unsaid, unseen):
        pass
    assert (tmp_path / "events.json").read_text() == ""


def test_a_full_disk_does_not_hold_up_the_engine(tmp_path: Path) -> None:
    target = tmp_path / "events.json"
    target.symlink_to("/dev/full")
    messages: list[str] = []
    line = json.dumps({**PRE, "more": "x" * 5000}) + "\n"
    with kept_events(target, messages.append, unseen) as pipe, pipe.open("a") as log:
        # More than a pipe holds: who writes would wait for ever if nobody read it.
        subprocess.run(["cat"], input=line * 200, text=True, stdout=log, check=True, timeout=60)
    (sentence,) = messages
    assert sentence.startswith(f"{target} cannot be written (No space left on device): ")
    assert not target.is_symlink(), "half of the events would mislead"


def test_an_event_of_an_unknown_form_does_not_hold_up_the_engine(tmp_path: Path) -> None:
    target = tmp_path / "events.json"
    strange = [
        "[]",
        "1",
        "half a li",
        "",
        '{"resourcePreEvent": []}',
        '{"resourcePreEvent": {"metadata": {}}}',
    ]
    strange.append('{"resourcePreEvent": {"metadata": {"op": "create"}}, "timestamp": 1}')
    lines = "\n".join([*strange, json.dumps(PRE)] * 2000) + "\n"
    with kept_events(target, unsaid, unseen) as pipe, pipe.open("a") as log:
        subprocess.run(["cat"], input=lines, text=True, stdout=log, check=True, timeout=60)
    assert len(target.read_text().splitlines()) == 2000


def test_who_looks_on_gets_each_event_whole_and_may_go_away(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def see(event: dict[str, Any]) -> None:
        seen.append(event)
        if len(seen) > 1:
            raise BrokenPipeError

    target = tmp_path / "events.json"
    with kept_events(target, unsaid, see) as pipe, pipe.open("a") as log:
        log.write(f"{json.dumps(PRE)}\n" * 5)
    assert seen == [PRE] * 5
    assert len(target.read_text().splitlines()) == 5
