"""What is kept of the engine's events: never a value."""

import json
import subprocess
from pathlib import Path

from ops.events import kept, kept_events

METADATA = {"op": "create", "urn": "urn:pulumi:dev::p::t::n", "type": "t"}
PRE = {
    "sequence": 3,
    "timestamp": 12,
    "resourcePreEvent": {"metadata": {**METADATA, "new": {"inputs": {"key": "value"}}}},
}


def test_names_operations_and_times_are_kept_and_values_are_not() -> None:
    assert kept(json.dumps(PRE).encode()) == {
        "timestamp": 12,
        "resourcePreEvent": {"metadata": METADATA},
    }


def test_what_a_plugin_prints_is_not_kept() -> None:
    said = {"timestamp": 1, "diagnosticEvent": {"message": "ed25519_private: '-----BEGIN"}}
    assert kept(json.dumps(said).encode()) is None
    assert kept(b"half a li") is None
    assert kept(b"") is None


def test_what_another_process_writes_arrives_whole_and_the_pipe_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "events.json"
    lines = [json.dumps({**PRE, "timestamp": n, "more": "x" * 5000}) for n in range(200)]
    with kept_events(target) as pipe:
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
    with kept_events(tmp_path / "events.json"):
        pass
    assert (tmp_path / "events.json").read_text() == ""
