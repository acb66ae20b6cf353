"""Judges machines that exist already, before anything is brought to them; asks nobody.

``RULES`` and ``RULES_OF_ALL`` are the table of all checks. A rule is a function from what machines
report to findings. A finding that refuses would make the update fail or harm what is on the
machine; the rest are warnings.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import combinations

from plan import host as plan_host
from plan import layout, needs
from probe.host_facts import DropChain, ObservedHost
from probe.machines import Unreachable
from spec.checks.sizes import MEMORY
from spec.cluster import Role
from spec.network import NODE_PORTS
from spec.refusal import listed

SYSTEMS = {
    ("debian", "12"): "Debian 12",
    ("debian", "13"): "Debian 13",
    ("ubuntu", "22.04"): "Ubuntu 22.04",
    ("ubuntu", "24.04"): "Ubuntu 24.04",
}
"""The systems with everything that the plan needs, by ``ID`` and ``VERSION_ID`` of os-release."""

TOO_OLD = {
    ("debian", "11"): "its nftables 0.9.8 is older than the 1.0.1 that kube-proxy needs",
    ("ubuntu", "20.04"): "its nftables 0.9.3 is older than the 1.0.1 that kube-proxy needs",
}
"""What a system of a supported distribution lacks."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's name of a processor, mapped to the spec's."""

KERNEL = (5, 13)
"""The oldest kernel with all that kube-proxy's nftables mode uses."""

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
"""The controllers of control groups without which the kubelet does not start."""

SPACE = 3 * 1024
"""MiB that must be free for programs, images and logs."""
ETCD_SPACE = 4 * 1024
"""MiB that must be free for etcd: its quota of 2 GiB, and a copy while it is defragmented."""
EVICTION = 0.15
"""The free share of a disk below which the kubelet removes images and then pods."""

KERNELS_OWN = 0.12
"""The share of a machine's memory that the kernel and the firmware may keep for themselves."""

LEAST_MTU = 1330
"""The smallest MTU at which a packet of IPv6's least size, 1280, fits into VXLAN."""

MOST_SERVERS = 3
"""The name servers that resolvers ask; further ones are ignored (resolv.conf(5))."""

IN_USE = ("active", "activating", "reloading", "deactivating")
"""The states of a unit that does something (systemctl(1), "is-active")."""

NO_IDENTITY = frozenset(
    {"", "uninitialized", "00000000-0000-0000-0000-000000000000"}
    | {f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}" for digit in "fF"}
    | {"03000200-0400-0500-0006-000700080009"}
)
"""Values of machines without an identity; the last is that of many cheap boards."""

OPEN, CLOSED = "open", "Connection refused"
"""How a connection ends that no firewall keeps from the machine."""


@dataclass(frozen=True, kw_only=True)
class HostFinding:
    """What is wrong with a machine."""

    machine: str
    check: str
    """The name of the rule in the table."""
    refuses: bool
    """Whether ``up`` refuses to start; otherwise this is a warning."""
    sentence: str
    """What was seen and what it would cause, without its full stop."""
    remedy: str
    """The next step, without its full stop."""


@dataclass(frozen=True)
class _Seen:
    """A finding as a rule gives it, to which the table adds the machine and the name."""

    sentence: str
    remedy: str
    refuses: bool = True


Seen = Iterator[_Seen]


def _warned(sentence: str, remedy: str) -> _Seen:
    return _Seen(sentence, remedy, refuses=False)


# -- the system ------------------------------------------------------------------------------------


def root(host: ObservedHost) -> Seen:
    """Refuses a user who is not root and may not ``sudo`` without a password."""
    means, user, reason = host.facts.parts("root", 3)
    if means == "no":
        yield _Seen(
            f"{user} may not sudo without a password ({reason or 'sudo is missing'})",
            f"write '{user} ALL=(ALL:ALL) NOPASSWD: ALL' into a file of /etc/sudoers.d there, or "
            "log in as root",
        )


def system(host: ObservedHost) -> Seen:
    """Refuses distributions and versions other than those with everything that the plan needs."""
    kind, version, title = host.facts.parts("system", 3)
    if (kind, version) in SYSTEMS:
        return
    lacks = TOO_OLD.get((kind, version))
    if lacks is None and "apt-get" not in host.facts.all("program"):
        lacks = "it has no apt-get, and the plan installs Debian's packages"
    elif lacks is None:
        lacks = "whether its packages, systemd and kernel suffice was never seen"
    yield _Seen(
        f"{title or 'a system without /etc/os-release'}: {lacks}",
        f"use a machine with {listed(list(SYSTEMS.values()), 'or')}",
    )


def systemd(host: ObservedHost) -> Seen:
    """Refuses a machine whose first process is not systemd."""
    if not host.facts.text("systemd"):
        yield _Seen(
            "systemd does not run there, so no service could be started",
            "boot the machine with systemd, or use another one",
        )


def packages(host: ObservedHost) -> Seen:
    """Refuses a machine without dpkg, ip or ss; warns of packages that apt does not know."""
    programs = host.facts.all("program")
    if missing := [name for name in ("dpkg-query", "apt-get") if name not in programs]:
        yield _Seen(
            f"{listed(missing, 'and')} is missing, and the plan installs Debian's packages",
            "use a machine with Debian or Ubuntu",
        )
        return
    if missing := [name for name in ("ip", "ss") if name not in programs]:
        yield _Seen(
            f"{listed(missing, 'and')} is missing, so neither addresses nor ports can be seen",
            "install the package iproute2 there",
        )
    rows = {row[0]: row[-1] for row in host.facts.rows.get("package", ())}
    unknown = [
        name
        for name in needs.packages(host.spec, host.name)
        if host.facts.text("lists") and rows.get(name, "(none)") == "(none)"
    ]
    if unknown:
        yield _warned(
            f"apt knows no package {listed(unknown, 'and')} there",
            "run apt-get update there; if it still knows none, mend /etc/apt/sources.list",
        )


def kernel(host: ObservedHost) -> Seen:
    """Refuses another processor than ``architecture`` says, and a kernel older than 5.13."""
    release, processor = host.facts.parts("kernel", 2)
    architecture = ARCHITECTURES.get(processor, processor)
    if architecture != host.spec.architecture:
        yield _Seen(
            f"its processor is {architecture}, and the spec says {host.spec.architecture}",
            f"write architecture: {architecture} where all machines have it, or take another one",
        )
    version = re.match(r"([0-9]+)\.([0-9]+)", release)
    if version and (int(version[1]), int(version[2])) < KERNEL:
        oldest = ".".join(map(str, KERNEL))
        yield _Seen(
            f"its kernel {release} is older than {oldest}, which kube-proxy needs",
            "install a newer kernel there and boot it",
        )


def modules(host: ObservedHost) -> Seen:
    """Refuses a node whose kernel lacks a module of the pod network or of containers."""
    if host.name not in host.spec.nodes:
        return
    there = host.facts.all("module")
    missing = [name for name in plan_host.modules(host.spec) if name not in there]
    if missing:
        release, _ = host.facts.parts("kernel", 2)
        yield _Seen(
            f"its kernel {release} has no module {listed(missing, 'and')}",
            "install the rest of its modules (on Ubuntu linux-modules-extra), and boot the kernel "
            "that is installed",
        )


def cgroup(host: ObservedHost) -> Seen:
    """Refuses a node without control groups of version 2, or without a controller of them."""
    if host.name not in host.spec.nodes:
        return
    kind, controllers = host.facts.parts("cgroup", 2)
    if kind != "cgroup2fs":
        yield _Seen(
            "its control groups are of version 1, which this kubelet does not take",
            "take systemd.unified_cgroup_hierarchy=0 out of the kernel's command line and reboot",
        )
    elif missing := [name for name in CONTROLLERS if name not in controllers.split()]:
        yield _Seen(
            f"its control groups lack {listed(missing, 'and')}, without which no kubelet starts",
            f"add {' '.join(f'cgroup_enable={name}' for name in missing)} to the kernel's command "
            "line and reboot",
        )


# -- its size --------------------------------------------------------------------------------------


def swap(host: ObservedHost) -> Seen:
    """Warns of swap, which ``up`` turns off; refuses where its content has no room in memory."""
    if host.name not in host.spec.nodes or not host.facts.swap:
        return
    used, names = sum(host.facts.swap.values()), listed(list(host.facts.swap), "and")
    free = host.facts.memory.get("MemAvailable", 0)
    if used > free:
        yield _Seen(
            f"{used} MiB are in swap ({names}) and {free} MiB of memory are free, so swap cannot "
            "be turned off",
            "end programs there, or use a machine with more memory",
        )
    else:
        yield _warned(
            f"it swaps to {names}; up turns swap off, and it stays off",
            "take it out of /etc/fstab, so that nothing there expects it",
        )


def memory(host: ObservedHost) -> Seen:
    """Refuses less memory than the machine's roles need."""
    needed = max(MEMORY[role][0] for role in _roles(host))
    total = host.facts.memory.get("MemTotal", 0)
    if total < needed * (1 - KERNELS_OWN):
        yield _Seen(
            f"it has {total} MiB of memory, and its roles need {needed}",
            "give it more memory, or fewer roles",
        )


def disk(host: ObservedHost) -> Seen:
    """Refuses too little room where data will be, and file systems that cannot be written to."""
    spaces = host.facts.spaces
    for path, space in spaces.items():
        if not space.is_writable and host.facts.text("root") != "no":
            yield _Seen(
                f"{path} cannot be written to (it is on {space.mount})",
                f"mount {space.mount} for writing there",
            )
    needed: dict[str, int] = defaultdict(int)
    for path in (layout.STATE, layout.ETCD_DATA):
        if path in spaces:
            needed[spaces[path].mount] += ETCD_SPACE if path == layout.ETCD_DATA else SPACE
    by_mount = {space.mount: space for space in spaces.values()}
    for mount, space in by_mount.items():
        least = needed.get(mount, 0)
        if space.free < least and not host.is_ours:
            yield _Seen(
                f"{space.free} MiB are free on {mount}, and {least} are needed",
                f"make room on {mount} there",
            )
        elif host.name in host.spec.nodes and space.free < space.size * EVICTION:
            yield _warned(
                f"{space.free / space.size:.0%} of {mount} are free; below {EVICTION:.0%} the "
                "kubelet removes images, then pods",
                f"make room on {mount} there",
            )


def _roles(host: ObservedHost) -> set[Role]:
    member = {Role.ETCD} if host.name in host.spec.etcd_members else set()
    return set(host.spec.machines[host.name].roles) | member


# -- time and names --------------------------------------------------------------------------------


def clock(host: ObservedHost) -> Seen:
    """Refuses a clock that is a minute off this computer's."""
    if message := host.clock.message:
        yield _Seen(
            f"its clock {message}, so certificates would not be valid",
            "set the one that is wrong (timedatectl set-ntp true)",
        )


def hostname(host: ObservedHost) -> Seen:
    """Warns where the machine calls itself by another name than the spec."""
    name = host.facts.text("hostname")
    if name.partition(".")[0] != host.name:
        yield _warned(
            f"it calls itself {name}; its logs will have that name, and its Node object this one",
            f"run hostnamectl set-hostname {host.name} there, if you do not want that",
        )


def name_servers(host: ObservedHost) -> Seen:
    """Warns of a machine without name servers, or with more than are asked."""
    if host.spec.networks.name_servers:
        return
    servers = host.facts.rows.get("name-server", ())
    asked = list(dict.fromkeys(server for _, server in servers if not server.startswith("127.")))
    local = [server for _, server in servers if server.startswith("127.")]
    if not asked and not local:
        yield _warned(
            "it has no name server, so it finds neither packages nor a mirror by name",
            "write networks.name_servers, or set up its /etc/resolv.conf",
        )
    elif not asked and host.name in host.spec.nodes:
        yield _warned(
            f"its only name server is {local[0]}, which pods cannot ask",
            "write networks.name_servers",
        )
    elif len(asked) > MOST_SERVERS:
        yield _warned(
            f"it has {len(asked)} name servers, and pods ask the first {MOST_SERVERS} alone",
            "write at most three as networks.name_servers",
        )


# -- the network -----------------------------------------------------------------------------------


def address(host: ObservedHost) -> Seen:
    """Refuses a machine that does not have its address of the spec itself (as behind NAT)."""
    interfaces = host.facts.interfaces
    if "ip" in host.facts.all("program") and host.address not in interfaces:
        own = [str(ip) for ip in interfaces if not ip.is_loopback] or ["none"]
        yield _Seen(
            f"{host.address} is on none of its interfaces (their addresses: {listed(own, 'and')})",
            f"write its own address as machines.{host.name}.address, or give it {host.address}",
        )


def mtu(host: ObservedHost) -> Seen:
    """Warns of an MTU too small for the pod network."""
    interface, size = host.facts.interfaces.get(host.address, ("", LEAST_MTU))
    if size < LEAST_MTU and host.spec.flannel.backend == "vxlan":
        yield _warned(
            f"the MTU of {interface} is {size}, of which VXLAN takes 50",
            f"set it to {LEAST_MTU} or more there, if packets of that size get through",
        )


def forwarding(host: ObservedHost) -> Seen:
    """Refuses a node that turns forwarding off again at its next boot."""
    if host.name not in host.spec.nodes:
        return
    ours = plan_host.SYSCTLS_FILE.rpartition("/")[2]
    for path, value in host.facts.rows.get("sysctl", ()):
        if value == "0" and path.rpartition("/")[2] > ours:
            yield _Seen(
                f"{path} sets net.ipv4.ip_forward to 0 at every boot, so pods would be cut off",
                "take that line out there",
            )


def firewall(host: ObservedHost) -> Seen:
    """Refuses a firewall that drops pods' packets; warns of any other that drops by default."""
    managers = host.facts.all("firewall")
    if "firewalld" in managers:
        yield _warned(
            "firewalld runs and rejects what its zones do not name",
            f"add {listed((*host.spec.networks.machines, host.spec.networks.pods), 'and')} to the "
            "zone trusted, "
            "or run systemctl disable --now firewalld there",
        )
    for chain in host.facts.drop_chains:
        where = f"the chain {chain.name} of {chain.table}" + (" (ufw)" if "ufw" in managers else "")
        if chain.hook == "forward" and host.name in host.spec.nodes and not host.is_ours:
            if not _accepts(host, chain, host.spec.networks.pods):
                yield _Seen(
                    f"{where} drops forwarded packets and accepts none of pods "
                    f"({host.spec.networks.pods})",
                    _opened("route ", managers, host.spec.networks.pods, "forwarded"),
                )
        elif chain.hook == "input":
            for subnet in host.spec.networks.machines:
                if not _accepts(host, chain, subnet):
                    yield _warned(
                        f"{where} drops what no rule accepts, and no rule names the machines' "
                        f"network ({subnet})",
                        _opened("", managers, subnet, "incoming"),
                    )
        elif chain.hook == "output":
            yield _warned(
                f"{where} drops what no rule accepts of the machine's own packets",
                "accept what goes to the other machines, pods and Services",
            )


def _accepts(host: ObservedHost, chain: DropChain, network: IPv4Network) -> bool:
    """Whether a rule of the chain's table accepts packets of a network that has this one in it."""
    for rule in host.facts.accepted(chain.table):
        for text in re.findall(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:/[0-9]+)?", rule):
            # A comment of a rule may look like an address.
            with suppress(ValueError):
                if network.subnet_of(IPv4Network(text, strict=False)):
                    return True
    return False


def _opened(route: str, managers: Sequence[str], network: IPv4Network, packets: str) -> str:
    if "ufw" in managers:
        return f"run ufw {route}allow from {network} there, or ufw disable"
    return f"accept {packets} packets from {network} in that chain, or remove the chain"


def ports(host: ObservedHost) -> Seen:
    """Refuses a machine where something listens on a port of a component; warns of NodePorts.

    On a machine of this cluster these are its components themselves, but for ports where none of
    them listens.
    """
    needed = {
        (port.protocol, port.number): port
        for port in needs.ports(host.spec, host.name)
        if port.is_redirected or not host.is_ours
    }
    listening = {(port.protocol, port.number): port for port in host.facts.open_ports}
    for key, listener in listening.items():
        program = listener.program or "the kernel or another user's program"
        where = f"{listener.protocol.upper()} {listener.number}"
        if key in needed:
            yield _Seen(
                f"{program} listens on {where}, which {needed[key].component} needs",
                f"end {listener.program or 'it'} there, or let it listen on another port",
            )
        elif host.is_ours:
            continue
        elif listener.number in NODE_PORTS and host.name in host.spec.nodes:
            yield _warned(
                f"{program} listens on {where}, which may become the port of a Service",
                f"let it listen outside {NODE_PORTS.start}-{NODE_PORTS.stop - 1}",
            )


def services(host: ObservedHost) -> Seen:
    """Refuses a machine where a service of its own has the unit of a component, and is in use."""
    if host.is_ours:
        return
    for unit, state, enabled in host.facts.rows.get("own-unit", ()):
        is_enabled = enabled.startswith("enabled")
        if state in IN_USE or is_enabled:
            use = listed([state, *([enabled] if is_enabled else [])], "and")
            yield _Seen(
                f"its own {unit} is in use ({use}), and up would run the cluster's in its stead",
                f"move what it does to another machine and run systemctl disable --now {unit} "
                "there, or take another machine",
            )


def cluster(host: ObservedHost) -> Seen:
    """Refuses a machine with a cluster or container runtime that is not this very cluster's."""
    if host.is_ours:
        return
    units = [f"{row[0]} ({row[1]})" for row in host.facts.rows.get("unit", ())]
    processes = sorted({f"the process {name}" for name in host.facts.all("process")})
    traces = [*units, *processes, *host.facts.all("there")]
    if traces:
        yield _Seen(
            f"it has another cluster or container runtime: {listed(traces, 'and')}",
            _removal(traces),
        )


def _removal(traces: Sequence[str]) -> str:
    text = " ".join(traces)
    if "k3s" in text or "rancher" in text or "rke2" in text:
        command = "k3s-uninstall.sh, k3s-agent-uninstall.sh or rke2-uninstall.sh"
    elif "microk8s" in text:
        command = "snap remove --purge microk8s"
    elif "kubelet" in text or layout.KUBERNETES in text:
        command = "kubeadm reset, or ./hardway down of the stack that it belongs to"
    elif "docker" in text:
        command = "apt-get purge with its package, such as docker-ce or docker.io"
    else:
        command = "the program that brought it"
    return (
        f"take another machine, or remove it there by {command}, then the files that are left; "
        "all that runs in it is lost"
    )


# -- several machines ------------------------------------------------------------------------------


def identity(hosts: Mapping[str, ObservedHost]) -> Iterator[tuple[str, _Seen]]:
    """Refuses one machine under two names, and copies with the same ID; warns of equal names."""
    same = list(_same_machines(hosts))
    for first, second in same:
        yield (
            second,
            _Seen(
                f"one machine has its {hosts[second].address} and the {hosts[first].address} of "
                f"{first}",
                "write each machine once, and give no address to two machines",
            ),
        )
    again = {second for _, second in same}
    different = {name: host for name, host in hosts.items() if name not in again}
    for names in _sharing(different, "machine-id"):
        yield (
            names[-1],
            _Seen(
                f"it has the same /etc/machine-id as {listed(names[:-1], 'and')}: it is a copy",
                "run rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup there, "
                "and reboot it",
            ),
        )
    for kind, title in (("product", "product UUID (DMI)"), ("hostname", "host name")):
        for names in _sharing(different, kind):
            yield (
                names[-1],
                _warned(
                    f"it has the same {title} as {listed(names[:-1], 'and')}",
                    "give each machine its own, so that they can be told apart",
                ),
            )


def _same_machines(hosts: Mapping[str, ObservedHost]) -> Iterator[tuple[str, str]]:
    """Each pair of names where one machine has the addresses of both."""
    for first, second in combinations(hosts, 2):
        both = {hosts[first].address, hosts[second].address}
        if any(both <= set(hosts[name].facts.interfaces) for name in (first, second)):
            yield first, second


def _sharing(hosts: Mapping[str, ObservedHost], kind: str) -> Iterator[tuple[str, ...]]:
    """The names of machines that have the same value of a fact."""
    groups = defaultdict(list)
    for name, host in hosts.items():
        groups[host.facts.text(kind)].append(name)
    for value, names in groups.items():
        if value not in NO_IDENTITY and len(names) > 1:
            yield tuple(names)


def mtus(hosts: Mapping[str, ObservedHost]) -> Iterator[tuple[str, _Seen]]:
    """Warns of machines with different MTUs, between which large packets would vanish."""
    sizes = {
        name: host.facts.interfaces[host.address][1]
        for name, host in hosts.items()
        if host.address in host.facts.interfaces
    }
    least = min(sizes.values(), default=0)
    smallest = [name for name, size in sizes.items() if size == least]
    for name, size in sizes.items():
        if size != least:
            yield (
                name,
                _warned(
                    f"its MTU is {size}, and that of {listed(smallest, 'and')} is {least}",
                    "set the same MTU on all machines",
                ),
            )


def reach(hosts: Mapping[str, ObservedHost]) -> Iterator[tuple[str, _Seen]]:
    """Refuses machines that do not reach each other at the ports of sshd and of components."""
    for name, host in hosts.items():
        outcomes = host.facts.rows.get("reached", ())
        asked = Counter(machine for machine, _, _ in outcomes)
        failed: dict[tuple[str, str], list[int]] = defaultdict(list)
        for machine, number, outcome in outcomes:
            # Nothing need listen yet where a component will; sshd does.
            components = {str(port.number) for port in needs.ports(host.spec, machine)}
            if outcome != OPEN and not (outcome == CLOSED and number in components):
                failed[machine, outcome].append(int(number))
        for (machine, outcome), numbers in failed.items():
            everywhere = len(numbers) == asked[machine]
            where = "" if everywhere else f" at TCP {listed(sorted(numbers), 'and')}"
            yield (
                name,
                _Seen(
                    f"it does not reach {machine}{where} ({outcome})",
                    f"let {host.address} through to {host.spec.machines[machine].address}, in the "
                    f"firewall of {machine} or of the network between them",
                ),
            )


Rule = Callable[[ObservedHost], Seen]
RuleOfAll = Callable[[Mapping[str, ObservedHost]], Iterator[tuple[str, _Seen]]]

RULES: Mapping[str, Rule] = {
    "root": root,
    "system": system,
    "systemd": systemd,
    "packages": packages,
    "kernel": kernel,
    "modules": modules,
    "control groups": cgroup,
    "swap": swap,
    "memory": memory,
    "disk": disk,
    "clock": clock,
    "host name": hostname,
    "name servers": name_servers,
    "address": address,
    "MTU": mtu,
    "forwarding": forwarding,
    "firewall": firewall,
    "ports": ports,
    "services": services,
    "cluster": cluster,
}
"""Each check of a machine alone."""

RULES_OF_ALL: Mapping[str, RuleOfAll] = {"identity": identity, "same MTU": mtus, "reach": reach}
"""Each check of all machines together."""

LOGIN = "login"
"""The check that fails where a machine cannot be observed at all."""


def findings(observed: Mapping[str, ObservedHost | Unreachable]) -> tuple[HostFinding, ...]:
    """What is wrong with machines, in their order and in that of the tables."""
    every = dict(_findings(observed))
    return tuple(finding for name in observed for finding in every[name])


def _findings(
    observed: Mapping[str, ObservedHost | Unreachable],
) -> Iterator[tuple[str, list[HostFinding]]]:
    hosts = {name: host for name, host in observed.items() if isinstance(host, ObservedHost)}
    of_all = [
        (check, name, seen) for check, rule in RULES_OF_ALL.items() for name, seen in rule(hosts)
    ]
    for name, host in observed.items():
        if isinstance(host, Unreachable):
            remedy = "start it, or mend its address, its user and its keys in the stack's file"
            yield name, [_finding(name, LOGIN, _Seen(str(host), remedy))]
            continue
        alone = [(check, seen) for check, rule in RULES.items() for seen in rule(host)]
        together = [(check, seen) for check, machine, seen in of_all if machine == name]
        yield name, [_finding(name, check, seen) for check, seen in (*alone, *together)]


def _finding(machine: str, check: str, seen: _Seen) -> HostFinding:
    return HostFinding(
        machine=machine,
        check=check,
        refuses=seen.refuses,
        sentence=seen.sentence,
        remedy=seen.remedy,
    )


def described(host: ObservedHost) -> str:
    """A machine in a few words: its system, processors and memory."""
    _, _, title = host.facts.parts("system", 3)
    release, processor = host.facts.parts("kernel", 2)
    total = host.facts.memory.get("MemTotal", 0)
    cpus = host.facts.text("processors")
    return (
        f"{title}, Linux {release}, {ARCHITECTURES.get(processor, processor)}, {cpus} processor"
        f"{'' if cpus == '1' else 's'}, {total} MiB"
    )
