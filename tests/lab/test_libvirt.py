"""Where machines run: what is chosen, and the life and death of a private libvirt."""

import dataclasses
import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

import lab.libvirt
from lab import address_range, connection, libvirt, namespace, qemu
from lab.libvirt import LibvirtConnection, choose_domain_type
from lab.namespace import Process
from lab.paths import LabPaths
from lab.problem import Problem
from tests.engine.stack import eventually
from tests.lab.test_qemu import nice_of, update
from tests.lab.world import Notebook

NETWORK = IPv4Network("192.168.1.0/24")

NETWORK_XML = """<network><name>{name}</name><forward mode='nat'/><bridge name='{bridge}'/>
<ip address='{address}' netmask='255.255.255.0'>
<dhcp><range start='192.168.1.200' end='192.168.1.210'/></dhcp></ip></network>"""
"""As of an older program: libvirt runs dnsmasq on it."""

QUIET_XML = """<network><name>{name}</name><forward mode='nat'/><bridge name='{bridge}'/>
<dns enable='no'/><ip address='{address}' netmask='255.255.255.0'/></network>"""
"""As they are made now."""

IDLE = """<domain type='{kind}'><name>idle</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices><interface type='network'><source network='dev'/></interface>
</devices></domain>"""


# -- KVM or emulation ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpuinfo", "refusal", "kind", "phrase"),
    [
        ("flags\t\t: fpu vmx sse", None, "kvm", "vmx"),
        ("processor : 0\nflags\t\t: fpu svm", None, "kvm", "svm"),
        ("flags\t\t: fpu vmx", "Permission denied", "qemu", "Permission denied"),
        ("flags\t\t: fpu sse", None, "qemu", "neither vmx nor svm"),
        ("model name : svm vmx", None, "qemu", "neither vmx nor svm"),
        ("vmx flags\t: vmx", None, "qemu", "neither vmx nor svm"),
        ("", None, "qemu", "neither vmx nor svm"),
    ],
)
def test_kvm_needs_the_flag_and_the_device(
    cpuinfo: str, refusal: str | None, kind: str, phrase: str
) -> None:
    chosen, reason = choose_domain_type(cpuinfo, refusal)
    assert chosen == kind
    assert phrase in reason


# -- refusals ------------------------------------------------------------------------------------


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the system's libvirt of the computer that runs the tests."""
    monkeypatch.setattr(lab.libvirt, "SYSTEM_SOCKET", tmp_path / "none")


@pytest.mark.usefixtures("no_system")
def test_without_root_and_without_a_system_libvirt_sudo_is_the_remedy(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Problem, match="sudo"):
        libvirt.start(paths, Notebook())


def test_a_system_libvirt_that_refuses_names_its_group(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"adduser \$USER libvirt"):
        lab.libvirt.refused_by("Failed to connect socket: Permission denied", tmp_path / "sock")
    lab.libvirt.refused_by("No such file or directory", tmp_path / "sock")


@pytest.mark.machine
@pytest.mark.usefixtures("no_system")
def test_a_libvirt_that_does_not_come_up_is_told_and_leaves_nothing(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lab.libvirt.CONFIGURATION, "libvirtd.conf", "max_clients = 'many'\n")
    with pytest.raises(Problem, match=r"libvirt"):
        libvirt.start(paths, Notebook())
    assert libvirt.processes(paths) == []
    assert not namespace.exists(paths)


# -- the life of a private libvirt ---------------------------------------------------------------


@pytest.fixture
def lab_of(tmp_path: Path, no_system: None) -> Iterator[Callable[[str], LabPaths]]:
    """Labs by name, each stopped in the end."""
    made: dict[str, LabPaths] = {}

    def lab(letter: str) -> LabPaths:
        name = f"{letter}{os.getpid() % 10**6}"
        run = Path("/run/hardway") / name
        return made.setdefault(letter, LabPaths(name, tmp_path / "state" / name, run))

    try:
        yield lab
    finally:
        for paths in made.values():
            libvirt.stop(paths, Notebook())


@pytest.fixture
def own(lab_of: Callable[[str], LabPaths]) -> LabPaths:
    return lab_of("t")


def _words(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _host() -> dict[str, object]:
    """What a lab must not change on its host."""
    etc = [
        (str(path), path.lstat().st_mtime_ns)
        for name in ("etc", "var/lib", "var/cache", "var/log", "run")
        for path in (Path("/") / name / "libvirt").rglob("*")
    ]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        # iproute2 makes /run/netns a mount point once, for all namespaces of the host.
        "mounts": [line.split()[4] for line in mounts if line.split()[4] != "/run/netns"],
        "namespaces": [line for line in _words("ip", "netns").splitlines() if "hardway-t" in line],
        "links": sorted(row["ifname"] for row in json.loads(_words("ip", "-json", "link"))),
        "routes": _words("ip", "route"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "rules": _words("nft", "list", "tables"),
        "files": sorted(etc),
        "run": Path("/run/hardway").is_dir()
        and [p.name for p in Path("/run/hardway").iterdir() if p.name.startswith("t")],
    }


def _network(
    host: LibvirtConnection,
    tmp_path: Path,
    name: str = "dev",
    address: str = "192.168.1.1",
    xml: str = NETWORK_XML,
) -> None:
    definition = tmp_path / f"{host.pool}-{name}.xml"
    definition.write_text(xml.format(name=name, bridge=f"br-{name}", address=address))
    libvirt.virsh(host, "net-define", definition)
    libvirt.virsh(host, "net-start", name)


def _machine(host: LibvirtConnection, tmp_path: Path) -> None:
    definition = tmp_path / f"{host.pool}-idle.xml"
    definition.write_text(IDLE.format(kind=host.domain_type))
    libvirt.virsh(host, "define", definition)
    libvirt.virsh(host, "start", "idle")


def _pids(paths: LabPaths, program: str) -> list[int]:
    return [
        process.pid
        for process in libvirt.processes(paths)
        if Path(process.command.split()[0]).name.startswith(program)
    ]


def _kill(pids: Iterable[int]) -> None:
    """Kill processes and wait for their end, for which a signal does not wait."""
    waiting = [os.pidfd_open(pid) for pid in pids]
    for descriptor in waiting:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for descriptor in waiting:
        assert select.select([descriptor], [], [], 60)[0]
        os.close(descriptor)


@pytest.mark.machine
def test_it_is_found_again_and_started_once(own: LabPaths) -> None:
    assert libvirt.find(own) is None
    started = libvirt.start(own, Notebook())
    daemons = libvirt.processes(own)
    assert started.private
    assert libvirt.find(own) == started
    assert libvirt.start(own, Notebook()) == started
    assert libvirt.processes(own) == daemons
    assert libvirt.enter(started) == ["nsenter", f"--net=/run/netns/{own.namespace}"]
    active = libvirt.virsh(started, "pool-list", "--name").split()
    assert active == [f"hardway-{own.name}"]


@pytest.mark.machine
def test_two_starts_at_once_give_one_libvirt(own: LabPaths) -> None:
    connections: list[LibvirtConnection] = []
    threads = [
        threading.Thread(target=lambda: connections.append(libvirt.start(own, Notebook())))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(connections) == 2
    assert len(_pids(own, "libvirtd")) == len(_pids(own, "virtlogd")) == 1


@pytest.mark.machine
def test_stop_leaves_the_host_as_it_was(own: LabPaths, tmp_path: Path) -> None:
    before = _host()
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path)
    _machine(host, tmp_path)
    assert _pids(own, "qemu")
    assert _pids(own, "dnsmasq")
    during = _host()
    assert {**during, "namespaces": 0, "run": 0, "mounts": 0} == {
        **before,
        "namespaces": 0,
        "run": 0,
        "mounts": 0,
    }
    libvirt.stop(own, Notebook())
    assert _host() == before
    assert libvirt.processes(own) == []
    libvirt.stop(own, Notebook())  # nothing to do is no error


@pytest.mark.machine
def test_machines_survive_the_death_of_libvirtd(own: LabPaths, tmp_path: Path) -> None:
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path, xml=QUIET_XML)
    _machine(host, tmp_path)
    machine = _pids(own, "qemu")
    assert _pids(own, "dnsmasq") == []
    _kill(_pids(own, "libvirtd") + _pids(own, "virtlogd"))
    assert libvirt.find(own) is None
    host = libvirt.start(own, Notebook())
    assert libvirt.virsh(host, "list", "--name").split() == ["idle"]
    assert _pids(own, "qemu") == machine
    assert len(_pids(own, "virtlogd")) == 1
    libvirt.virsh(host, "destroy", "idle")
    assert _pids(own, "qemu") == []


@pytest.mark.machine
def test_machines_that_stand_still_are_set_going_and_others_left_alone(
    own: LabPaths, tmp_path: Path
) -> None:
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path)
    _machine(host, tmp_path)
    for verb, state, action in (("destroy", "shut off", "start"), ("suspend", "paused", "resume")):
        notebook = Notebook()
        libvirt.virsh(host, verb, "idle")
        libvirt.set_going(host, ["another"], notebook)
        assert libvirt.virsh(host, "domstate", "idle").strip() == state
        libvirt.set_going(host, ["idle", "another"], notebook)
        assert libvirt.virsh(host, "domstate", "idle").strip() == "running"
        libvirt.set_going(host, ["idle"], notebook)
        assert notebook.messages == [f"the machine idle was {state.replace(' ', '')}: {action}"]
    (network,) = libvirt.virsh(host, "net-list", "--name").split()
    libvirt.virsh(host, "destroy", "idle")
    libvirt.virsh(host, "net-destroy", network)
    libvirt.set_going(host, ["idle"], notebook)
    assert f"network '{network}' is not active" in notebook.messages[-1]


@pytest.mark.machine
def test_a_machine_gives_way_to_the_programs_of_its_host(own: LabPaths, tmp_path: Path) -> None:
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path)
    _machine(host, tmp_path)
    (machine,) = _pids(own, "qemu")
    threads = [int(path.name) for path in Path(f"/proc/{machine}/task").iterdir()]
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {5}
    group = Path(f"/proc/{machine}/autogroup")
    assert not group.exists() or group.read_text().endswith(" nice 5\n")


@pytest.mark.machine
def test_a_machine_goes_first_while_an_update_works_and_yields_once_that_is_killed(
    own: LabPaths, tmp_path: Path
) -> None:
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path)
    with update(own.run / "libvirt") as process:
        _machine(host, tmp_path)
        (machine,) = _pids(own, "qemu")
        assert qemu.processes(own.run / "libvirt") == {"idle": machine}
        eventually("the machine goes first", lambda: nice_of(machine) == {qemu.FIRST})
        process.kill()
    eventually("it yields again", lambda: nice_of(machine) == {qemu.YIELDING})


@pytest.mark.machine
def test_a_libvirtd_that_lives_and_does_not_answer_is_replaced(
    own: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.start(own, Notebook())
    (old,) = _pids(own, "libvirtd")
    os.kill(old, signal.SIGSTOP)
    real = connection.ask

    def impatient(uri: str, *arguments: str, timeout: float) -> object:
        return real(uri, *arguments, timeout=min(timeout, 3))

    monkeypatch.setattr(lab.libvirt, "ask", impatient)
    libvirt.start(own, Notebook())
    (new,) = _pids(own, "libvirtd")
    assert new != old


@pytest.mark.machine
def test_what_a_reboot_left_is_no_obstacle(own: LabPaths) -> None:
    libvirt.start(own, Notebook())
    _kill(process.pid for process in libvirt.processes(own))
    subprocess.run(["ip", "netns", "delete", own.namespace], check=True)
    # Where /run is on a disk, the name of the namespace and the sockets outlive a reboot.
    Path("/run/netns", own.namespace).touch()
    assert (own.run / "libvirt" / "libvirt-sock").exists()
    assert not namespace.exists(own)
    assert libvirt.find(own) is None
    libvirt.start(own, Notebook())
    libvirt.stop(own, Notebook())
    assert not Path("/run/netns", own.namespace).exists()


@pytest.mark.machine
def test_a_lab_that_was_killed_is_not_believed_by_one_of_another_state(
    own: LabPaths, tmp_path: Path
) -> None:
    host = libvirt.start(own, Notebook())
    _network(host, tmp_path)
    another = dataclasses.replace(own, state=tmp_path / "another" / own.name)
    with pytest.raises(Problem, match=f"runs already, with its state in {own.state}"):
        libvirt.start(another, Notebook())
    _kill(process.pid for process in libvirt.processes(own))
    assert (own.run / "libvirt" / "network" / "dev.xml").exists()
    host = libvirt.start(another, Notebook())
    assert libvirt.virsh(host, "net-list", "--all", "--name").split() == []
    assert str(another.pool) in libvirt.virsh(host, "pool-dumpxml", host.pool)
    _network(host, tmp_path)


@pytest.mark.machine
def test_a_namespace_without_a_libvirt_is_used(own: LabPaths) -> None:
    namespace.make(own)
    assert libvirt.find(own) is None
    assert libvirt.start(own, Notebook()).private


@pytest.mark.machine
def test_two_labs_have_the_same_addresses_at_the_same_time(
    lab_of: Callable[[str], LabPaths], tmp_path: Path
) -> None:
    first, second = lab_of("t"), lab_of("u")
    hosts = [libvirt.start(paths, Notebook()) for paths in (first, second)]
    for host in hosts:
        _network(host, tmp_path)
        _machine(host, tmp_path)
    libvirt.stop(first, Notebook())
    assert libvirt.find(first) is None
    assert libvirt.virsh(hosts[1], "list", "--name").split() == ["idle"]
    assert _pids(second, "dnsmasq")


@pytest.mark.machine
def test_what_came_into_the_namespace_by_itself_is_named_and_left(own: LabPaths) -> None:
    host = libvirt.start(own, Notebook())
    with subprocess.Popen([*libvirt.enter(host), "sleep", "600"]) as guest:
        notebook = Notebook()
        libvirt.stop(own, notebook)
        assert guest.poll() is None
        assert f"process {guest.pid}" in notebook.text
        guest.kill()


@pytest.mark.machine
def test_a_number_that_now_belongs_to_another_process_is_not_hit(own: LabPaths) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        namespace.end(own, [Process(stranger.pid, "libvirtd", started_by_lab=True)], patience=1)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.machine
def test_a_libvirt_that_answers_for_the_system_is_used_and_left_running(
    lab_of: Callable[[str], LabPaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, own = lab_of("s"), lab_of("t")
    real = libvirt.start(system, Notebook())
    monkeypatch.setattr(lab.libvirt, "SYSTEM", real.uri)
    monkeypatch.setattr(lab.libvirt, "SYSTEM_SOCKET", system.run / "libvirt" / "libvirt-sock")
    monkeypatch.setattr(lab.libvirt, "SYSTEM_IMAGES", tmp_path)
    used = libvirt.start(own, Notebook())
    assert (used.uri, used.private, libvirt.enter(used)) == (real.uri, False, [])
    assert used.disks == tmp_path / f"hardway-{own.name}"
    assert used.disks.is_dir()
    assert not namespace.exists(own)
    libvirt.stop(own, Notebook())
    assert libvirt.virsh(real, "pool-list", "--all", "--name").split() == [real.pool]


# -- what is taken -------------------------------------------------------------------------------


def test_a_network_is_read_from_its_definition() -> None:
    text = """<network><name>x</name><bridge name='br0'/><ip family='ipv6' address='fd00::1'
    prefix='64'/><ip address='10.0.0.1' prefix='8'/></network>"""
    network = address_range.parse_network(text)
    assert (network.name, network.bridge) == ("x", "br0")
    assert network.ranges == (IPv4Network("10.0.0.0/8"),)


@pytest.mark.machine
def test_the_clusters_own_network_is_no_obstacle_and_every_other_is(
    own: LabPaths, tmp_path: Path
) -> None:
    host = libvirt.start(own, Notebook())
    libvirt.check_network(NETWORK, "dev", host)
    _network(host, tmp_path)
    libvirt.check_network(NETWORK, "dev", host)
    with pytest.raises(Problem, match="libvirt network dev"):
        libvirt.check_network(IPv4Network("192.168.0.0/16"), "other", host)
    with pytest.raises(Problem, match=r"192\.168\.2\.0/24"):
        libvirt.check_network(IPv4Network("192.168.2.0/24"), "dev", host)
    libvirt.check_network(IPv4Network("192.168.2.0/24"), "other", host)


@pytest.mark.machine
def test_an_address_or_a_route_of_the_place_is_an_obstacle(own: LabPaths) -> None:
    host = libvirt.start(own, Notebook())
    for arguments in (
        ["link", "add", "taken0", "type", "bridge"],
        ["link", "set", "taken0", "up"],
        ["address", "add", "192.168.1.77/32", "dev", "taken0"],
        ["route", "add", "192.168.3.0/25", "dev", "taken0"],
    ):
        subprocess.run([*libvirt.enter(host), "ip", *arguments], check=True)
    for text in ("192.168.1.0/24", "192.168.3.0/24"):
        with pytest.raises(Problem, match="taken0"):
            libvirt.check_network(IPv4Network(text), "dev", host)
        # Outside of the namespace it is another matter.
        libvirt.check_network(IPv4Network(text), "dev", dataclasses.replace(host, namespace=None))
