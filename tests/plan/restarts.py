"""Three members and three API servers on the loopback interface that stop as their units say."""

import json
import os
import shlex
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx

from plan import apiserver, control_plane, etcd, layout
from plan.model import Unit
from spec.cluster import API_PORT
from tests.certs.clusters import cluster
from tests.engine.stack import eventually
from tests.plan.running import LocalCluster, LocalMachine, programs, run

THREE = cluster(
    {
        "a": ("192.168.1.51", "ea"),
        "b": ("192.168.1.52", "ea"),
        "c": ("192.168.1.53", "ea"),
        "d": ("192.168.1.54", "i"),
    },
    endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
)
MACHINES = THREE.control_planes


@dataclass
class Stopped:
    """How a service ended."""

    seconds: float
    killed: bool


class Service:
    """A unit's program with what systemd does when it stops."""

    def __init__(self, machine: LocalMachine, unit: Unit, path: Path) -> None:
        self.machine, self.unit, self.path = machine, unit, path
        self.log = machine.root / f"{unit.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def limit(self) -> float:
        return float(self.unit.service["TimeoutStopSec"])

    def start(self) -> None:
        """As systemd starts it, without waiting for anything."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.machine.command_line(self.unit),
                stdout=log,
                stderr=log,
                cwd=self.machine.root,
                env={**os.environ, **self.unit.environment},
            )

    def stop(self) -> Stopped:
        """As systemd stops it."""
        assert self.process is not None
        began, killed = time.monotonic(), False
        self.before_stop()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.limit)
        except subprocess.TimeoutExpired:
            killed = True
            self.process.kill()
            self.process.wait()
        return Stopped(time.monotonic() - began, killed)

    def before_stop(self) -> None:
        """What the unit does before its program gets a signal."""
        assert self.process is not None
        for line in self.unit.before_stop:
            program, *arguments = shlex.split(self.machine.here(line.removeprefix("-")))
            with self.log.open("ab") as log:
                subprocess.run(
                    [self.machine.programs / Path(program).name, *arguments],
                    stdout=log,
                    stderr=log,
                    check=True,
                    timeout=self.limit,
                    env={
                        **os.environ,
                        "PATH": f"{self.path}:{os.environ['PATH']}",
                        "MAINPID": str(self.process.pid),
                    },
                )

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


class Planes:
    """The whole, running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.local = LocalCluster(THREE, folder)
        self.machines = {name: LocalMachine(self.local, name) for name in MACHINES}
        self.path = programs(folder / "bin", THREE, ("etcdctl",))
        self.members: dict[str, Service] = {}
        self.servers: dict[str, Service] = {}
        for name, machine in self.machines.items():
            steps = etcd.step(THREE, name), control_plane.step(THREE, name)
            machine.furnish(*steps)
            self.members[name] = Service(machine, etcd.unit(THREE, name), self.path)
            self.servers[name] = Service(machine, apiserver.unit(THREE, name), self.path)

    @contextmanager
    def running(self) -> Iterator["Planes"]:
        try:
            for member in self.members.values():
                member.start()
            # With its users: who hands over must be one.
            done = run(self.machines["a"].script(etcd.step(THREE, "a"), self.path))
            assert done.returncode == 0, done.stderr
            for server in self.servers.values():
                server.start()
            for name in self.servers:
                self.await_ready(name)
            yield self
        finally:
            for program in (*self.servers.values(), *self.members.values()):
                program.kill()

    def url(self, name: str, port: int = API_PORT) -> str:
        return f"https://127.0.0.1:{self.local.ports[name, port]}"

    def tls(self) -> ssl.SSLContext:
        """A context for the connections of a single thread.

        httpx sets a context's protocols (ALPN) before each connection. Where another thread begins
        a connection with the same context at that moment, its ClientHello can be garbled, and the
        server answers with the alert "decode error" (httpcore 1.0.9, Python 3.11).
        """
        root = self.machines["a"].root
        context = ssl.create_default_context(cafile=f"{root}{layout.AUTHORITY}")
        context.load_cert_chain(self._admin)
        return context

    @cached_property
    def _admin(self) -> Path:
        pair = self.local.keys.of_people()["super-admin"]
        file = self.folder / "admin.pem"
        file.write_text(pair.certificate + pair.key)
        return file

    def ready(self, name: str) -> bool:
        """Whether the API server says so."""
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{self.url(name)}/readyz", verify=self.tls(), timeout=10)
            return answer.status_code == 200
        return False

    def await_ready(self, name: str) -> None:
        eventually(
            f"the API server {name} is ready",
            lambda: self.ready(name),
            reason=lambda: self.servers[name].log.read_text()[-2000:],
        )

    def await_member(self, name: str) -> None:
        eventually(
            f"the member {name} is well",
            lambda: "is healthy" in self.ctl(name, "endpoint", "health"),
        )

    def config_maps(self) -> set[str]:
        with httpx.Client(verify=self.tls(), timeout=30) as client:
            answer = client.get(f"{self.url('a')}/api/v1/namespaces/default/configmaps").json()
        return {item["metadata"]["name"] for item in answer["items"]}

    def ctl(self, name: str, *arguments: str) -> str:
        """What etcdctl says of a member, with a user that may do everything."""
        cert, key = self.machines[name].certificate("etcd-healthcheck-client")
        files = {
            "cacert": f"{self.machines[name].root}{layout.MEMBER_AUTHORITY}",
            "cert": cert,
            "key": key,
            "endpoints": self.url(name, layout.ETCD_CLIENT_PORT),
        }
        options = [f"--{option}={value}" for option, value in files.items()]
        done = subprocess.run(
            [self.path / "etcdctl", *options, *arguments], capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def leader(self) -> str:
        """The machine whose member leads, once there is one."""
        leaders: list[str] = []

        def leads(name: str) -> bool:
            output = self.ctl(name, "endpoint", "status", "--write-out=json")
            status = json.loads(output)[0]["Status"] if output.startswith("[{") else {}
            return bool(status) and status["leader"] == status["header"]["member_id"]

        def known() -> bool:
            leaders[:] = filter(leads, MACHINES)
            return bool(leaders)

        eventually("a member leads", known)
        return leaders[0]


@dataclass
class Writes:
    """What writers were told."""

    done: list[tuple[float, str]] = field(default_factory=list)
    """When something was confirmed, and its name."""
    failed: list[str] = field(default_factory=list)
    """What became of the others."""

    def gap(self, begin: float, end: float) -> float:
        """The longest time in which nothing was confirmed, in seconds."""
        times = [begin, *sorted(at for at, _ in self.done if begin <= at <= end), end]
        return max(later - earlier for earlier, later in pairwise(times))


@contextmanager
def writing(planes: Planes, servers: Sequence[str], writers_each: int = 3) -> Iterator[Writes]:
    """So many writers at each of these API servers, ten times a second at most."""
    writes, over = Writes(), threading.Event()

    def write(server: str) -> None:
        url = f"{planes.url(server)}/api/v1/namespaces/default/configmaps"
        with httpx.Client(verify=planes.tls(), timeout=10) as client:
            while not over.wait(0.1):
                name = f"written-{uuid4()}"
                try:
                    answer = client.post(url, json={"metadata": {"name": name}})
                except httpx.HTTPError as error:
                    writes.failed.append(repr(error))
                    continue
                if answer.status_code == 201:
                    writes.done.append((time.monotonic(), name))
                else:
                    writes.failed.append(answer.text)

    with ThreadPoolExecutor(len(servers) * writers_each) as pool:
        writers = [pool.submit(write, server) for server in servers for _ in range(writers_each)]
        try:
            yield writes
        finally:
            over.set()
    for writer in writers:
        writer.result()
