"""Two computers in network namespaces, each with a libvirt and an sshd, and a router between them.

A host is a private libvirt of the lab's own kind. Its sshd runs in the same namespaces, so whoever
logs in sees that host's sockets and files only.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import quote

from lab import libvirt, namespace
from lab.connection import LibvirtConnection
from lab.paths import LabPaths
from lab.progress import PlainProgress
from tests.engine.sshd import PROGRAM, make_key
from tests.engine.stack import eventually

ROUTER = f"hardway-r{os.getpid() % 10**6}"
"""The namespace that leads from each host to the other, and in which programs run."""

SSHD = """\
ListenAddress {address}:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/client_key.pub
PidFile {directory}/sshd.pid
StrictModes no
UsePAM no
SetEnv SHLVL=1
PasswordAuthentication no
"""
"""SHLVL keeps it from ~/.bashrc, as in tests/engine/sshd.py."""


@dataclass
class RoutedHost:
    """A computer with a libvirt."""

    number: int
    directory: Path
    port: int
    paths: LabPaths
    libvirt: LibvirtConnection

    @property
    def address(self) -> str:
        return f"10.99.{self.number}.2"

    @property
    def key(self) -> Path:
        return self.directory / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def uri(self) -> str:
        """As the stack's file has it, for whoever is at the router."""
        key, known = (quote(str(path)) for path in (self.key, self.known_hosts))
        at = self.address if self.port == 22 else f"{self.address}:{self.port}"
        return f"qemu+ssh://root@{at}/system?keyfile={key}&knownhosts={known}"

    def virsh(self, *arguments: str) -> str:
        """Ask libvirt on the host itself."""
        return libvirt.virsh(self.libvirt, *arguments)

    def names(self, *arguments: str) -> set[str]:
        return set(self.virsh(*arguments, "--name").split())


def at_router(*command: str) -> list[str]:
    return ["nsenter", f"--net={namespace.NAMESPACES / ROUTER}", *command]


@contextmanager
def apart(*subnets: IPv4Network, ports: tuple[int, ...] = (22, 2222)) -> Iterator[list[RoutedHost]]:
    """A host for each subnet of machines, to which the router leads by the host."""
    # The hosts end before their folder does.
    with tempfile.TemporaryDirectory(prefix="apart-") as name, ExitStack() as until:
        until.callback(subprocess.run, ["ip", "netns", "delete", ROUTER], capture_output=True)
        _ip("netns", "add", ROUTER)
        _ip("-n", ROUTER, "link", "set", "lo", "up")
        _sysctl(ROUTER, "net.ipv4.ip_forward=1")
        hosts = []
        for number, (subnet, port) in enumerate(zip(subnets, ports, strict=False), 1):
            hosts.append(until.enter_context(_host(number, Path(name, str(number)), subnet, port)))
        yield hosts


@contextmanager
def _host(number: int, directory: Path, subnet: IPv4Network, port: int) -> Iterator[RoutedHost]:
    directory.mkdir()
    lab = f"h{number}-{os.getpid() % 10**5}"
    paths = LabPaths(name=lab, state=directory / "state", run=Path("/run/hardway", lab))
    paths.state.mkdir()
    paths.logs.mkdir()
    try:
        host = RoutedHost(number, directory, port, paths, libvirt.start(paths, PlainProgress()))
        _cable(host, subnet)
        with _sshd(host):
            yield host
    finally:
        libvirt.stop(paths, PlainProgress())
        shutil.rmtree(paths.run, ignore_errors=True)


def _cable(host: RoutedHost, subnet: IPv4Network) -> None:
    """A cable between the host and the router, and the routes by it."""
    device, own = f"cable{host.number}", host.paths.namespace
    _ip("-n", ROUTER, "link", "add", device, "type", "veth", "peer", "lan0", "netns", own)
    for at, name, address in (
        (ROUTER, device, f"10.99.{host.number}.1"),
        (own, "lan0", host.address),
    ):
        _ip("-n", at, "address", "add", f"{address}/24", "dev", name)
        _ip("-n", at, "link", "set", name, "up")
    _ip("-n", own, "route", "add", "default", "via", f"10.99.{host.number}.1")
    _ip("-n", ROUTER, "route", "add", str(subnet), "via", host.address)


@contextmanager
def _sshd(host: RoutedHost) -> Iterator[None]:
    for name in ("host_key", "client_key"):
        make_key(host.directory / name)
    at = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    host.known_hosts.write_text(f"{at} {(host.directory / 'host_key.pub').read_text()}")
    configuration = host.directory / "sshd_config"
    configuration.write_text(
        SSHD.format(address=host.address, port=host.port, directory=host.directory)
    )
    (daemon,) = (
        process.pid
        for process in namespace.processes(host.paths)
        if Path(process.command.split()[0]).name == "libvirtd"
    )
    inside = ["nsenter", f"--target={daemon}", "--net", "--mount"]
    subprocess.run([*inside, "mkdir", "-p", "/run/sshd"], check=True)
    log = (host.directory / "sshd.log").open("wb")
    server = subprocess.Popen([*inside, PROGRAM, "-D", "-e", "-f", str(configuration)], stderr=log)
    try:
        eventually("sshd listens", (host.directory / "sshd.pid").exists)
        yield
    finally:
        # nsenter has become sshd itself; sessions end with their clients.
        with suppress(ProcessLookupError):
            server.terminate()
        server.wait()
        log.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _sysctl(where: str, setting: str) -> None:
    subprocess.run(
        ["nsenter", f"--net={namespace.NAMESPACES / where}", "sysctl", "-qw", setting], check=True
    )
