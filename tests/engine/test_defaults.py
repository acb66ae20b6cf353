"""What the libvirt plugin adds to the inputs of a machine, as an adopted state must have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from hypervisors.adapters import completed
from hypervisors.libvirt.resources import DOMAIN, REPLACED_FOR
from tests.engine.session_libvirt import SessionLibvirt
from tests.engine.stack import EngineStack

pytestmark = pytest.mark.engine

PROGRAM = """
from hypervisors.libvirt.machines import LibvirtHypervisor
from hypervisors.port import ClusterKey, Seed, Subnet
from spec.cluster import parse
from spec.hypervisor import Libvirt

spec = parse(
    {"networks": {"machines": "192.168.1.0/24"}, "machines": {"m": {"address": "192.168.1.10"}}},
    name="dev",
)
whole = pulumi.ComponentResource("test:index:Group", "whole")
where = Libvirt(
    uri=Path("uri").read_text(), pool="disks", image="base", kernel="/k", console_logs="/c"
)
hypervisor = LibvirtHypervisor(where, whole)
subnet = Subnet(
    resource="network", name="dev", addresses=spec.networks.machines[0], is_routed=False
)
hypervisor.network(subnet, whole)
hypervisor.machine(
    "m",
    spec.machines["m"],
    domain="dev-m",
    network="none",
    mac="52:54:00:00:00:01",
    seed=Seed(user_data="a: b\\n", meta_data="a: b\\n", network_config="c: d\\n"),
    key=ClusterKey(public="", private=""),
    parent=whole,
)
"""

MARK = "__defaults"
"""The input in which the plugin names what it has added."""


def without_defaults(value: Any) -> Any:
    """Inputs as the program gave them to the plugin."""
    if isinstance(value, dict):
        added = {MARK, *value.get(MARK, ())}
        return {key: without_defaults(item) for key, item in value.items() if key not in added}
    return [without_defaults(item) for item in value] if isinstance(value, list) else value


def without_mark(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_mark(item) for key, item in value.items() if key != MARK}
    return [without_mark(item) for item in value] if isinstance(value, list) else value


def test_a_state_is_completed_with_what_the_plugin_adds(
    stack: EngineStack, session_libvirt: SessionLibvirt
) -> None:
    (stack.directory / "uri").write_text(session_libvirt.uri)
    stack.write(PROGRAM)
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    document = json.loads(stack.preview_as_json(environment=here))
    checked = {
        step["newState"]["type"]: step["newState"]["inputs"]
        for step in document["steps"]
        if step["newState"]["type"] in REPLACED_FOR
    }
    assert checked.keys() == REPLACED_FOR.keys()
    for kind, inputs in checked.items():
        assert completed(kind, without_defaults(inputs)) == without_mark(inputs), kind
    given = without_defaults(checked[DOMAIN])
    assert completed(DOMAIN, given) != given
