"""A living cluster is spared what it cannot take."""

import copy
from typing import Any

import pytest

from spec import change, cluster
from spec.change import refused_changes
from spec.cluster import parse
from spec.hypervisor import Existing, Libvirt
from tests.spec.sentences import check

BALANCED = {"kind": "balancer", "host": "api.example.org"}


def spec(roles: dict[str, str], **more: Any) -> cluster.Cluster:
    """Machines by name and roles; a name's number is the last part of its address."""
    machines = {
        name: {"address": f"192.168.1.{10 + ord(name[0]) - ord('a')}", "roles": letters}
        for name, letters in roles.items()
    }
    value = {"networks": {"machines": "192.168.1.0/24"}, "machines": machines, **more}
    return parse(copy.deepcopy(value), name="dev")


ONE = {"a": "ai", "b": "i"}
THREE = {"a": "ai", "b": "a", "c": "a", "d": "i"}
NETWORKS = {"machines": "192.168.1.0/24"}
ON_BRIDGE = {
    "networks": {**NETWORKS, "bridge": "br0", "gateway": "192.168.1.1"},
    "hypervisor": {"uri": "qemu:///system", "image": "base"},
}
ANOTHER_ROUTER = {
    **ON_BRIDGE,
    "networks": {**NETWORKS, "bridge": "br0", "gateway": "192.168.1.2"},
}

# before, after: what the specs have beside the same machines; the field; words of the sentence
SAME_MACHINES: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"name": "other"}, "name", "what etcd holds"),
    ({}, {"architecture": "arm64"}, "architecture", "no program"),
    ({}, {"dns_domain": "k8s.local"}, "dns_domain", "make another cluster"),
    ({}, {"networks": {**NETWORKS, "pods": "10.1.0.0/16"}}, "networks.pods", "nobody routes"),
    ({}, {"networks": {**NETWORKS, "services": "10.2.0.0/24"}}, "networks.services", "Services"),
    ({}, {"networks": {**NETWORKS, "pods_per_node": 25}}, "networks.pods_per_node", "overlap"),
    ({}, {"networks": {"machines": "192.168.0.0/23"}}, "networks.machines", "first boot"),
    ({}, {"flannel": {"store": "kubernetes"}}, "flannel.store", "lose the parts"),
    ({}, ON_BRIDGE, "networks.bridge", "leave the network that they were made in"),
    (ON_BRIDGE, {}, "networks.bridge", "leave the network that they were made in"),
    (ON_BRIDGE, ANOTHER_ROUTER, "networks.gateway", "keep the router"),
    ({"etcd": {"generation": 3}}, {"etcd": {"generation": 2}}, "etcd.generation", "write 3"),
    ({}, {"runtime": "docker"}, "runtime", "run on beside"),
    ({}, {"kubernetes": "1.36.4"}, "kubernetes", "write 1.37.1 or later"),
    ({"kubernetes": "1.35.1"}, {}, "kubernetes", "write 1.36.4 or 1.36.3 first"),
    ({}, {"authorities": {"etcd": [2]}}, "authorities.etcd", "write [1, 2] first"),
    ({}, {"authorities": {"etcd": [2, 1]}}, "authorities.etcd", "write [1, 2] first"),
    (
        {"authorities": {"etcd": [1, 2]}},
        {"authorities": {"etcd": [2]}},
        *("authorities.etcd", "write [2, 1] first"),
    ),
    ({"authorities": {"etcd": [2, 1]}}, {}, "authorities.etcd", "write [1, 2] first"),
    ({"authorities": {"etcd": [2]}}, {}, "authorities.etcd", "write [2, 1] first"),
    ({"authorities": {"etcd": [1, 2]}}, {}, "authorities.etcd", "write [1], and leave it out"),
    (
        {"authorities": {"etcd": [1, 2]}},
        {"authorities": {"etcd": [3, 1]}},
        *("authorities.etcd", "until they are told of it"),
    ),
    ({}, {"ssh_keys": [2]}, "ssh_keys", "write [1, 2] first"),
    ({}, {"ssh_keys": [2, 1]}, "ssh_keys", "no machine would let number 2 in"),
    ({"ssh_keys": [1, 2]}, {"ssh_keys": [2]}, "ssh_keys", "write [2, 1] first"),
    ({"ssh_keys": [1, 2]}, {"ssh_keys": [3, 1]}, "ssh_keys", "write [1, 3] first"),
    ({"ssh_keys": [1, 2]}, {}, "ssh_keys", "write [1], and leave it out"),
    ({"ssh_keys": [2, 1]}, {}, "ssh_keys", "write [1, 2] first"),
    ({"ssh_keys": [2]}, {"ssh_keys": [2, 1]}, "ssh_keys", "write [2, 3], with a new key"),
    ({"ssh_keys": [2]}, {"ssh_keys": [1]}, "ssh_keys", "would be let in again"),
    ({"ssh_keys": [2]}, {}, "ssh_keys", "write [2], which the cluster has"),
    ({"ssh_keys": [2, 3]}, {"ssh_keys": [2, 1]}, "ssh_keys", "write [2, 4], with a new key"),
]


@pytest.mark.parametrize(("before", "after", "field", "phrase"), SAME_MACHINES)
def test_a_change_that_cannot_be_taken_is_refused(
    before: dict[str, Any], after: dict[str, Any], field: str, phrase: str
) -> None:
    sentences = refused_changes(spec(ONE, **before), spec(ONE, **after))
    assert any(sentence.startswith(f"{field} ") and phrase in sentence for sentence in sentences), (
        sentences
    )
    for sentence in sentences:
        check(sentence)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"kubernetes": "1.37.0"}),
        ({"kubernetes": "1.36.3"}, {"kubernetes": "1.36.4"}),
        ({"kubernetes": "1.35.1"}, {"kubernetes": "1.36.4"}),
        ({"kubernetes": "1.36.4"}, {"kubernetes": "1.37.1"}),
        ({}, {"proxy_mode": "iptables"}),
        ({}, {"flannel": {"backend": "host-gw"}}),
        ({}, {"etcd": {"generation": 2}}),
        ({}, {"keys": {"encryption": 2}}),
        ({}, {"keys": {"service_accounts": 2}}),
        ({"keys": {"service_accounts": 2}}, {"keys": {"encryption": 2}}),
        ({"keys": {"encryption": 2}}, {}),
        ({}, {"authorities": {"etcd": [1, 2]}}),
        ({"authorities": {"etcd": [1, 2]}}, {"authorities": {}}),
        ({"authorities": {"etcd": [1]}}, {}),
        ({"authorities": {"etcd": [1, 2]}}, {"authorities": {"etcd": [2, 1]}}),
        ({"authorities": {"etcd": [2, 1]}}, {"authorities": {"etcd": [1, 2]}}),
        ({"authorities": {"etcd": [2, 1]}}, {"authorities": {"etcd": [2]}}),
        ({"keys": {"encryption": 2}}, {"keys": {"encryption": 7}}),
        ({}, {"ssh_keys": [1]}),
        ({"ssh_keys": [1]}, {}),
        ({}, {"ssh_keys": [1, 2]}),
        ({"ssh_keys": [1, 2]}, {"ssh_keys": [1]}),
        ({"ssh_keys": [1, 2]}, {"ssh_keys": [2, 1]}),
        ({"ssh_keys": [2, 1]}, {"ssh_keys": [1, 2]}),
        ({"ssh_keys": [2, 1]}, {"ssh_keys": [2]}),
        ({"ssh_keys": [2]}, {"ssh_keys": [2, 3]}),
        ({}, {"addons": {"coredns": False}}),
        ({}, {"endpoint": BALANCED}),
        ({}, {"artifacts": {"mirror": "http://192.0.2.1"}}),
    ],
)
def test_other_changes_are_taken(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert refused_changes(spec(ONE, **before), spec(ONE, **after)) == ()


@pytest.mark.parametrize("key", ["encryption", "service_accounts"])
def test_no_key_turns_over_while_control_planes_leave(key: str) -> None:
    before = spec(THREE, endpoint=BALANCED)
    fewer = {name: roles for name, roles in THREE.items() if name != "b"}
    after = {**fewer, "e": "a"}
    assert refused_changes(before, spec(after, endpoint=BALANCED)) == ()
    (sentence,) = refused_changes(before, spec(after, endpoint=BALANCED, keys={key: 2}))
    assert sentence.startswith(f"keys.{key} is 1 and cannot become 2 while b leaves")
    check(sentence)


# before, after, words of the only sentence; none where the change is taken
MACHINES = [
    (ONE, {**ONE, "c": "i", "d": "i"}, None),
    ({**ONE, "c": "i"}, ONE, None),
    (ONE, {"a": "aie", "b": "i"}, None),
    (THREE, {**THREE, "x": "i"}, None),
    # etcd's members are the control planes
    (ONE, THREE, None),
    (THREE, {"a": "ai", "d": "i"}, None),
    (THREE, {"a": "ai", "b": "a", "e": "a", "d": "i"}, None),
    (THREE, {"a": "ai", "e": "a", "f": "a", "d": "i"}, "joining e and f and leaving b and c"),
    (THREE, {"a": "ai", "b": "a", "c": "a", "d": "i"}, None),
    ({**THREE, "e": "a", "f": "a"}, {"a": "ai", "d": "i"}, "leaving b, c, e and f"),
    # members apart
    (
        {"a": "ai", "b": "e", "c": "e", "d": "e"},
        {"a": "ai", "b": "e", "c": "e", "x": "e"},
        None,
    ),
    ({"a": "ai", "b": "e"}, {"a": "ai", "c": "e"}, "none of etcd's members b,"),
    ({"a": "ai", "b": "i"}, {"a": "ai", "b": "e"}, "none of etcd's members a,"),
]


@pytest.mark.parametrize(("before", "after", "phrase"), MACHINES)
def test_membership_changes_by_the_smallest_step(
    before: dict[str, str], after: dict[str, str], phrase: str | None
) -> None:
    sentences = refused_changes(spec(before, endpoint=BALANCED), spec(after, endpoint=BALANCED))
    if phrase is None:
        assert sentences == ()
    else:
        (sentence,) = sentences
        check(sentence)
        assert phrase in sentence


def test_one_control_plane_stays() -> None:
    before = spec({"a": "a", "b": "i", "e": "e"})
    (sentence,) = refused_changes(before, spec({"c": "a", "b": "i", "e": "e"}))
    assert sentence.startswith("machines.c.roles would leave none of the control planes a,")
    check(sentence)
    several = spec({"a": "a", "c": "a", "b": "i", "e": "e"}, endpoint=BALANCED)
    assert refused_changes(before, several) == ()
    assert refused_changes(several, spec({"c": "a", "b": "i", "e": "e"})) == ()


def test_a_machine_keeps_its_address() -> None:
    before, moved = spec(ONE), parse(
        {
            "networks": NETWORKS,
            "machines": {
                "a": {"address": "192.168.1.10", "roles": "ai"},
                "b": {"address": "192.168.1.99", "roles": "i"},
            },
        },
        name="dev",
    )  # fmt: skip
    (sentence,) = refused_changes(before, moved)
    assert sentence.startswith("machines.b.address is 192.168.1.11 and cannot become 192.168.1.99")
    check(sentence)


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ("3.6.11", "3.7.0", True),
        ("3.6.14", "3.7.1", True),
        ("3.6.10", "3.7.1", False),
        ("3.6.6", "3.6.14", True),
        ("3.7.1", "3.7.0", True),
        ("3.7.1", "3.6.14", True),
        ("3.7.1", "3.5.30", False),
        ("3.5.30", "3.7.1", False),
    ],
)
@pytest.mark.parametrize("field", ["kubernetes", "etcd.version"])
def test_etcd_goes_up_or_back_by_one_minor_version_and_to_3_7_from_3_6_11(
    field: str, old: str, new: str, taken: bool
) -> None:
    before, after = (of_etcd(version, field) for version in (old, new))
    sentences = [str(refusal) for refusal in change._etcd_version(before, after)]
    assert bool(sentences) != taken
    for sentence in sentences:
        assert sentence.startswith(f"{field} ")
        check(sentence)


def of_etcd(version: str, field: str, roles: dict[str, str] | None = None) -> cluster.Cluster:
    """A cluster with any version of etcd, by either of the fields that bring it."""
    made = spec(roles or ONE)
    if field == "etcd.version":
        named = made.etcd.model_copy(update={"version": version})
        made = made.model_copy(update={"etcd": named})
    made.__dict__["versions"] = made.versions.model_copy(update={"etcd": version})
    return made


def test_etcd_does_not_go_back_while_its_members_change() -> None:
    before = of_etcd("3.7.1", "etcd.version")
    after = of_etcd("3.6.14", "etcd.version", {"a": "eai", "b": "e", "c": "e"})
    (sentence,) = map(str, change._etcd_version(before, after))
    assert "while etcd's members change" in sentence
    check(sentence)
    assert not list(change._etcd_version(after, before)), "up, it does"


def test_etcd_goes_back_while_kubernetes_stays() -> None:
    assert refused_changes(spec(ONE), spec(ONE, etcd={"version": "3.6.14"})) == ()
    assert refused_changes(spec(ONE, etcd={"version": "3.6.14"}), spec(ONE)) == ()


def test_all_refused_changes_are_told_at_once() -> None:
    after = spec({"a": "ai", "c": "i"}, name="other", dns_domain="x.local", kubernetes="1.35.1")
    fields = [sentence.split()[0] for sentence in refused_changes(spec(ONE), after)]
    assert fields == ["name", "dns_domain", "kubernetes"]


# -- machines of another size, and elsewhere -------------------------------------------------------

LIBVIRT = {"uri": "qemu:///system", "image": "base"}
ALONE = {"a": "ai", "b": "i"}
MEMBERS = {"a": "ai", "b": "e", "c": "e", "d": "e", "f": "i"}


def sized(
    roles: dict[str, str], sizes: dict[str, dict[str, int]] | None = None, **where: Any
) -> cluster.Cluster:
    """Machines with other fields than their own, on a libvirt if settings of it are given."""
    made = spec(roles, endpoint=BALANCED)
    machines = {
        name: machine.model_copy(update=(sizes or {}).get(name, {}))
        for name, machine in made.machines.items()
    }
    hypervisor = Libvirt(**(LIBVIRT | where)) if where else None
    return made.model_copy(update={"machines": machines, "hypervisor": hypervisor})


# roles, what changes of which machine, where the only sentence begins and words of it
SIZES: list[tuple[dict[str, str], dict[str, dict[str, int]], str, str]] = [
    (ALONE, {"a": {"disk": 20}, "b": {"disk": 20}}, "", ""),
    (MEMBERS, {name: {"disk": 20} for name in MEMBERS}, "", ""),
    (ALONE, {"a": {"disk": 9}}, "machines.a.disk is 10 GiB and cannot become 9", "write 10"),
    (ALONE, {"b": {"disk": 9}}, "machines.b.disk is 10 GiB and cannot become 9", "cut off"),
    (ALONE, {"a": {"memory": 4096}, "b": {"cpus": 2}}, "", ""),
    (MEMBERS, {"b": {"memory": 4096}}, "", ""),
    (MEMBERS, {"b": {"memory": 4096, "cpus": 2}, "a": {"cpus": 2}, "f": {"cpus": 2}}, "", ""),
    (
        MEMBERS,
        {"b": {"memory": 4096}, "d": {"cpus": 2}},
        "machines.b would be made anew at once with d",
        "lose its quorum: of 3 members only 1 would",
    ),
    (
        {"a": "ai", "b": "a", "c": "a"},
        {"a": {"memory": 1024}, "b": {"memory": 1024}, "c": {"memory": 1024}},
        "machines.a would be made anew at once with b and c",
        "only 0 would",
    ),
]


@pytest.mark.parametrize(("roles", "changed", "begins", "phrase"), SIZES)
def test_disks_grow_and_members_of_etcd_are_made_anew_one_at_a_time(
    roles: dict[str, str], changed: dict[str, dict[str, int]], begins: str, phrase: str
) -> None:
    sentences = refused_changes(sized(roles), sized(roles, changed))
    if not begins:
        assert sentences == ()
        return
    (sentence,) = sentences
    check(sentence)
    assert sentence.startswith(begins)
    assert phrase in sentence


SYSTEM: dict[str, Any] = {"uri": "qemu:///system"}

# roles, settings of the libvirt before and after, where the only sentence begins and words of it
PLACES: list[tuple[dict[str, str], dict[str, Any], dict[str, Any], str, str]] = [
    # What a lab offers after each change of its own, and what an older program did not keep.
    (MEMBERS, SYSTEM, {"image": "new", "kernel": "/k", "initrd": "/i"}, "", ""),
    (MEMBERS, SYSTEM, {"kernel_arguments": ("quiet",), "image_format": "raw"}, "", ""),
    (MEMBERS, {}, {"pool": "another", "domain_type": "kvm"}, "", ""),
    (MEMBERS, {"uri": "qemu+ssh://a/system"}, {"uri": "qemu+ssh://root@a:2222/system"}, "", ""),
    (MEMBERS, {"uri": "qemu+ssh://a/system"}, {"uri": "qemu+tls://a/system?pkipath=/p"}, "", ""),
    (ALONE, SYSTEM, {"domain_type": "kvm", "disk_cache": "none"}, "", ""),
    (ALONE, SYSTEM, {"uri": "qemu:///session"}, "hypervisor.uri is qemu:///system", "not;"),
    (ALONE, SYSTEM, {"uri": "qemu+ssh://a/system"}, "hypervisor.uri is", "qemu+ssh://a/system"),
    (
        ALONE,
        {"uri": "qemu+unix:///system?socket=/run/one"},
        {"uri": "qemu+unix:///system?socket=/run/other"},
        "hypervisor.uri is",
        "/run/other",
    ),
    (ALONE, SYSTEM, {"pool": "fast"}, "hypervisor.pool is default", "what etcd holds lost"),
    (MEMBERS, SYSTEM, {"pool": "fast"}, "hypervisor.pool is default", "what etcd holds lost"),
    (MEMBERS, SYSTEM, {"domain_type": "kvm"}, "hypervisor.domain_type is qemu", "its quorum"),
    (MEMBERS, SYSTEM, {"disk_cache": "none"}, "hypervisor.disk_cache is default", "its quorum"),
    (MEMBERS, SYSTEM, {"console_logs": "/var/log"}, "hypervisor.console_logs is", "its quorum"),
]


@pytest.mark.parametrize(("roles", "before", "after", "begins", "phrase"), PLACES)
def test_machines_stay_where_they_are(
    roles: dict[str, str], before: dict[str, Any], after: dict[str, Any], begins: str, phrase: str
) -> None:
    sentences = refused_changes(sized(roles, **before), sized(roles, **after))
    if not begins:
        assert sentences == ()
        return
    (sentence,) = sentences
    check(sentence)
    assert sentence.startswith(begins)
    assert phrase in sentence


def test_machines_of_a_libvirt_do_not_become_others() -> None:
    before = sized(ALONE, **SYSTEM)
    (sentence,) = refused_changes(
        before, before.model_copy(update={"hypervisor": Existing(kind="existing")})
    )
    check(sentence)
    assert sentence.startswith("hypervisor.kind is libvirt and cannot become existing")


def test_the_disks_that_grow_are_those_of_machines_that_stay() -> None:
    before = sized({"a": "ai", "b": "i", "c": "i"}, {"b": {"disk": 30}})
    after = sized({"a": "ai", "b": "i", "d": "i"}, {"a": {"disk": 20}, "d": {"disk": 40}})
    assert change.grown_disks(before, after) == {"a": 20}
    assert change.grown_disks(None, after) == {"a": 20, "b": 10, "d": 40}
