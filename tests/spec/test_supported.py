"""What would be read and not followed is refused in sentences like all others."""

from typing import Any

import pytest

from spec.cluster import SpecError, parse
from spec.supported import demand_supported
from tests.spec.sentences import check
from tests.spec.test_refusals import GOOD

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg0sCyZ7Uo1qb0P5ZQ8yq0m1p8y5l1Zq1p8Q0m1p8y5"
EXISTING = {"kind": "existing", "host_keys": {"192.168.1.10": KEY, "192.168.1.11": KEY}}
VIRTUALBOX = {"kind": "virtualbox", "image": "/images/base.vdi"}
LIBVIRT = {"uri": "qemu:///system", "image": "base"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hypervisor": VIRTUALBOX}, "hypervisor.kind virtualbox cannot"),
        ({"m1": VIRTUALBOX}, "machines.m1.hypervisor.kind virtualbox cannot"),
    ],
)
def test_a_place_that_would_be_ignored_is_refused(changes: dict[str, Any], field: str) -> None:
    machines = {name: dict(machine) for name, machine in GOOD["machines"].items()}
    if "m1" in changes:
        machines["m1"] |= {"hypervisor": changes["m1"], "address": "10.1.0.11"}
    networks = {"machines": ["192.168.1.0/24", "10.1.0.0/24"], "routed": True}
    whole = {**GOOD, "machines": machines, **({"networks": networks} if "m1" in changes else {})}
    if "hypervisor" in changes:
        whole["hypervisor"] = changes["hypervisor"]
    spec = parse(whole, name="dev")
    with pytest.raises(SpecError) as refused:
        demand_supported(spec)
    (sentence,) = str(refused.value).splitlines()
    assert sentence.startswith(field)
    check(sentence)


@pytest.mark.parametrize("where", [None, LIBVIRT, EXISTING])
def test_one_hypervisor_for_all_machines_is_followed(where: dict[str, Any] | None) -> None:
    demand_supported(parse({**GOOD, **({"hypervisor": where} if where else {})}, name="dev"))


@pytest.mark.parametrize(
    "key",
    [
        "node-role.kubernetes.io/infra",
        "node-role.kubernetes.io/control-plane",
        "node.cluster.x-k8s.io/uninitialized",
        "example.org/dedicated",
    ],
)
def test_a_taint_that_no_controller_manages_is_taken(key: str) -> None:
    machines = {name: dict(machine) for name, machine in GOOD["machines"].items()}
    machines["m1"]["taints"] = [{"key": key, "effect": "NoSchedule"}]
    assert parse({**GOOD, "machines": machines}, name="dev").machines["m1"].taints[0].key == key


def test_a_control_planes_own_taint_stands_once() -> None:
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    machines = {
        "master": {"address": "192.168.1.10", "roles": "a", "taints": taints},
        "m1": {"address": "192.168.1.11"},
    }
    with pytest.raises(SpecError, match=r"machines\.master\.taints\.0\.key .* stand there twice"):
        parse({**GOOD, "machines": machines}, name="dev")
