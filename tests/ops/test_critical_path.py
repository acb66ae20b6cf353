"""What an update waited for, from events as the engine writes them."""

import json
from pathlib import Path
from typing import Any

from ops.critical_path import critical_path, dependencies, read_events, rows, spans

URN = "urn:pulumi:dev::hardway::command:remote:Command::"


STACK = {
    "op": "create",
    "urn": "urn:pulumi:dev::hardway::pulumi:pulumi:Stack::hardway-dev",
    "type": "pulumi:pulumi:Stack",
}


def event(kind: str, at: int, name: str, op: str = "create") -> dict[str, Any]:
    metadata = {"op": op, "urn": URN + name, "type": "command:remote:Command"}
    return {"timestamp": at, kind: {"metadata": metadata}}


def operation(name: str, begin: int, end: int, op: str) -> list[dict[str, Any]]:
    """The events of an operation on a resource, at its begin and its end."""
    return [event("resourcePreEvent", begin, name, op), event("resOutputsEvent", end, name, op)]


def test_it_follows_what_was_waited_for_last_and_leaves_out_what_was_ready_before() -> None:
    events = [
        {"timestamp": 1000, "resourcePreEvent": {"metadata": STACK}},
        event("resourcePreEvent", 1000, "boot-a"),
        event("resourcePreEvent", 1000, "boot-b"),
        event("resourcePreEvent", 1000, "kept", op="same"),
        event("resOutputsEvent", 1000, "kept", op="same"),
        event("resOutputsEvent", 1040, "boot-b"),
        event("resOutputsEvent", 1090, "boot-a"),
        event("resourcePreEvent", 1091, "join"),
        event("resOutputsEvent", 1130, "join"),
        # As in a real log: the stack ends when all is done, a second later.
        {"timestamp": 1131, "resOutputsEvent": {"metadata": STACK}},
    ]
    state = {
        "deployment": {
            "resources": [
                {
                    "urn": URN + "join",
                    "dependencies": [URN + "boot-b", URN + "boot-a", URN + "kept"],
                },
                {"urn": URN + "boot-a"},
                {"urn": URN + "boot-b"},
            ]
        }
    }
    path = critical_path(spans(events), dependencies(state))
    assert [(span.name, span.start, span.seconds) for span in path] == [
        ("boot-a", 0, 90),
        ("join", 91, 39),
    ]
    assert rows(path) == [("boot-a", "90", "69%", "0", "90"), ("join", "39", "30%", "91", "130")]


def test_an_update_that_changed_nothing_waited_for_nothing() -> None:
    assert critical_path({}, {}) == ()
    assert rows(()) == []


def test_what_a_refresh_only_asked_was_not_changed() -> None:
    events = [
        event("resourcePreEvent", 1000, "ready", op="refresh"),
        event("resourcePreEvent", 1000, "guard", op="refresh"),
        event("resOutputsEvent", 1009, "guard", op="refresh"),
        event("resourcePreEvent", 1010, "ready", op="same"),
        event("resOutputsEvent", 1010, "ready", op="same"),
        event("resourcePreEvent", 1010, "guard", op="update"),
        event("resOutputsEvent", 1030, "guard", op="update"),
    ]
    (changed,) = spans(events).values()
    assert (changed.name, changed.seconds) == ("guard", 20)


def test_a_resource_that_leaves_waited_for_what_the_others_did() -> None:
    events = [
        *operation("joins", 1000, 1040, "create"),
        *operation("leaves", 1041, 1043, "delete"),
    ]
    state = {"deployment": {"resources": [{"urn": URN + "joins"}]}}
    path = critical_path(spans(events), dependencies(state))
    assert [span.name for span in path] == ["joins", "leaves"]


def test_of_a_replaced_resource_the_creation_counts() -> None:
    events = [
        *operation("first", 1000, 1001, "create"),
        *operation("made-anew", 1001, 1031, "create-replacement"),
        *operation("made-anew", 1031, 1031, "replace"),
        *operation("made-anew", 1090, 1090, "delete-replaced"),
    ]
    span = spans(events)[URN + "made-anew"]
    assert (span.start, span.end) == (1, 31)


def test_a_log_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "events"
    log.write_text(json.dumps(event("resourcePreEvent", 1, "a")) + '\n{"timest')
    assert len(read_events(log)) == 1
