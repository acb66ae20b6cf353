"""Specs for hypothesis: good ones of every shape, and the same with mistakes in them."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from spec.versions import catalogue
from tests.spec.pem import PEM
from tests.spec.test_refusals import ED25519

Value = dict[str, Any]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=70),
    st.sampled_from(
        [
            *("", "x" * 300, "UPPER", "under_score", "a.b", "é", "\n", "\u2028", "🦆", "localhost"),
            *("0.0.0.0/0", "127.0.0.0/8", "192.168.1.0/24", "10.0.0.0/31", "192.168.1.7/24"),
            *("192.168.1.1", "192.168.1.10", "224.0.0.1", "::1", "1.37.1", "docker", "ai", "e"),
        ]
    ),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
"""What no field expects, or only one of them."""


NUMBERS = st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True)

MOST_CPUS = 64
"""Of a machine of VirtualBox's."""


@st.composite
def good_specs(draw: st.DrawFn) -> Value:
    """A spec that fits together: its etcd apart or not, one or more control planes, any options."""
    several = draw(st.booleans())
    controls = draw(st.sampled_from(["a", "ai", "aie"]))
    members_apart = controls != "aie" and draw(st.booleans())
    roles: list[str] = [controls] * (3 if several else 1)
    roles += ["e"] * (draw(st.sampled_from([1, 3])) if members_apart else 0)
    roles += ["i"] * draw(st.integers(1, 4))
    value: Value = {
        "networks": {
            "machines": "192.168.1.0/24",
            "name_servers": draw(st.sampled_from([[], ["192.0.2.53"]])),
            "mtu": draw(st.sampled_from([None, 1330, 1500])),
            "time_servers": draw(st.sampled_from([[], ["192.0.2.12", "ntp.example.org"]])),
        },
        "machines": {
            f"m{number}": draw(_machine(f"192.168.1.{number + 10}", letters))
            for number, letters in enumerate(roles)
        },
    }
    endpoints: list[Value] = [
        {"kind": "virtual-ip", "address": "192.168.1.100"},
        {"kind": "balancer", "host": "api.example.org", "port": 443},
    ]
    if several:
        value["endpoint"] = draw(st.sampled_from(endpoints))
    existing = {
        "kind": "existing",
        "host_keys": {machine["address"]: ED25519 for machine in value["machines"].values()},
    }
    options: dict[str, st.SearchStrategy[Any]] = {
        "name": st.sampled_from(["dev", "a", "x" * 63]),
        "kubernetes": st.sampled_from([versions.kubernetes for versions in catalogue()]),
        "architecture": st.sampled_from(["amd64", "arm64"]),
        "dns_domain": st.sampled_from(["cluster.local", "k8s.example.org", "local"]),
        "runtime": st.sampled_from(["containerd", "docker"]),
        "proxy_mode": st.sampled_from(["nftables", "iptables"]),
        "proxy": st.sampled_from(
            [{"https": "http://proxy:3128"}, {"http": "http://proxy", "no_proxy": [".example"]}]
        ),
        "registries": st.sampled_from(
            [
                {"docker.io": {"mirrors": ["https://mirror.example"]}},
                {"registry.example:5000": {"authority": PEM}, "10.0.0.1": {"insecure": True}},
            ]
        ),
        "keys": st.fixed_dictionaries(
            {}, optional={"encryption": st.integers(1, 9), "service_accounts": st.integers(1, 9)}
        ),
        "authorities": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("kubernetes", "etcd", "front_proxy"), NUMBERS)
        ),
        "ssh_keys": NUMBERS,
        "etcd": st.fixed_dictionaries(
            {"generation": st.integers(1, 9)}, optional={"version": st.just("3.6.14")}
        ),
        "flannel": st.fixed_dictionaries(
            {},
            optional={
                "backend": st.sampled_from(["vxlan", "host-gw"]),
                "store": st.sampled_from(["etcd", "kubernetes"]),
                "port": st.sampled_from([8472, 4789]),
            },
        ),
        "addons": st.sampled_from(
            [{"coredns": False}, {"coredns": True, "name_servers": ["192.0.2.53"]}]
        ),
        "hypervisor": st.sampled_from(
            [
                {"uri": "qemu:///system", "image": "base"},
                {"kind": "virtualbox", "image": "base.vdi"},
                existing,
            ]
        ),
        "artifacts": st.just({"mirror": "http://192.0.2.1:6480"}),
    }
    value.update(draw(st.fixed_dictionaries({}, optional=options)))
    if value.get("hypervisor") == existing:
        for machine in value["machines"].values():
            for size in ("cpus", "memory", "disk"):
                machine.pop(size, None)
    if value.get("hypervisor", {}).get("kind") == "virtualbox":
        value.pop("architecture", None)
        for machine in value["machines"].values():
            if machine.get("cpus", 1) > MOST_CPUS:
                machine["cpus"] = MOST_CPUS
    return value


@st.composite
def _machine(draw: st.DrawFn, address: str, letters: str) -> Value:
    machine: Value = {"address": address, "roles": letters}
    extra: dict[str, st.SearchStrategy[Any]] = {
        "cpus": st.integers(1, 128),
        "memory": st.integers(1024, 2**18),
        "disk": st.integers(8, 2**12),
    }
    if letters != "e":
        extra["labels"] = st.just({"example.org/zone": "a", "tier": ""})
        extra["taints"] = st.just([{"key": "slow", "effect": "PreferNoSchedule"}])
    machine.update(draw(st.fixed_dictionaries({}, optional=extra)))
    return machine


@st.composite
def spec_values(draw: st.DrawFn, *, most_mistakes: int = 4) -> Value:
    """A good spec with some of its parts replaced, left out, misspelt or added."""
    value = draw(good_specs())
    for _ in range(draw(st.integers(0, most_mistakes))):
        value = draw(_with_a_mistake(value))
    return value


@st.composite
def _with_a_mistake(draw: st.DrawFn, value: Any, depth: int = 0) -> Any:
    deeper = isinstance(value, Mapping) and value and (depth == 0 or draw(st.integers(0, 3)) > 0)
    if not deeper:
        return draw(JUNK)
    key = draw(st.sampled_from(sorted(value, key=str)))
    copy = dict(value)
    match draw(st.sampled_from(["replace", "replace", "replace", "drop", "misspell", "add"])):
        case "replace":
            copy[key] = draw(_with_a_mistake(value[key], depth + 1))
        case "drop":
            del copy[key]
        case "misspell":
            copy[draw(st.sampled_from([str(key).upper(), f"{key}s", f"{key}"[1:]]))] = copy.pop(key)
        case _:
            copy[draw(st.one_of(st.text(max_size=60), st.booleans(), st.integers()))] = value[key]
    return copy
