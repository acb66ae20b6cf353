"""What a machine that exists already is like, as ``scripts/host.sh`` reports it."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface

from plan import layout, needs
from plan.host import modules
from probe.access import Access
from probe.clocks import Clock, Moment, Reading, compared, now
from probe.machines import EitherKey, Machines, Unreachable
from probe.observation import ALL
from probe.pods import script
from spec.cluster import Cluster

SECONDS = 60
"""The time limit of the script. Connections to machines that do not answer take 5 s of it."""

AUTHORITIES = (layout.AUTHORITY, layout.MEMBER_AUTHORITY)
"""The certificates by which a machine shows to which cluster it belongs."""

TRACES = (
    layout.KUBERNETES,
    layout.ETCD_PKI,
    f"{layout.ETCD_DATA}/member",
    "/etc/cni/net.d",
    "/etc/rancher",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/snap/k8s",
    "/var/snap/microk8s",
)
"""Files and directories that a cluster or a container runtime leaves behind."""

_LISTENER = re.compile(r"(.*?)(?:%[^:]*)?:([0-9]+)")
_PROGRAM = re.compile(r'\(\("([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class OpenPort:
    """A port on which something listens."""

    protocol: str
    address: str
    """``*`` or ``0.0.0.0`` for every address."""
    number: int
    program: str
    """Empty for the kernel, and where the program could not be seen."""


@dataclass(frozen=True, kw_only=True)
class DropChain:
    """A chain of the firewall that drops what no rule accepts."""

    table: str
    name: str
    hook: str
    """``input``, ``forward`` or ``output``."""


@dataclass(frozen=True, kw_only=True)
class FileSystem:
    """The file system below a path, in MiB."""

    mount: str
    size: int
    free: int
    is_writable: bool


@dataclass(frozen=True)
class HostFacts:
    """What a machine reports; a fact that its login could not see is missing."""

    rows: Mapping[str, Sequence[Sequence[str]]] = field(repr=False)
    """The kind of a fact to the parts of each such fact."""

    def parts(self, kind: str, count: int) -> tuple[str, ...]:
        """The parts of the only fact of a kind; empty texts for those that are missing."""
        first = next(iter(self.rows.get(kind, ())), ())
        return (*first, *[""] * count)[:count]

    def text(self, kind: str) -> str:
        """The only part of the only fact of a kind; empty where it is missing."""
        return self.parts(kind, 1)[0]

    def all(self, kind: str) -> tuple[str, ...]:
        """The first part of every fact of a kind."""
        return tuple(row[0] for row in self.rows.get(kind, ()))

    @property
    def memory(self) -> Mapping[str, int]:
        """``MemTotal`` and ``MemAvailable`` in MiB."""
        return {row[0]: int(row[1]) // 1024 for row in self.rows.get("memory", ())}

    @property
    def swap(self) -> Mapping[str, int]:
        """Each swap device or file, mapped to how much of it is used, in MiB."""
        return {row[0]: int(row[2]) // 1024 for row in self.rows.get("swap", ())}

    @property
    def spaces(self) -> Mapping[str, FileSystem]:
        """Each path that was asked for, mapped to its file system."""
        return {
            path: FileSystem(
                mount=mount,
                size=int(size) // 1024,
                free=int(free) // 1024,
                is_writable=writable == "yes",
            )
            for path, mount, size, free, writable in self.rows.get("disk", ())
        }

    @property
    def interfaces(self) -> Mapping[IPv4Address, tuple[str, int]]:
        """Each address of the machine, mapped to its interface and the interface's MTU."""
        return {
            IPv4Interface(address).ip: (interface, int(mtu or 0))
            for interface, address, mtu in self.rows.get("address", ())
        }

    @property
    def open_ports(self) -> tuple[OpenPort, ...]:
        """Every port on which something listens."""
        return tuple(
            OpenPort(
                protocol=protocol,
                address=socket[1],
                number=int(socket[2]),
                program=program[1] if (program := _PROGRAM.search(" ".join(process))) else "",
            )
            for protocol, text, *process in self.rows.get("listener", ())
            if (socket := _LISTENER.fullmatch(text))
        )

    @property
    def drop_chains(self) -> tuple[DropChain, ...]:
        """The chains of the firewall that drop what no rule accepts."""
        return tuple(
            DropChain(table=table, name=name, hook=hook)
            for table, name, hook in self.rows.get("chain", ())
        )

    def accepted(self, table: str) -> tuple[str, ...]:
        """The rules by which a table with such a chain accepts packets."""
        return tuple(row[1] for row in self.rows.get("accepts", ()) if row[0] == table)


def read(answer: str) -> HostFacts:
    """Parse the facts that the script prints."""
    rows = defaultdict(list)
    for line in answer.splitlines():
        kind, *parts = line.split("\t")
        if parts:
            rows[kind].append(parts)
    return HostFacts(dict(rows))


@dataclass(frozen=True, kw_only=True)
class ObservedHost:
    """A machine with what it reports, and with the spec that it has to fit."""

    name: str
    spec: Cluster
    facts: HostFacts
    clock: Clock
    is_ours: bool = False
    """Whether the machine already belongs to this very cluster."""

    @property
    def address(self) -> IPv4Address:
        return self.spec.machines[self.name].address


def question(spec: Cluster, name: str, access: Access) -> str:
    """The standard input of the script for a machine.

    The machine is asked to reach the others in ``access``, at their SSH ports and at the ports
    that its components need.
    """
    lines = [f"path\t{path}" for path in TRACES]
    lines += [f"pem\t{path}" for path in AUTHORITIES]
    lines += [f"package\t{package}" for package in needs.packages(spec, name)]
    lines += [f"unit\t{unit}" for unit in needs.taken_over(spec, name)]
    lines += [f"module\t{module}" for module in (modules(spec) if name in spec.nodes else ())]
    lines += [f"disk\t{path}" for path in data_paths(spec, name)]
    for machine, server in access.machines.items():
        if machine == name:
            continue
        numbers = [port.number for port in needs.ports(spec, machine) if port.is_reached_by_tcp]
        for number in (server.port, *numbers):
            lines.append(f"reach\t{machine}\t{spec.machines[machine].address}\t{number}")
    return "".join(f"{line}\n" for line in lines)


def data_paths(spec: Cluster, name: str) -> tuple[str, ...]:
    """The paths on a machine below which the cluster's programs and data will be."""
    node = (*("/opt", "/var/lib/containerd", "/var/lib/kubelet"),) if name in spec.nodes else ()
    member = (layout.ETCD_DATA,) if name in spec.etcd_members else ()
    return (layout.UNITS, layout.STATE, *member, *node)


async def observed_hosts(
    spec: Cluster, access: Access, authorities: Iterable[str] = ()
) -> dict[str, ObservedHost | Unreachable]:
    """Each machine in ``access`` as it is, or why it cannot be observed; all at the same time.

    A machine that does not take the stack's key, as before its first update, is asked with the
    person's own keys; so is a machine behind a jump host, which may not take that key either.
    ``authorities`` are the sha256 digests of the certificates of this cluster's authorities; a
    machine with such a certificate belongs to this cluster.
    """
    known = frozenset(authorities)
    async with EitherKey.of(access) as keys:

        async def look_at(name: str) -> ObservedHost | Unreachable:
            given = question(spec, name, access)
            try:
                facts, clock = await keys.on(name, lambda there: _looked(there, name, given))
            except Unreachable as error:
                return error
            there = {row[1] for row in facts.rows.get("pem", ())}
            return ObservedHost(
                name=name, spec=spec, facts=facts, clock=clock, is_ours=bool(there & known)
            )

        names = tuple(access.machines)
        return dict(zip(names, await asyncio.gather(*map(look_at, names)), strict=True))


async def _looked(machines: Machines, name: str, given: str) -> tuple[HostFacts, Clock]:
    """A machine's facts and clock. Raises Unreachable."""
    before = now()
    done = await machines.run(name, script("host"), timeout=SECONDS, input=given, root=False)
    after = now()
    if done.status != 0 or not done.stdout.endswith(f"{ALL}\n"):
        raise Unreachable(f"{name} does not say what it is like ({done.reason})")
    facts = read(done.stdout)
    date, uptime = facts.parts("clock", 2)
    there = Moment(date=float(date), uptime=float(uptime))
    return facts, compared([Reading(before=before, there=there, after=after)])
