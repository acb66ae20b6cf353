"""What holds of every add-on on machines: it has a state and memory, and leaves nothing."""

import json
from collections.abc import Set
from typing import Any

from tests.engine.stack import eventually
from tests.machine.lab import Lab


def with_add_ons(**settings: Any) -> dict[str, Any]:
    """A master and a minion, with these add-ons."""
    return {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            "master": {"address": "192.168.1.10", "roles": "ai", "cpus": 2, "memory": 3072},
            "minion1": {"address": "192.168.1.11"},
        },
        "addons": settings,
    }


def have_state_and_memory(lab: Lab) -> None:
    """Each add-on of the stack's file is on, without a fault and below its limit of memory."""
    states = {state["name"]: state for state in json.loads(lab.hardway("addons", "--json").stdout)}
    on = {name for name, state in states.items() if state["is_on"]}
    assert on == {"coredns", *lab.cluster["addons"]}
    for name in on:
        memory = states[name]["memory"]
        assert states[name]["faults"] == []
        assert 0 < memory["used"] < memory["limit"], memory
    shown = lab.hardway("addons").stdout
    assert "MiB" in shown
    print(shown)


def _namespaces(lab: Lab) -> set[str]:
    return {item["metadata"]["name"] for item in lab.objects("namespaces")["items"]}


def leave_nothing(lab: Lab, namespaces: Set[str]) -> None:
    """Switch every add-on off, and wait until these namespaces have gone."""
    lab.describe({key: value for key, value in lab.cluster.items() if key != "addons"})
    lab.hardway("up")
    eventually(
        "the namespaces are gone",
        lambda: not namespaces & _namespaces(lab),
        reason=lambda: lab.kubectl("get", "namespaces"),
    )
    lab.hardway("validate", "--wait", "1200")
    lab.pulumi("preview", "--expect-no-changes")
