"""The judgement of machines that exist already, over what real ones reported."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab.paths import PROJECT
from plan import needs
from plan.cluster import cluster_plan
from probe.access import Access, MachineAccess
from probe.clocks import Clock
from probe.host_facts import HostFacts, ObservedHost, question, read
from probe.hosts import LOGIN, RULES, RULES_OF_ALL, HostFinding, described, findings
from probe.machines import Unreachable
from spec.cluster import Addons
from spec.load_balancer import HEALTH_PORT, MEMBER_PORT
from spec.network import NODE_PORTS, RESERVED_PORTS
from spec.notebooks import HUB_PORT, SERVER_PORT
from tests.plan.golden import NAMES, golden_plan, golden_spec

RECORDED = Path(__file__).with_name("hosts")
"""Answers of ``host.sh``: of containers with Debian 13 and 12, and of a Debian 12 that another
program than systemd started, with control groups of version 1."""

SPEC = golden_spec("existing")
NAME = "rack1-a"
TRUE_CLOCK = Clock(ahead=0, most=1, least=1)

Rows = Mapping[str, Sequence[Sequence[str]]]

WELL: Rows = {
    # A container has no network of its own, and shows no kernel modules and no controllers.
    "address": [["lo", "127.0.0.1/8", "65536"], ["eth0", "10.1.0.10/20", "1500"]],
    "module": [["br_netfilter"], ["nf_conntrack"], ["nf_tables"], ["overlay"], ["vxlan"]],
    "cgroup": [["cgroup2fs", "cpuset cpu io memory pids"]],
    "name-server": [["/etc/resolv.conf", "10.1.0.2"]],
}


def recorded(name: str) -> Rows:
    """The facts of an answer."""
    return read((RECORDED / f"{name}.txt").read_text()).rows


def host(
    changes: Rows | None = None,
    *,
    name: str = NAME,
    clock: Clock = TRUE_CLOCK,
    is_ours: bool = False,
) -> ObservedHost:
    """A machine with which all is well, but for facts of these kinds."""
    rows = {**recorded("debian-13"), **WELL, **(changes or {})}
    return ObservedHost(name=name, spec=SPEC, facts=HostFacts(rows), clock=clock, is_ours=is_ours)


def judged(*hosts: ObservedHost) -> tuple[HostFinding, ...]:
    return findings({host.name: host for host in hosts})


def test_all_is_well_with_a_machine_as_it_should_be() -> None:
    assert judged(host()) == ()
    assert described(host()).startswith("Debian GNU/Linux 13 (trixie), Linux ")


def test_the_other_supported_systems_are_taken() -> None:
    # The lines of their /etc/os-release.
    twelve = recorded("debian-12")
    assert twelve["system"] == [["debian", "12", "Debian GNU/Linux 12 (bookworm)"]]
    assert judged(host({**twelve, **WELL})) == ()
    for kind, version, title in (
        ("ubuntu", "22.04", "Ubuntu 22.04.5 LTS"),
        ("ubuntu", "24.04", "Ubuntu 24.04.3 LTS"),
    ):
        assert judged(host({"system": [[kind, version, title]]})) == ()


def test_a_real_computer_without_systemd_is_refused_for_each_reason() -> None:
    rows = recorded("debian-12-without-systemd")
    bare = host({"systemd": [], **rows, "hostname": [[NAME]], "address": WELL["address"]})
    assert {(finding.check, finding.refuses) for finding in judged(bare)} == {
        ("systemd", True),
        ("modules", True),
        ("control groups", True),
    }


def drops(hook: str, *accepts: str) -> Rows:
    return {
        "chain": [["inet filter", f"my-{hook}", hook]],
        "accepts": [["inet filter", rule] for rule in accepts],
    }


def listens(text: str, protocol: str = "tcp", program: str = "nginx") -> Rows:
    process = f'users:(("{program}",pid=4242,fd=3))' if program else ""
    return {"listener": [[protocol, text, process]]}


REFUSED: list[tuple[str, Rows, str]] = [
    ("root", {"root": [["no", "ada", "sudo: a password is required"]]}, "ada may not sudo"),
    ("system", {"system": [["fedora", "42", "Fedora 42"]], "program": [["ip"]]}, "no apt-get"),
    ("system", {"system": [["debian", "11", "Debian 11"]]}, "nftables 0.9.8 is older"),
    ("system", {"system": [["ubuntu", "26.04", "Ubuntu 26.04"]]}, "was never seen"),
    ("system", {"system": []}, "without /etc/os-release"),
    ("systemd", {"systemd": []}, "no service could be started"),
    ("packages", {"program": [["ip"], ["ss"]]}, "dpkg-query and apt-get is missing"),
    ("packages", {"program": [["dpkg-query"], ["apt-get"]]}, "ip and ss is missing"),
    ("kernel", {"kernel": [["6.1.0", "aarch64"]]}, "processor is arm64, and the spec says amd64"),
    ("kernel", {"kernel": [["5.10.0-28-amd64", "x86_64"]]}, "5.10.0-28-amd64 is older than 5.13"),
    ("modules", {"module": [["overlay"], ["nf_tables"], ["nf_conntrack"]]}, "br_netfilter and vxl"),
    ("control groups", {"cgroup": [["tmpfs", ""]]}, "version 1"),
    ("control groups", {"cgroup": [["cgroup2fs", "cpuset cpu io pids"]]}, "lack memory"),
    (
        "swap",
        {
            "swap": [["/dev/sda2", "8000000", "4096000"]],
            "memory": [["MemTotal", "4000000"], ["MemAvailable", "2048000"]],
        },
        "4000 MiB are in swap (/dev/sda2) and 2000 MiB",
    ),
    ("memory", {"memory": [["MemTotal", "900000"], ["MemAvailable", "500000"]]}, "roles need 1024"),
    (
        "disk",
        {
            "disk": [
                ["/var/lib/hardway", "/", "90000000", "40000000", "yes"],
                ["/var/lib/etcd", "/data", "9000000", "4000000", "yes"],
            ]
        },
        "3906 MiB are free on /data, and 4096",
    ),
    (
        "disk",
        {
            "disk": [
                ["/var/lib/hardway", "/", "90000000", "7000000", "yes"],
                ["/var/lib/etcd", "/", "90000000", "7000000", "yes"],
            ]
        },
        "6835 MiB are free on /, and 7168",
    ),
    (
        "disk",
        {"disk": [["/opt", "/opt", "90000000", "40000000", "no"]]},
        "/opt cannot be written to",
    ),
    ("address", {"address": [["eth0", "10.0.2.15/24", "1500"]]}, "their addresses: 10.0.2.15"),
    ("address", {"address": []}, "10.1.0.10 is on none"),
    ("forwarding", {"sysctl": [["/etc/sysctl.d/99-own.conf", "0"]]}, "99-own.conf sets"),
    ("firewall", drops("forward", "ip saddr 192.168.1.0/24 accept"), "accepts none of pods"),
    ("ports", listens("0.0.0.0:6443"), "nginx listens on TCP 6443, which kube-apiserver needs"),
    ("ports", listens("[::1]:2379"), "which etcd needs"),
    ("ports", listens("127.0.0.1%lo:10250"), "which kubelet needs"),
    ("ports", listens("*:8472", "udp", ""), "the kernel or another user's program listens on UDP"),
    ("services", {"own-unit": [["haproxy.service", "active", "disabled"]]}, "(active), and"),
    ("services", {"own-unit": [["haproxy.service", "failed", "enabled"]]}, "(failed and enabled)"),
    ("cluster", {"unit": [["kubelet.service", "active", "/lib"]]}, "kubelet.service (active)"),
    ("cluster", {"process": [["etcd", "77"], ["etcd", "78"]]}, "runtime: the process etcd"),
    ("cluster", {"there": [["/var/lib/rancher"]]}, "runtime: /var/lib/rancher"),
]


@pytest.mark.parametrize(("check", "changes", "sentence"), REFUSED)
def test_a_machine_is_refused(check: str, changes: Rows, sentence: str) -> None:
    refused = [finding for finding in judged(host(changes)) if finding.check == check]
    assert [finding.refuses for finding in refused] == [True]
    assert sentence in refused[0].sentence
    assert refused[0].machine == NAME
    assert refused[0].remedy
    assert not any(text.endswith(".") for text in (refused[0].sentence, refused[0].remedy))


WARNED: list[tuple[str, Rows, str]] = [
    (
        "packages",
        {
            "lists": [["there"]],
            "package": [["curl", "(none)", "8.14.1"], ["kmod", "(none)", "(none)"]],
        },
        "knows no package apparmor, ca-certificates, iproute2, iptables, kmod",
    ),
    ("swap", {"swap": [["/swap.img", "2000000", "0"]]}, "it swaps to /swap.img; up turns swap off"),
    (
        "disk",
        {"disk": [["/var/lib/kubelet", "/data", "90000000", "9000000", "yes"]]},
        "10% of /data are free",
    ),
    ("host name", {"hostname": [["localhost"]]}, "it calls itself localhost"),
    ("name servers", {"name-server": []}, "it has no name server"),
    ("name servers", {"name-server": [["/etc/resolv.conf", "127.0.0.1"]]}, "pods cannot ask"),
    (
        "name servers",
        {"name-server": [["/etc/resolv.conf", f"10.1.0.{n}"] for n in range(4)]},
        "it has 4 name servers",
    ),
    ("MTU", {"address": [["eth0", "10.1.0.10/20", "1280"]]}, "the MTU of eth0 is 1280"),
    ("firewall", {"firewall": [["firewalld"]]}, "firewalld runs"),
    ("firewall", drops("input", "tcp dport 22 accept"), "no rule names the machines' network"),
    ("firewall", drops("input", 'tcp dport 22 accept comment "1.2.3.400"'), "no rule names"),
    ("firewall", drops("output"), "the machine's own packets"),
    ("ports", listens("0.0.0.0:30080"), "may become the port of a Service"),
]


@pytest.mark.parametrize(("check", "changes", "sentence"), WARNED)
def test_a_machine_is_taken_with_a_warning(check: str, changes: Rows, sentence: str) -> None:
    warned = [finding for finding in judged(host(changes)) if finding.check == check]
    assert [finding.refuses for finding in warned] == [False]
    assert sentence in warned[0].sentence


WELL_AS_WELL: list[Rows] = [
    {"root": [["sudo", "ada"]]},
    {"hostname": [[f"{NAME}.example.org"]]},
    {"sysctl": [["/usr/lib/sysctl.d/50-default.conf", "0"], ["/etc/sysctl.d/99-own.conf", "1"]]},
    {
        "name-server": [
            ["/etc/resolv.conf", "127.0.0.53"],
            ["/run/systemd/resolve/resolv.conf", "10.1.0.2"],
        ]
    },
    drops("input", "ip saddr 10.1.0.0/20 accept"),
    drops("forward", "iifname eth0 ip saddr 10.0.0.0/8 accept"),
    listens("0.0.0.0:22"),
    listens("0.0.0.0:6443", "udp"),
    {"own-unit": [["haproxy.service", "inactive", "disabled"]]},
    {"own-unit": [["keepalived.service", "inactive", ""]]},
]


@pytest.mark.parametrize("changes", WELL_AS_WELL)
def test_what_looks_alike_is_taken_without_a_word(changes: Rows) -> None:
    assert judged(host(changes)) == ()


def test_a_clock_that_is_off_is_refused() -> None:
    (finding,) = judged(host(clock=Clock(ahead=-7200, most=float("inf"), least=0)))
    assert (finding.check, finding.refuses) == ("clock", True)
    assert "its clock is 7200 s behind this computer's" in finding.sentence


def test_a_machine_of_this_very_cluster_is_taken() -> None:
    running: Rows = {
        **listens("10.1.0.10:6443", program="kube-apiserver"),
        **drops("forward"),
        "unit": [["kubelet.service", "active", "/etc/systemd/system/kubelet.service"]],
        "process": [["kubelet", "77"]],
        "own-unit": [["keepalived.service", "active", "enabled"]],
        "there": [["/etc/kubernetes"], ["/var/lib/etcd/member"]],
        "disk": [["/var/lib/hardway", "/", "9000000", "2000000", "yes"]],
    }
    assert {finding.check for finding in judged(host(running))} == {
        "ports",
        "firewall",
        "services",
        "cluster",
        "disk",
    }
    assert judged(host(running, is_ours=True)) == ()


def test_ports_that_lead_to_pods_must_be_free_on_a_machine_of_this_cluster_too() -> None:
    spec = SPEC.model_copy(update={"addons": Addons.model_validate({"ingress": True})})
    for number, is_refused in ((80, True), (443, True), (6443, False), (30000, False)):
        taken = replace(host(listens(f"0.0.0.0:{number}"), is_ours=True), spec=spec)
        refused = [finding.sentence for finding in judged(taken)]
        assert bool(refused) is is_refused, refused
        assert all(f"nginx listens on TCP {number}, which ingress needs" in row for row in refused)
    assert judged(host(listens("0.0.0.0:80"))) == (), "without the add-on nobody needs it"


@pytest.mark.parametrize(
    ("rows", "command"),
    [
        ({"unit": [["k3s.service", "active", ""]]}, "k3s-uninstall.sh"),
        ({"there": [["/var/snap/microk8s"]]}, "snap remove --purge microk8s"),
        ({"there": [["/etc/kubernetes"]]}, "kubeadm reset"),
        ({"unit": [["docker.service", "active", ""]]}, "apt-get purge"),
    ],
)
def test_the_next_step_is_that_of_the_cluster_that_is_there(rows: Rows, command: str) -> None:
    (finding,) = judged(host(rows))
    assert command in finding.remedy


def test_a_firewall_lets_in_each_subnet_of_machines() -> None:
    rack = IPv4Network("192.168.9.0/24")
    networks = SPEC.networks.model_copy(update={"machines": (*SPEC.networks.machines, rack)})
    spec = SPEC.model_copy(update={"networks": networks})
    own = SPEC.networks.machines[0]
    half = replace(host(drops("input", f"ip saddr {own} accept")), spec=spec)
    (finding,) = judged(half)
    assert f"({rack})" in finding.sentence
    assert (
        judged(replace(host(drops("input", f"ip saddr {{ {own}, {rack} }} accept")), spec=spec))
        == ()
    )


def test_a_firewalls_own_command_is_the_next_step() -> None:
    (finding,) = judged(host({**drops("forward"), "firewall": [["ufw"]]}))
    assert "ufw route allow from 10.64.0.0/14" in finding.remedy


# -- several machines ------------------------------------------------------------------------------


def rack(name: str, changes: Rows | None = None) -> ObservedHost:
    """A machine of its own."""
    return host(
        {
            "address": [["eth0", f"{SPEC.machines[name].address}/20", "1500"]],
            "hostname": [[name]],
            "machine-id": [[f"id-of-{name}"]],
            **(changes or {}),
        },
        name=name,
    )


def test_machines_of_their_own_are_taken() -> None:
    assert judged(rack("rack1-a"), rack("rack2-a")) == ()


def test_a_copy_of_a_machine_is_refused() -> None:
    copies = [rack(name, {"machine-id": [["5ca1ab1e"]]}) for name in ("rack1-a", "rack2-a")]
    (finding,) = judged(*copies)
    assert (finding.machine, finding.check, finding.refuses) == ("rack2-a", "identity", True)
    assert "the same /etc/machine-id as rack1-a" in finding.sentence


def test_machines_without_an_identity_are_no_copies() -> None:
    nothing: Rows = {"machine-id": [[""]], "product": [["ffffffff-ffff-ffff-ffff-ffffffffffff"]]}
    assert judged(*(rack(name, nothing) for name in ("rack1-a", "rack2-a"))) == ()


@pytest.mark.parametrize(
    ("kind", "word"), [("product", "product UUID (DMI)"), ("hostname", "host name")]
)
def test_a_shared_name_is_a_warning(kind: str, word: str) -> None:
    both = [rack(name, {kind: [["rack1-a"]]}) for name in ("rack1-a", "rack2-a")]
    shared = [finding for finding in judged(*both) if finding.check == "identity"]
    assert [(finding.machine, finding.refuses) for finding in shared] == [("rack2-a", False)]
    assert f"the same {word} as rack1-a" in shared[0].sentence


def test_one_machine_under_two_names_is_refused() -> None:
    addresses = [["eth0", f"{SPEC.machines[n].address}/20", "1500"] for n in ("rack1-a", "rack2-a")]
    both: Rows = {"address": addresses, "machine-id": [["5ca1ab1e"]], "hostname": [["rack1-a"]]}
    twice = judged(rack("rack1-a", both), rack("rack2-a", both))
    refused = [finding for finding in twice if finding.refuses]
    assert [finding.machine for finding in refused] == ["rack2-a"]
    assert "one machine has its 10.1.0.11 and the 10.1.0.10 of rack1-a" in refused[0].sentence


def test_different_mtus_are_a_warning() -> None:
    jumbo: Rows = {"address": [["eth0", "10.1.0.11/20", "9000"]]}
    (finding,) = judged(rack("rack1-a"), rack("rack2-a", jumbo))
    assert (finding.machine, finding.check, finding.refuses) == ("rack2-a", "same MTU", False)
    assert "its MTU is 9000, and that of rack1-a is 1500" in finding.sentence


def test_machines_that_do_not_reach_each_other_are_refused() -> None:
    outcomes: Rows = {
        "reached": [
            ["rack2-a", "22", "open"],
            ["rack2-a", "2379", "Connection refused"],
            ["rack2-a", "6443", "no answer"],
            ["rack2-a", "10250", "no answer"],
            ["rack3-a", "22", "No route to host"],
            ["rack3-a", "6443", "No route to host"],
        ]
    }
    first, second = judged(rack("rack1-a", outcomes))
    assert (first.check, first.refuses) == (second.check, second.refuses) == ("reach", True)
    assert first.sentence == "it does not reach rack2-a at TCP 6443 and 10250 (no answer)"
    assert second.sentence == "it does not reach rack3-a (No route to host)"
    assert "let 10.1.0.10 through to 10.1.0.11" in first.remedy


def test_a_machine_that_does_not_answer_is_refused_among_others() -> None:
    silent = Unreachable("rack2-a (10.1.0.11 port 22) does not answer over SSH in time")
    (finding,) = findings({"rack1-a": rack("rack1-a"), "rack2-a": silent})
    assert (finding.machine, finding.check, finding.refuses) == ("rack2-a", "login", True)
    assert finding.sentence == str(silent)


def test_each_rule_has_a_case() -> None:
    cases = {check for check, _, _ in (*REFUSED, *WARNED)}
    assert cases | {"clock"} == set(RULES)
    assert set(RULES_OF_ALL) == {"identity", "same MTU", "reach"}


def test_the_document_has_a_row_for_each_check() -> None:
    text = (PROJECT / "docs/existing-machines.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    start = next(number for number, row in enumerate(rows) if row[0] == "| check")
    documented = {row[0].removeprefix("| "): row[1:] for row in rows[start + 1 :]}
    assert list(documented) == [LOGIN, *RULES, *RULES_OF_ALL]
    for kind, cases in enumerate((REFUSED, WARNED)):
        for check in {check for check, _, _ in cases}:
            assert documented[check][kind].rstrip(" |") != "–", check


# -- what the plan needs ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_needed_packages_are_those_of_the_steps(name: str) -> None:
    spec = golden_spec(name)
    for node, machine in golden_plan(name).nodes.items():
        planned = {package for step in machine.steps for package in step.packages}
        assert set(needs.packages(spec, node)) == planned


@pytest.mark.parametrize("name", NAMES)
def test_the_units_that_are_taken_over_are_those_of_the_steps(name: str) -> None:
    spec = golden_spec(name)
    for node, machine in golden_plan(name).nodes.items():
        planned = {unit.name for step in machine.steps for unit in step.units}
        assert set(needs.taken_over(spec, node)) == planned & {
            "haproxy.service",
            "keepalived.service",
        }


def test_the_needed_ports_are_those_that_are_reserved() -> None:
    ports = {
        port.number
        for name in NAMES
        for node in golden_spec(name).machines
        for port in needs.ports(golden_spec(name), node)
    }
    add_ons = {MEMBER_PORT, HEALTH_PORT, HUB_PORT, SERVER_PORT}
    assert ports == set(RESERVED_PORTS) | {8472} | add_ons
    assert not ports & set(NODE_PORTS)
    etcd = [port.number for port in needs.ports(golden_spec("available"), "etcd-1")]
    assert etcd == [2379, 2380, 2381]


def test_a_machine_is_asked_to_reach_the_ports_of_the_others() -> None:
    access = Access(
        machines={
            name: MachineAccess(address="-", host_key="-", port=2222)
            for name in ("rack1-a", "rack1-b")
        },
        ssh_key="",
    )
    assert cluster_plan(SPEC)
    asked = [line for line in question(SPEC, "rack1-a", access).splitlines() if "reach" in line]
    assert asked == [f"reach\track1-b\t10.1.4.1\t{port}" for port in (2222, 10250)]
    asked = [line for line in question(SPEC, "rack1-b", access).splitlines() if "reach" in line]
    assert [line.split("\t")[3] for line in asked] == ["2222", "2379", "2380", "6443", "10250"]
