"""What ``host.sh`` sees of real machines, in which each circumstance is made true."""

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address

import pytest

from plan import layout
from probe.access import Access, MachineAccess
from probe.clocks import Clock
from probe.host_facts import ObservedHost, question, read
from probe.hosts import HostFinding, findings
from probe.observation import ALL
from probe.pods import script
from spec.cluster import Cluster, parse
from tests.engine.stack import PATIENCE, eventually
from tests.plan.conftest import machine, memory, new_machine
from tests.plan.container import Container
from tests.plan.golden import golden_spec

__all__ = ["machine", "memory", "new_machine"]

pytestmark = pytest.mark.container

SPEC = golden_spec("existing")
FIRST, SECOND = "rack1-a", "rack2-a"

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2Hj3mGqF0tHqZ0h0mJ0o0b6oQ0rY5u6cQ0v5o0m0aA"

UNSEEN = {"modules", "control groups"}
"""The checks of what a container does not show: modules, and controllers of control groups. Nor can
swap be turned on in one."""

PROBE = ("bash", "--norc", "-euo", "pipefail", "-c", script("host"), "probe")


def asked(
    container: Container,
    name: str = FIRST,
    user: str = "root",
    *,
    reaches: Sequence[str] = (),
    spec: Cluster = SPEC,
) -> ObservedHost:
    """The machine as the script sees it for a user; it is asked whether it reaches others."""
    machines = {
        machine: MachineAccess(address=str(spec.machines[machine].address), host_key="-")
        for machine in (name, *reaches)
    }
    enter = () if user == "root" else ("runuser", "--user", user, "--")
    child = container.start(*enter, *PROBE)
    given = question(spec, name, Access(machines=machines, ssh_key=""))
    output, errors = child.communicate(given, timeout=PATIENCE)
    assert child.returncode == 0, errors
    assert output.endswith(f"{ALL}\n"), errors
    return ObservedHost(
        name=name, spec=spec, facts=read(output), clock=Clock(ahead=0, most=1, least=1)
    )


def of_check(host: ObservedHost, check: str) -> list[HostFinding]:
    """What a check has against a machine."""
    return [finding for finding in findings({host.name: host}) if finding.check == check]


def sentences(host: ObservedHost, check: str) -> list[str]:
    """The same as sentences."""
    return [finding.sentence for finding in of_check(host, check)]


@pytest.fixture(scope="module")
def well(machine: Container) -> Container:
    """A machine with which all is well, as far as a container shows it."""
    machine.call("hostname", FIRST)
    machine.call("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
    machine.call("ip", "address", "add", "10.1.0.10/20", "dev", "eth0")
    for name in ("eth0", "wire"):
        machine.call("ip", "link", "set", name, "up")
    return machine


@contextmanager
def written(container: Container, path: str, content: str) -> Iterator[None]:
    """Have a file there meanwhile; the old content comes back."""
    before = container.read(path) if container.path(path).exists() else None
    container.write(path, content)
    try:
        yield
    finally:
        if before is None:
            container.path(path).unlink()
        else:
            container.write(path, before)


@contextmanager
def ruleset(container: Container, rules: str) -> Iterator[None]:
    """Have rules of the firewall there meanwhile."""
    with written(container, "/run/rules.nft", rules):
        container.call("nft", "--file", "/run/rules.nft")
    try:
        yield
    finally:
        container.call("nft", "flush", "ruleset")


@contextmanager
def running(container: Container, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Have a program run there meanwhile."""
    child = container.start(*command)
    try:
        yield child
    finally:
        # Also the program itself, which nsenter has made a process of the container.
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=PATIENCE)


def test_all_is_well_and_nothing_changes(well: Container) -> None:
    before = well.snapshot("/etc", "/opt", "/root", "/usr/local", "/var/lib")
    host = asked(well)
    wrong = [finding for finding in findings({FIRST: host}) if finding.check not in UNSEEN]
    assert [finding.check for finding in wrong] == ["name servers"], wrong
    assert well.snapshot("/etc", "/opt", "/root", "/usr/local", "/var/lib") == before
    facts = host.facts
    assert facts.parts("system", 2) == ("debian", "13")
    assert facts.parts("root", 2) == ("", "root")
    assert facts.memory["MemTotal"] >= facts.memory["MemAvailable"] > 0
    assert facts.interfaces[IPv4Address("10.1.0.10")] == ("eth0", 1500)
    assert 0 < facts.spaces[layout.ETCD_DATA].free <= facts.spaces[layout.ETCD_DATA].size


def test_a_user_who_may_not_sudo_is_seen_and_the_rest_is_observed(well: Container) -> None:
    host = asked(well, user="nobody")
    (sentence,) = sentences(host, "root")
    assert "nobody may not sudo without a password (sudo: a password is required)" in sentence
    wrong = {finding.check for finding in findings({FIRST: host})}
    assert wrong - UNSEEN == {"root", "name servers"}


def test_a_user_who_may_sudo_sees_what_root_sees(well: Container) -> None:
    rules = (
        "table inet filter { chain in { type filter hook input priority 0; policy drop;"
        " iif lo accept; }; }"
    )
    with (
        written(well, "/etc/sudoers.d/nobody", "nobody ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        ruleset(well, rules),
        running(well, "socat", "TCP-LISTEN:6443,fork", "-"),
    ):
        eventually("it listens", lambda: "socat" in well.call("ss", "-ltnp"))
        host = asked(well, user="nobody")
    assert host.facts.parts("root", 2) == ("sudo", "nobody")
    assert sentences(host, "root") == []
    assert [chain.name for chain in host.facts.drop_chains] == ["in"]
    assert sentences(host, "ports") == ["socat listens on TCP 6443, which kube-apiserver needs"]


@pytest.mark.parametrize(
    ("hook", "accepted", "word"),
    [
        ("input", "tcp dport 22", "no rule names the machines' network"),
        ("input", "ip saddr 10.1.0.0/20", None),
        ("forward", "ip saddr 10.1.0.0/20", "drops forwarded packets and accepts none of pods"),
        ("forward", "ip saddr 10.64.0.0/14", None),
        ("output", "oifname lo", "the machine's own packets"),
    ],
)
def test_a_chain_that_drops_is_seen(
    well: Container, hook: str, accepted: str, word: str | None
) -> None:
    rules = (
        f"table inet mine {{ chain my-{hook} {{ type filter hook {hook} priority 0; policy drop;"
        f" ct state established,related accept; {accepted} accept; }}; }}\n"
        "table ip open { chain in { type filter hook input priority 0; policy accept; drop; }; }"
    )
    with ruleset(well, rules):
        seen = sentences(asked(well), "firewall")
    assert len(seen) == (word is not None)
    for sentence in seen:
        assert sentence.startswith(f"the chain my-{hook} of inet mine drops")
        assert word is not None
        assert word in sentence


def test_the_chains_of_iptables_are_seen(well: Container) -> None:
    well.call("iptables-nft", "--policy", "FORWARD", "DROP")
    try:
        assert "the chain FORWARD of ip filter drops" in sentences(asked(well), "firewall")[0]
        well.call("iptables-nft", "-A", "FORWARD", "-s", "10.64.0.0/14", "-j", "ACCEPT")
        assert sentences(asked(well), "firewall") == []
    finally:
        well.call("nft", "flush", "ruleset")


def test_the_rules_of_a_user_of_ufw_have_its_command_as_the_next_step(well: Container) -> None:
    rules = "table ip f { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"
    with written(well, "/etc/ufw/ufw.conf", "ENABLED=yes\n"), ruleset(well, rules):
        (finding,) = of_check(asked(well), "firewall")
    assert "ufw route allow from 10.64.0.0/14" in finding.remedy


def test_what_listens_is_seen_at_any_address(well: Container) -> None:
    with (
        running(well, "socat", "TCP6-LISTEN:2379,bind=[::1],fork", "-"),
        running(well, "socat", "UDP-RECVFROM:8472,fork", "-"),
        running(well, "socat", "TCP-LISTEN:30080,bind=127.0.0.1,fork", "-"),
        running(well, "socat", "TCP-LISTEN:2222,fork", "-"),
    ):
        eventually("they listen", lambda: well.call("ss", "-ltunpH").count("socat") == 4)
        seen = sentences(asked(well), "ports")
    assert sorted(seen) == [
        "socat listens on TCP 2379, which etcd needs",
        "socat listens on TCP 30080, which may become the port of a Service",
        "socat listens on UDP 8472, which VXLAN needs",
    ]


def test_the_listener_of_the_kernel_has_no_program(well: Container) -> None:
    vxlan = "ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0"
    well.call(*vxlan.split())
    well.call("ip", "link", "set", "flannel.1", "up")
    try:
        (sentence,) = sentences(asked(well), "ports")
    finally:
        well.call("ip", "link", "delete", "flannel.1")
    assert sentence.startswith("the kernel or another user's program listens on UDP 8472")


def test_a_stray_unit_of_a_kubelet_is_seen(well: Container) -> None:
    unit = "[Service]\nExecStart=/bin/sleep 1000\n"
    with written(well, "/etc/systemd/system/kubelet.service", unit):
        well.call("systemctl", "daemon-reload")
        assert "kubelet.service (inactive)" in sentences(asked(well), "cluster")[0]
        well.call("systemctl", "start", "kubelet.service")
        assert "kubelet.service (active)" in sentences(asked(well), "cluster")[0]
        well.call("systemctl", "stop", "kubelet.service")
    well.call("systemctl", "daemon-reload")
    assert sentences(asked(well), "cluster") == []


def with_minion(control_planes: int) -> Cluster:
    """A minion that exists already, behind so many control planes."""
    names = (*(f"c{n}" for n in range(control_planes)), "m1")
    several = {"endpoint": {"kind": "virtual-ip", "address": "10.1.1.1"}}
    return parse(
        {
            "networks": {"machines": "10.1.0.0/20"},
            **(several if control_planes > 1 else {}),
            "hypervisor": {
                "kind": "existing",
                "host_keys": {f"10.1.0.{n}": HOST_KEY for n in range(10, 10 + len(names))},
            },
            "machines": {
                name: {"address": f"10.1.0.{n}", "roles": "i" if name == "m1" else "a"}
                for n, name in enumerate(names, 10)
            },
        },
        name="minion",
    )


def test_a_service_of_its_own_is_not_taken_over(well: Container) -> None:
    unit = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"
    # The machine of the tests has the package with its unit masked, by a link that leads out of it.
    well.call("systemctl", "unmask", "haproxy.service")
    assert not well.path("/etc/systemd/system/haproxy.service").is_symlink()
    with written(well, "/etc/systemd/system/haproxy.service", unit):
        well.call("systemctl", "daemon-reload")
        well.call("systemctl", "disable", "haproxy.service")  # the package enables it
        assert sentences(asked(well, "m1", spec=with_minion(3)), "services") == []
        for verb, use in (("start", "active"), ("enable", "active and enabled")):
            well.call("systemctl", verb, "haproxy.service")
            (sentence,) = sentences(asked(well, "m1", spec=with_minion(3)), "services")
            assert f"its own haproxy.service is in use ({use})" in sentence
            assert sentences(asked(well, "m1", spec=with_minion(1)), "services") == []
        well.call("systemctl", "stop", "haproxy.service")
        (sentence,) = sentences(asked(well, "m1", spec=with_minion(3)), "services")
        assert "in use (inactive and enabled)" in sentence
        well.call("systemctl", "disable", "haproxy.service")
    well.call("systemctl", "mask", "haproxy.service")
    assert sentences(asked(well, "m1", spec=with_minion(3)), "services") == []


def test_a_process_of_a_cluster_is_seen_without_a_unit(well: Container) -> None:
    well.call("cp", "/bin/sleep", "/run/etcd")
    well.call("mount", "-o", "remount,exec", "/run")
    with running(well, "/run/etcd", "1000"):
        eventually("it runs", lambda: "etcd" in well.call("ps", "-eo", "comm"))
        assert sentences(asked(well), "cluster") == [
            "it has another cluster or container runtime: the process etcd"
        ]


def test_the_files_of_a_cluster_are_seen_and_empty_folders_are_not(well: Container) -> None:
    well.call("mkdir", "--parents", "/etc/cni/net.d", "/var/lib/kubelet")
    assert sentences(asked(well), "cluster") == []
    first, second = (
        f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in "ab"
    )
    with written(well, layout.AUTHORITY, first + second):
        host = asked(well)
    assert "runtime: /etc/kubernetes" in sentences(host, "cluster")[0]
    assert host.facts.rows["pem"] == [
        [layout.AUTHORITY, hashlib.sha256(text.encode()).hexdigest()] for text in (first, second)
    ]
    well.call("rm", "-r", "/etc/kubernetes", "/etc/cni", "/var/lib/kubelet")


def test_another_address_and_a_small_mtu_are_seen(well: Container) -> None:
    well.call("ip", "link", "set", "eth0", "mtu", "1280")
    assert "the MTU of eth0 is 1280" in sentences(asked(well), "MTU")[0]
    well.call("ip", "link", "set", "eth0", "mtu", "1500")
    well.call("ip", "address", "flush", "dev", "eth0")
    well.call("ip", "address", "add", "10.1.0.99/20", "dev", "eth0")
    try:
        (sentence,) = sentences(asked(well), "address")
    finally:
        well.call("ip", "address", "flush", "dev", "eth0")
        well.call("ip", "address", "add", "10.1.0.10/20", "dev", "eth0")
    assert sentence == "10.1.0.10 is on none of its interfaces (their addresses: 10.1.0.99)"


def test_a_file_that_ends_forwarding_is_seen(well: Container) -> None:
    for name, count in (("99-own.conf", 1), ("10-own.conf", 0)):
        with written(well, f"/etc/sysctl.d/{name}", "# mine\nnet.ipv4.ip_forward = 0\n"):
            assert len(sentences(asked(well), "forwarding")) == count


def test_the_name_of_the_machine_and_its_servers_are_seen(well: Container) -> None:
    well.call("hostname", "localhost")
    assert "it calls itself localhost" in sentences(asked(well), "host name")[0]
    well.call("hostname", FIRST)
    with written(well, "/run/systemd/resolve/resolv.conf", "nameserver 10.1.0.2\n"):
        assert sentences(asked(well), "name servers") == []
    assert "127.0.0.53, which pods cannot ask" in sentences(asked(well), "name servers")[0]


def test_packages_that_apt_does_not_know_are_named_where_it_has_lists(well: Container) -> None:
    # With another status file apt knows of no package.
    with written(well, "/etc/apt/apt.conf.d/99-none", 'Dir::State::status "/dev/null";\n'):
        assert sentences(asked(well), "packages") == []
        with written(well, "/var/lib/apt/lists/a_Packages", "Package: curl\nVersion: 1\n"):
            (sentence,) = sentences(asked(well), "packages")
    assert sentence.startswith("apt knows no package apparmor, ca-certificates, ")


def test_a_file_system_that_is_full_or_cannot_be_written_to_is_seen(well: Container) -> None:
    well.call("mkdir", "--parents", layout.ETCD_DATA)
    well.call("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", layout.ETCD_DATA)
    try:
        assert sentences(asked(well), "disk") == [
            "64 MiB are free on /var/lib/etcd, and 4096 are needed"
        ]
        well.call("mount", "-o", "remount,ro", layout.ETCD_DATA)
        assert "/var/lib/etcd cannot be written to" in sentences(asked(well), "disk")[0]
    finally:
        well.call("umount", layout.ETCD_DATA)


# -- two machines ----------------------------------------------------------------------------------


@pytest.fixture
def pair(new_machine: Callable[..., Container]) -> tuple[Container, Container]:
    """Two machines in one network, on each of which something listens on port 22."""
    first, second = new_machine(), new_machine()
    peer = ("type", "veth", "peer", "name", "eth0", "netns", str(second.leader))
    command = ["ip", "link", "add", "eth0", *peer]
    subprocess.run(["nsenter", f"--net=/proc/{first.leader}/ns/net", *command], check=True)
    for container, name in ((first, FIRST), (second, SECOND)):
        container.call("hostname", name)
        address = SPEC.machines[name].address
        container.call("ip", "address", "add", f"{address}/20", "dev", "eth0")
        container.call("ip", "link", "set", "eth0", "up")
        container.call("systemd-run", "--unit", "door", "socat", "TCP-LISTEN:22,fork", "PIPE")
    for container in (first, second):
        eventually("it listens", partial(_listens, container))
    return first, second


def _listens(container: Container) -> bool:
    return "socat" in container.call("ss", "-ltnp")


def both(pair: tuple[Container, Container], check: str) -> list[tuple[str, str]]:
    """Of a check, the machine and the sentence of each finding."""
    names = (FIRST, SECOND)
    hosts = {
        name: asked(container, name, reaches=names)
        for name, container in zip(names, pair, strict=True)
    }
    return [
        (finding.machine, finding.sentence) for finding in findings(hosts) if finding.check == check
    ]


def test_two_machines_reach_each_other_or_say_what_is_in_between(
    pair: tuple[Container, Container],
) -> None:
    _, second = pair
    assert both(pair, "reach") == []
    drop = "table ip f { chain in { type filter hook input priority 0; tcp dport 6443 %s; }; }"
    with ruleset(second, drop % "drop"):
        assert both(pair, "reach") == [(FIRST, "it does not reach rack2-a at TCP 6443 (no answer)")]
    with ruleset(second, drop % "reject with icmp type host-prohibited"):
        assert both(pair, "reach") == [
            (FIRST, "it does not reach rack2-a at TCP 6443 (No route to host)")
        ]
    second.call("systemctl", "stop", "door")
    assert both(pair, "reach") == [
        (FIRST, "it does not reach rack2-a at TCP 22 (Connection refused)")
    ]
    second.call("ip", "link", "set", "eth0", "down")
    assert [machine for machine, _ in both(pair, "reach")] == [FIRST, SECOND]


def test_a_copy_of_a_machine_is_seen(pair: tuple[Container, Container]) -> None:
    first, second = pair
    assert both(pair, "identity") == []
    second.write("/etc/machine-id", first.read("/etc/machine-id"))
    second.call("hostname", FIRST)
    (copy, copied), (named, name) = both(pair, "identity")
    assert (copy, named) == (SECOND, SECOND)
    assert "the same /etc/machine-id as rack1-a" in copied
    assert "the same host name as rack1-a" in name


def test_one_machine_with_both_addresses_is_seen(pair: tuple[Container, Container]) -> None:
    first, _ = pair
    first.call("ip", "address", "add", "10.1.0.11/20", "dev", "eth0")
    assert both((first, first), "identity") == [
        (SECOND, "one machine has its 10.1.0.11 and the 10.1.0.10 of rack1-a")
    ]


def test_different_mtus_are_seen(pair: tuple[Container, Container]) -> None:
    pair[1].call("ip", "link", "set", "eth0", "mtu", "9000")
    assert both(pair, "same MTU") == [(SECOND, "its MTU is 9000, and that of rack1-a is 1500")]
