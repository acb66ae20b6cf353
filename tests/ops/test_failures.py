"""What somebody sees of an update that failed on several machines, from events that were kept."""

import json
from pathlib import Path
from typing import Any

from ops.critical_path import read_events
from ops.events import kept_events
from ops.failures import failures
from ops.lifecycle import _failed

CLUSTER = "urn:pulumi:dev::hardway::hardway:index:Cluster$"
COMMAND = "hardway:index:Machine$command:remote:Command::"
MACHINES = ("minion", "minion-2", "master")

LOG = "".join(f"I1128 09:00:00 kubelet_node_status.go:{n}] {'x' * 300}\n" for n in range(8))


def event(kind: str, at: int, urn: str, op: str = "create") -> dict[str, Any]:
    kind_of = urn.split("::")[0].rpartition("$")[2]
    return {"timestamp": at, kind: {"metadata": {"op": op, "urn": CLUSTER + urn, "type": kind_of}}}


def begun(at: int, urn: str) -> dict[str, Any]:
    return event("resourcePreEvent", at, urn)


def failed(at: int, urn: str, message: str) -> list[dict[str, Any]]:
    """As the engine has it: first why, then that."""
    diagnostic = {"urn": CLUSTER + urn, "severity": "error", "message": message, "color": "raw"}
    return [{"timestamp": at, "diagnosticEvent": diagnostic}, event("resOpFailedEvent", at, urn)]


def step(sentence: str) -> str:
    """The error of a command that fails so."""
    summary = "the command on root@192.168.1.10:22 failed with exit status 1"
    return f"{summary}\nstderr ends with:\nfailed: {sentence}\nthe last lines of a.service:\n{LOG}"


def sentences(tmp_path: Path, events: list[dict[str, Any]]) -> tuple[str, ...]:
    """What is said of an update whose engine wrote these events."""
    target = tmp_path / "events.json"
    with kept_events(target, print, lambda _: None) as pipe:
        pipe.write_text("".join(f"{json.dumps(entry)}\n" for entry in events))
    assert "I1128" not in target.read_text()
    return failures(read_events(target), MACHINES)


SEVERAL = [
    begun(1000, f"{COMMAND}minion-2-node"),
    begun(1001, f"{COMMAND}master-control-plane"),
    begun(1002, f"{COMMAND}minion-node"),
    begun(1003, f"{COMMAND}master-runtime"),
    begun(1004, "hardway:index:Machine$libvirt:index/domain:Domain::minion-machine"),
    *failed(1412, f"{COMMAND}minion-2-node", step("not yet after 300 s: the kubelet is healthy")),
    *failed(1340, f"{COMMAND}master-control-plane", step("not yet after 30 s: the API is ready")),
    {"timestamp": 1413, "diagnosticEvent": {"severity": "error", "message": "update failed"}},
    *failed(1500, f"{COMMAND}minion-node", "the command on root@a:22 failed with exit status 124"),
    event("resOutputsEvent", 1501, f"{COMMAND}master-runtime"),
    *failed(
        1506, "hardway:index:Machine$libvirt:index/domain:Domain::minion-machine", "no memory\nx"
    ),
]
SENTENCES = tuple(
    f"{where}: {why} (after {seconds} s by this computer's clock)"
    for where, why, seconds in (
        ("master, step control-plane", "not yet after 30 s: the API is ready", 339),
        ("minion-2, step node", "not yet after 300 s: the kubelet is healthy", 412),
        ("minion, step node", "the command on root@a:22 failed with exit status 124", 498),
        ("minion, machine", "no memory", 502),
    )
)


def test_each_machine_has_its_sentence_the_earliest_first(tmp_path: Path) -> None:
    assert sentences(tmp_path, SEVERAL) == SENTENCES


def test_the_sentences_come_before_all_else_that_is_said_at_the_end() -> None:
    lines = str(_failed(255, SENTENCES)).splitlines()
    assert tuple(lines[:-1]) == SENTENCES
    assert lines[-1].startswith("pulumi up ended with exit status 255: read their logs above; ")


def test_an_update_that_ended_without_a_word_of_any_resource_has_one_sentence() -> None:
    (line,) = str(_failed(255, failures([], MACHINES))).splitlines()
    assert line.startswith("pulumi up ended with exit status 255: read its message above; ")


def test_what_was_done_after_all_has_not_failed(tmp_path: Path) -> None:
    """A kernel ended itself, and the update was begun again."""
    node, runtime = f"{COMMAND}minion-node", f"{COMMAND}minion-runtime"
    events = [
        begun(1000, node),
        begun(1000, runtime),
        *failed(1100, node, step("the connection was lost")),
        *failed(1100, runtime, step("the connection was lost")),
        begun(1200, node),
        begun(1200, runtime),
        event("resOutputsEvent", 1300, node),
        *failed(1310, runtime, step("no room")),
    ]
    (sentence,) = sentences(tmp_path, events)
    assert sentence == "minion, step runtime: no room (after 110 s by this computer's clock)"


def test_what_belongs_to_no_machine_is_called_by_its_name(tmp_path: Path) -> None:
    ready = "pulumi-python:dynamic/hardway:Ready::ready"
    why = "Exception calling application: not yet after 900 s: all is well (it is not)\nmore\n"
    (sentence,) = sentences(tmp_path, [begun(1000, ready), *failed(1930, ready, why)])
    assert sentence.startswith("ready: not yet after 900 s: all is well (it is not) (after 930 s")
    # Nor does it where a machine is called as its name begins.
    keys = "pulumi-python:dynamic/hardway:TrackedBundle::minion-keys"
    (sentence,) = sentences(tmp_path, [begun(1000, keys), *failed(1001, keys, "no key")])
    assert sentence.startswith("minion-keys: no key")


def test_without_a_reason_it_has_failed_all_the_same(tmp_path: Path) -> None:
    urn = f"{COMMAND}minion-node"
    events = [begun(1000, urn), event("resOpFailedEvent", 1005, urn)]
    (sentence,) = sentences(tmp_path, events)
    assert sentence == "minion, step node: failed (after 5 s by this computer's clock)"


def test_what_machines_lacked_is_said_beside_each_step_that_failed(tmp_path: Path) -> None:
    asked = []

    def lacked(machine: str | None, begin: float, end: float) -> str:
        asked.append((machine, begin, end))
        return "minion got 0.1 of the 0.9 processors that it asked for" if machine else ""

    ready = "pulumi-python:dynamic/hardway:Ready::ready"
    events = [
        begun(1000, f"{COMMAND}minion-node"),
        *failed(1300, f"{COMMAND}minion-node", step("not yet after 300 s: it is well")),
        begun(1310, ready),
        *failed(1400, ready, "not yet"),
    ]
    sentences(tmp_path, events)
    kept = read_events(tmp_path / "events.json")
    of_minion, of_all = failures(kept, MACHINES, lacked)
    assert of_minion == (
        "minion, step node: not yet after 300 s: it is well (after 300 s by this computer's clock; "
        "minion got 0.1 of the 0.9 processors that it asked for)"
    )
    assert of_all == "ready: not yet (after 90 s by this computer's clock)"
    assert asked == [("minion", 1000, 1300), (None, 1310, 1400)]
