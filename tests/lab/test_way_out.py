"""Machines of a lab reach what the host reaches, and only that. The host is a namespace here."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import namespace, resolvers, way_out
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from tests.engine.stack import eventually
from tests.lab.host_network import ASK, BEYOND, HostNetwork, Running, ip, made, within

METADATA = "169.254.169.254"
"""Where clouds give a virtual machine its credentials."""

GATEWAY, MACHINE, QUIET = "192.168.77.1", "192.168.77.10", "192.168.78.10"

SERVER = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"answer")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 50
Server((sys.argv[1], 8000), Handler).serve_forever()
"""


class World:
    """A host that leads to a server, a lab on it, and machines in two networks of the lab."""

    def __init__(self, folder: Path) -> None:
        self.paths = LabPaths(name=f"w{os.getpid()}", state=folder / "state", run=folder / "run")
        self._network = HostNetwork(f"{self.paths.namespace}-h", folder)
        self.host, self.lab = self._network.name, self.paths.namespace
        self.machine, self.quiet = f"{self.lab}-m", f"{self.lab}-q"

    def make(self, during: ExitStack) -> None:
        self._network.make(during, {"beyond.test": "203.0.113.9"})
        ip(self.host, "address", "add", f"{METADATA}/32", "dev", "up0")
        for name in (self.machine, self.quiet):
            made(name, during)
        self.paths.run.mkdir()
        namespace.make(self.paths)
        during.callback(namespace.remove, self.paths)
        during.callback(way_out.stop, self.paths)
        for name, address in ((self.machine, MACHINE), (self.quiet, QUIET)):
            self._connect(name, address)
        forward = "echo 1 >/proc/sys/net/ipv4/ip_forward"
        subprocess.run(within(self.lab, "sh", "-c", forward), check=True)
        # As libvirt does for its networks.
        masquerade = ["POSTROUTING", "-s", "192.168.0.0/16", "!", "-d", "192.168.0.0/16"]
        rule = ["iptables", "-t", "nat", "-A", *masquerade, "-j", "MASQUERADE"]
        subprocess.run(within(self.lab, *rule), check=True)
        for address in (BEYOND, METADATA, "127.0.0.1"):
            self._serve(during, self.host, address)
        self._serve(during, self.lab, GATEWAY)

    def _connect(self, name: str, address: str) -> None:
        gateway = address.rpartition(".")[0] + ".1"
        device = f"to-{name[-1]}"
        ip(self.lab, "link", "add", device, "type", "veth", "peer", "name", "e0", "netns", name)
        ip(self.lab, "address", "add", f"{gateway}/24", "dev", device)
        ip(self.lab, "link", "set", device, "up")
        ip(name, "address", "add", f"{address}/24", "dev", "e0")
        ip(name, "link", "set", "e0", "up")
        ip(name, "route", "add", "default", "via", gateway)

    def _serve(self, during: ExitStack, name: str, address: str) -> None:
        during.enter_context(Running(within(name, sys.executable, "-c", SERVER, address)))
        eventually(f"{address} is served", lambda: fetched(name, address))

    def on_host(self, code: str) -> str:
        """Run a line of Python of this project as the host, with a name server of its own."""
        text = (
            "from ipaddress import IPv4Network\nfrom pathlib import Path\n"
            "from lab import way_out\nfrom lab.paths import LabPaths\n"
            f"paths = LabPaths(name={self.paths.name!r}, state=Path({str(self.paths.state)!r}), "
            f"run=Path({str(self.paths.run)!r}))\n{code}\n"
        )
        # Mounts are shared here, as a host shares those of /run/netns.
        mounted = f"mount -n --bind {self._network.resolv_conf} /etc/resolv.conf"
        mounted += "; mount -n --make-rshared /run/netns"
        done = subprocess.run(
            within(self.host, "unshare", "--mount", "sh", "-euc")
            + [f'{mounted}; exec "$@"', "sh", sys.executable, "-c", text],
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def fetched(name: str, address: str) -> bool:
    """Whether a namespace gets the server's answer at an address."""
    command = within(name, "curl", "--silent", "--max-time", "5", f"http://{address}:8000/")
    return subprocess.run(command, capture_output=True).stdout == b"answer"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as during:
        world = World(tmp_path)
        world.make(during)
        yield world


START = "way_out.start(paths)"


@pytest.mark.machine
def test_machines_reach_what_the_host_reaches_and_nothing_of_the_host_itself(world: World) -> None:
    assert not fetched(world.machine, BEYOND)
    world.on_host(START)
    assert fetched(world.machine, BEYOND)
    # slirp4netns' own address for the host's loopback address.
    assert not fetched(world.machine, str(way_out.RANGE[2]))
    assert fetched(world.host, METADATA)
    assert not fetched(world.machine, METADATA)
    # The name server is a stub on the host's loopback address.
    command = [sys.executable, "-c", ASK, str(way_out.NAME_SERVER), "beyond.test"]
    asked = subprocess.run(
        within(world.machine, *command), cwd=PROJECT, capture_output=True, text=True
    )
    assert asked.stdout == "203.0.113.9\n", asked.stderr


@pytest.mark.machine
def test_it_leaves_the_hosts_mounts(world: World) -> None:
    mounts = "sorted(line.split()[4] for line in open('/proc/self/mountinfo'))"
    assert world.on_host(
        f"before = {mounts}\n{START}\nprint(before == {mounts}, len(before) > 9)"
    ) == ("True True")


@pytest.mark.machine
def test_it_is_there_once_and_ends_with_everything_that_it_made(world: World) -> None:
    world.on_host(START)
    pid = way_out.find(world.paths)
    world.on_host(START)
    assert way_out.find(world.paths) == pid is not None
    way_out.stop(world.paths)
    assert way_out.find(world.paths) is None
    assert not fetched(world.machine, BEYOND)
    links = subprocess.run(
        ["ip", "-n", world.lab, "-json", "link"], capture_output=True, check=True
    ).stdout
    assert way_out.DEVICE not in {link["ifname"] for link in json.loads(links)}
    way_out.stop(world.paths)


@pytest.mark.machine
def test_it_comes_back_after_it_was_killed(world: World) -> None:
    world.on_host(START)
    pid = way_out.find(world.paths)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually("it is gone", lambda: way_out.find(world.paths) is None)
    world.on_host(START)
    assert fetched(world.machine, BEYOND)


@pytest.mark.machine
def test_a_network_that_stays_inside_reaches_only_the_namespace(world: World) -> None:
    world.on_host(START)
    assert fetched(world.quiet, BEYOND)
    stays = "way_out.keep_inside(paths, 'quiet', [IPv4Network('192.168.{}.0/24')], inside={})"
    for _ in range(2):
        world.on_host(stays.format(78, True))
        assert not fetched(world.quiet, BEYOND)
        command = [sys.executable, "-c", ASK, str(way_out.NAME_SERVER), "beyond.test"]
        asked = subprocess.run(within(world.quiet, *command), cwd=PROJECT, capture_output=True)
        assert asked.returncode != 0
    assert fetched(world.quiet, GATEWAY)
    assert fetched(world.machine, BEYOND)
    world.on_host(stays.format(78, False))
    assert fetched(world.quiet, BEYOND)
    # Its stack moves to another network, and goes.
    world.on_host(stays.format(78, True))
    world.on_host(stays.format(79, True))
    assert fetched(world.quiet, BEYOND)
    world.on_host(stays.format(78, True))
    assert not fetched(world.quiet, BEYOND)
    for _ in range(2):
        world.on_host("way_out.let_out(paths, 'quiet')")
        assert fetched(world.quiet, BEYOND)


@pytest.mark.machine
def test_one_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = LabPaths(name=f"s{os.getpid()}", state=tmp_path / "state", run=tmp_path / "run")
    monkeypatch.setattr(way_out, "END_WITHIN", 0.01)
    # A process that is never reaped stays, whatever signal it gets.
    command = ["sh", "-c", "exit", str(namespace.namespace_path(paths)), way_out.DEVICE]
    with subprocess.Popen(command) as child:
        monkeypatch.setattr(way_out, "find", lambda _: child.pid)
        with pytest.raises(Problem, match=rf"process {child.pid}\), does not end"):
            way_out.stop(paths)


@pytest.mark.machine
def test_a_host_without_a_way_out_gives_none(world: World) -> None:
    line = "print(way_out.is_wanted(paths, None), way_out.is_wanted(paths, False))"
    assert world.on_host(line) == "True False"
    ip(world.host, "route", "delete", "default")
    assert world.on_host(line) == "False False"
    with pytest.raises(AssertionError, match="this computer has no default route itself"):
        world.on_host("way_out.is_wanted(paths, True)")


@pytest.mark.machine
def test_a_lab_keeps_its_way_out_while_the_host_has_no_network(world: World) -> None:
    world.on_host(START)
    ip(world.host, "route", "delete", "default")
    line = "print(way_out.is_wanted(paths, None), way_out.is_wanted(paths, False))"
    assert world.on_host(line) == "True False"


@pytest.mark.parametrize(
    ("listed", "behind", "reachable"),
    [
        ("nameserver 192.0.2.53\nsearch test\nnameserver 192.0.2.54", "", "192.0.2.53 192.0.2.54"),
        ("nameserver 127.0.0.53\n", "nameserver 192.0.2.53", "192.0.2.53"),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.53", "", "192.0.2.53"),
        ("nameserver 127.0.0.1", "", ""),
        ("nameserver 2001:db8::53\n# nameserver 192.0.2.1\n", "", ""),
        ("nameserver\nnameserver nowhere", "", ""),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in (1, 2, 2, 3, 4)),
            "",
            "192.0.2.1 192.0.2.2 192.0.2.3",
        ),
    ],
)
def test_machines_ask_what_they_can_reach(
    tmp_path: Path, listed: str, behind: str, reachable: str
) -> None:
    (tmp_path / "list").write_text(listed)
    if behind:
        (tmp_path / "behind").write_text(behind)
    servers = resolvers.reachable(tmp_path / "list", tmp_path / "behind")
    assert " ".join(map(str, servers)) == reachable
