"""Whether keys were made that nobody has saved: after updates that succeed, fail or are killed."""

import json
import os
import time
from pathlib import Path

import pytest

from lab.paths import LabPaths
from ops.kept_secrets import SaveNotes
from ops.lifecycle import _note_new_keys, _say_what_to_save
from preview.kinds import AUTHORITIES, READY


def events(path: Path, kind: str, at: float) -> Path:
    """The event log of an update that created a resource of this type."""
    urn = f"urn:pulumi:dev::hardway::{kind}::it"
    metadata = {"op": "create", "urn": urn, "type": kind}
    lines = [
        {"sequence": 0, "timestamp": int(at), "resourcePreEvent": {"metadata": metadata}},
        {"sequence": 1, "timestamp": int(at) + 1, "resOutputsEvent": {"metadata": metadata}},
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    os.utime(path, (at, at))
    return path


def asks_to_save(paths: LabPaths, capsys: pytest.CaptureFixture[str]) -> bool:
    _say_what_to_save(paths, "dev")
    return "./hardway backup secrets" in capsys.readouterr().out


def test_it_is_said_until_the_keys_are_saved(
    paths: LabPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes, now = SaveNotes(paths, "dev"), time.time()
    log = events(tmp_path / "events", READY, now - 60)
    _note_new_keys(paths, "dev", log)
    assert not asks_to_save(paths, capsys), "no key was made"
    log = events(tmp_path / "events", AUTHORITIES, now - 50)
    _note_new_keys(paths, "dev", log)
    assert asks_to_save(paths, capsys)
    # The next update reads its predecessor's log, which it has if that was killed.
    _note_new_keys(paths, "dev", log)
    assert asks_to_save(paths, capsys)
    notes.saved()
    _note_new_keys(paths, "dev", log)
    assert not asks_to_save(paths, capsys)
    _note_new_keys(paths, "dev", events(tmp_path / "events", AUTHORITIES, now + 10))
    assert asks_to_save(paths, capsys)
    notes.forget()
    assert not asks_to_save(paths, capsys)
