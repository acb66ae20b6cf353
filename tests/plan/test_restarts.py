"""Members and API servers under calls, real ones, three of each: they restart as their units say.

A renewal of all their certificates restarts none of them.
"""

import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from cryptography import x509

from certs.bundle import Pair
from certs.kubeconfig import kubeconfig
from certs.table import Authority, held_by
from plan import apiserver, balancer, layout, library, virtual_ip
from spec.cluster import API_PORT
from tests.engine.stack import eventually
from tests.plan.container import Memory
from tests.plan.restarts import MACHINES, THREE, Planes, Writes, writing
from tests.plan.running import LocalMachine, stored_program

(STEADY,) = map(int, re.findall(r"^steady=(\d+)$", library.script("turn"), re.MULTILINE))


GAP = 3
"""Seconds in which nothing is confirmed, at most, and what a write takes anyway. Seen on two
processors: 0.1 to 0.5 at a load of 9 to 22, and 2.3 once at 36. Where nobody hands over it is the
election timeout, 5, at least; 10.2 was seen."""


def allowed(writes: Writes) -> float:
    """The longest gap, where writes that nothing disturbs show how slow this computer is."""
    began = time.monotonic()
    eventually("some are confirmed", lambda: sum(at > began for at, _ in list(writes.done)) > 100)
    return GAP + 2 * writes.gap(began, time.monotonic())


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planes]:
    with Planes(tmp_path_factory.mktemp("planes")).running() as running:
        yield running


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_who_leads_hands_over_before_it_stops_and_nobody_else_does(planes: Planes) -> None:
    leader = planes.leader()
    planes.members[leader].before_stop()
    successor = planes.leader()
    assert successor != leader
    follower = next(name for name in MACHINES if name not in (leader, successor))
    for name in (leader, follower):
        planes.members[name].before_stop()
        assert planes.leader() == successor


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_members_restart_without_a_gap_and_without_a_lost_write(planes: Planes) -> None:
    with writing(planes, MACHINES[:2]) as writes:
        limit = allowed(writes)
        for leads in (False, True, True):
            leader = planes.leader()
            name = next(member for member in MACHINES if (member == leader) is leads)
            began = time.monotonic()
            stopped = planes.members[name].stop()
            assert not stopped.killed
            assert planes.leader() != name
            planes.members[name].start()
            planes.await_member(name)
            assert writes.gap(began, time.monotonic()) <= limit, (name, writes.failed)
    assert {name for _, name in writes.done} <= planes.config_maps()


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_who_has_handed_over_may_be_killed(planes: Planes) -> None:
    """As where its limit passes: whoever still led then stopped all writes for ten seconds."""
    with writing(planes, MACHINES[:2]) as writes:
        limit = allowed(writes)
        name, began = planes.leader(), time.monotonic()
        planes.members[name].before_stop()
        planes.members[name].kill()
        # Longer than the others would have needed to notice its silence and to elect.
        time.sleep(12)
        assert writes.gap(began, time.monotonic()) <= limit, writes.failed
    assert {name for _, name in writes.done} <= planes.config_maps()
    planes.members[name].start()
    planes.await_member(name)


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_the_last_member_that_is_well_stops_all_the_same(planes: Planes) -> None:
    leader = planes.leader()
    others = [planes.members[name] for name in MACHINES if name != leader]
    for member in others:
        member.kill()
    assert not planes.members[leader].stop().killed
    for member in planes.members.values():
        member.start()
    for name in MACHINES:
        planes.await_member(name)


# -- API servers -----------------------------------------------------------------------------------


@dataclass
class CallResults:
    """What became of calls, each on a connection of its own."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def calling(planes: Planes, url: Callable[[], str], callers: int = 4) -> Iterator[CallResults]:
    """Callers that list objects, five times a second; ``url`` says call by call where."""
    calls, over = CallResults(), threading.Event()

    def call() -> None:
        tls = planes.tls()
        while not over.wait(0.2):
            try:
                answer = httpx.get(f"{url()}/api/v1/namespaces", verify=tls, timeout=120)
            except httpx.HTTPError as error:
                calls.failed.append(repr(error))
                continue
            if answer.status_code == 200:
                calls.answered += 1
            else:
                calls.failed.append(answer.text)

    with ThreadPoolExecutor(callers) as pool:
        futures = [pool.submit(call) for _ in range(callers)]
        try:
            yield calls
        finally:
            over.set()
    for future in futures:
        future.result()


@contextmanager
def balanced(planes: Planes, memory: Memory) -> Iterator[str]:
    """The URL of a minion's own balancer, the base image's with the plan's configuration."""
    machine = LocalMachine(planes.local, "d")
    machine.furnish()
    (file,), (unit,) = balancer.parts(THREE, "d")[1:]
    root = memory.path / "debian"
    port = str(planes.local.ports["d", 6443])
    text = machine.here(file.content).replace(str(layout.LOCAL_BALANCER_PORT), port)
    authority = f"{machine.root}{layout.AUTHORITY}"
    for path, content in ((file.path, text), (authority, Path(authority).read_text())):
        copy = root / path[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(content)
    command = [
        *memory.enter,
        "chroot",
        str(memory.folder / "debian"),
        unit.program,
        "-db",
        "-f",
        file.path,
    ]
    with machine.log.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
            return True
        return False

    try:
        eventually("the balancer listens", listens)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def restart_one_by_one(planes: Planes) -> None:
    """As turns have it: the next one once the others have been ready for some seconds."""
    for name in MACHINES:
        with watching(planes, name):
            stopped = planes.servers[name].stop()
        assert not stopped.killed
        planes.servers[name].start()
        planes.await_ready(name)
        time.sleep(STEADY)


@contextmanager
def watching(planes: Planes, name: str) -> Iterator[None]:
    """A client of Kubernetes' own that watches, as kubelets do."""
    pair = planes.local.keys.of_people()["super-admin"]
    file = planes.folder / "kubeconfig"
    file.write_text(
        kubeconfig(
            cluster_name="test",
            server=planes.url(name),
            authority_pem=planes.local.keys.signers[Authority.KUBERNETES].certificate,
            certificate_pem=pair.certificate,
            key_pem=pair.key,
            user="somebody",
        )
    )
    kubectl = [stored_program("kubectl", THREE.versions), "--kubeconfig", file]
    process = subprocess.Popen(
        [*map(str, kubectl), "get", "namespaces", "--watch"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"NAME")
        yield
    finally:
        process.kill()
        process.wait()


class Address:
    """Where new connections go by keepalived's rule: what it believes of each API server."""

    def __init__(self, planes: Planes) -> None:
        script = virtual_ip.configuration(THREE, MACHINES[0])["vrrp_script api"]
        assert isinstance(script, dict)
        self.interval, self.fall = (float(str(script[word])) for word in ("interval", "fall"))
        self._planes = planes
        self._failures = dict.fromkeys(MACHINES, 0)
        self._over = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[Callable[[], str]]:
        """The URL of one that is believed to be ready."""
        with self.asked():
            yield self._chosen

    @contextmanager
    def asked(self) -> Iterator[None]:
        """All are asked again and again."""
        with ThreadPoolExecutor(len(MACHINES)) as pool:
            asking = [pool.submit(self._ask, name) for name in MACHINES]
            try:
                yield
            finally:
                self._over.set()
        for future in asking:
            future.result()

    def _ask(self, name: str) -> None:
        tls = self._planes.tls()
        while not self._over.wait(self.interval):
            ready = False
            with suppress(httpx.HTTPError):
                url = f"{self._planes.url(name)}{apiserver.HEALTH}"
                ready = httpx.get(url, verify=tls, timeout=12).status_code == 200
            self._failures[name] = 0 if ready else self._failures[name] + 1

    def ready(self) -> list[str]:
        """Those that are believed to be ready, in any order."""
        ready = [name for name, failures in self._failures.items() if failures < self.fall]
        return random.sample(ready, len(ready))

    def _chosen(self) -> str:
        return self._planes.url(self.ready()[0])


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_no_call_fails_that_goes_by_readiness_while_api_servers_restart(planes: Planes) -> None:
    with Address(planes).kept() as url, calling(planes, url) as calls:
        restart_one_by_one(planes)
    assert calls.failed == []
    assert calls.answered > 100


@pytest.mark.container
@pytest.mark.timeout(1200)
def test_no_call_fails_behind_a_minions_balancer_while_api_servers_restart(
    planes: Planes, memory: Memory
) -> None:
    with balanced(planes, memory) as url, calling(planes, lambda: url) as calls:
        restart_one_by_one(planes)
    assert calls.failed == []
    assert calls.answered > 100


# -- a renewal of all certificates -----------------------------------------------------------------

SHOWN = {
    "apiserver": API_PORT,
    "etcd-server": layout.ETCD_CLIENT_PORT,
    "etcd-peer": layout.ETCD_PEER_PORT,
}
"""Certificate to the port at which it is shown."""
CALLERS = "/etc/etcd/pki/callers.crt"
"""Whom a member lets in that asks for certificates which it knows, and not for their authority."""


@dataclass
class Attempts:
    """What became of calls that are made once more, through another API server, if they fail."""

    answered: int = 0
    refused: list[str] = field(default_factory=list)
    """Why attempts were of no use."""
    failed: list[str] = field(default_factory=list)
    """Why the last attempts of calls were of none."""

    def go_on(self, more: int = 20) -> None:
        """Wait until so many more are answered."""
        enough = self.answered + more
        eventually("calls go on", lambda: self.answered >= enough)


def refused(server: str, tls: ssl.SSLContext, name: str) -> str:
    """Why an API server makes no object of this name, on a new connection; nothing if it does."""
    url = f"{server}/api/v1/namespaces/default/configmaps"
    try:
        answer = httpx.post(url, json={"metadata": {"name": name}}, verify=tls, timeout=30)
    except httpx.HTTPError as error:
        return repr(error)
    # An attempt before this one may have made it.
    return "" if answer.status_code in (201, 409) else answer.text


@contextmanager
def trying(planes: Planes) -> Iterator[Attempts]:
    """Somebody who makes objects ten times a second, each on a connection of its own."""
    attempts, over, tls = Attempts(), threading.Event(), planes.tls()
    address = Address(planes)

    def call() -> None:
        while not over.wait(0.1):
            name = f"renewed-{uuid4()}"
            why = "no API server is ready"
            for server in address.ready()[:2]:
                if not (why := refused(planes.url(server), tls, name)):
                    break
                attempts.refused.append(why)
            if why:
                attempts.failed.append(why)
            else:
                attempts.answered += 1

    with address.asked(), ThreadPoolExecutor(1) as pool:
        caller = pool.submit(call)
        try:
            yield attempts
        finally:
            over.set()
    caller.result()


def serial(certificate: str) -> int:
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def context(planes: Planes, name: str, pair: Pair) -> ssl.SSLContext:
    """Of somebody who shows a pair and trusts a machine's two authorities."""
    root = planes.machines[name].root
    made = ssl.create_default_context(cafile=f"{root}{layout.AUTHORITY}")
    made.load_verify_locations(f"{root}{layout.MEMBER_AUTHORITY}")
    file = planes.folder / f"{serial(pair.certificate)}.pem"
    file.write_text(pair.certificate + pair.key)
    made.load_cert_chain(file)
    return made


def shown(planes: Planes, name: str, port: int, pair: Pair) -> int | None:
    """The serial number of the certificate with which a server answers; none where it does not."""
    try:
        with socket.create_connection(("127.0.0.1", planes.local.ports[name, port])) as plain:
            plain.settimeout(20)
            with context(planes, name, pair).wrap_socket(
                plain, server_hostname="localhost"
            ) as secured:
                der = secured.getpeercert(binary_form=True)
                return x509.load_der_x509_certificate(der).serial_number if der else None
    except OSError:
        return None


def admits(planes: Planes, name: str, pair: Pair) -> bool:
    """Whether a member answers who shows this pair."""
    url = f"{planes.url(name, layout.ETCD_CLIENT_PORT)}/readyz"
    with suppress(httpx.HTTPError):
        answer = httpx.get(url, verify=context(planes, name, pair), timeout=20)
        return answer.status_code == 200
    return False


def process_ids(planes: Planes) -> dict[str, int]:
    """Of what runs."""
    services = [*planes.servers.values(), *planes.members.values()]
    return {
        f"{service.machine.node} {service.unit.name}": service.process.pid
        for service in services
        if service.process and service.process.poll() is None
    }


def bring(planes: Planes, pairs: dict[str, dict[str, Pair]]) -> None:
    """Bring each machine its certificates, on all machines at once as an update does."""

    def on(name: str) -> None:
        planes.machines[name].bring(lambda source: planes.local.keys.content(source, pairs[name]))

    with ThreadPoolExecutor(len(MACHINES)) as pool:
        for done in [pool.submit(on, name) for name in MACHINES]:
            done.result()


def await_shown(planes: Planes, name: str, certificate: str, pairs: Mapping[str, Pair]) -> None:
    """Until a machine shows a new certificate of its own."""
    port, wanted = SHOWN[certificate], serial(pairs[certificate].certificate)
    eventually(
        f"{name} shows its new {certificate}",
        lambda: shown(planes, name, port, pairs["etcd-peer"]) == wanted,
    )


def writes(planes: Planes, name: str) -> bool:
    """Whether an API server makes an object, which is in etcd then."""
    return not refused(planes.url(name), planes.tls(), f"written-{uuid4()}")


@contextmanager
def knowing(planes: Planes, known: list[Pair]) -> Iterator[None]:
    """Each member, one after the other, lets in only who shows one of these pairs."""
    units = {name: member.unit for name, member in planes.members.items()}

    def restart(name: str, trusted: str) -> None:
        member, unit = planes.members[name], units[name]
        member.unit = replace(unit, flags={**unit.flags, "trusted-ca-file": trusted})
        member.stop()
        member.start()
        planes.await_member(name)

    for name in MACHINES:
        file = planes.machines[name].root / CALLERS[1:]
        file.write_text("".join(pair.certificate for pair in known))
        restart(name, CALLERS)
    try:
        yield
    finally:
        for name in MACHINES:
            restart(name, layout.MEMBER_AUTHORITY)


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_all_certificates_of_three_control_planes_are_renewed_without_a_restart(
    planes: Planes,
) -> None:
    old, new = ({name: planes.local.keys.of(name) for name in MACHINES} for _ in range(2))
    before = process_ids(planes)
    assert len(before) == 6
    with trying(planes) as attempts:
        for pairs in (old, new):
            bring(planes, pairs)
            for name in MACHINES:
                for certificate in SHOWN:
                    await_shown(planes, name, certificate, pairs[name])
            attempts.go_on()
    counts = f"{attempts.answered} calls answered, {len(attempts.failed)} failed"
    load = f"at a load of {os.getloadavg()[0]:.0f}"
    print(f"{counts}, {len(attempts.refused)} attempts refused, {load}")
    assert attempts.failed == []
    assert process_ids(planes) == before

    # What was connected before stays so: who comes again is known by the new certificate.
    caller = "apiserver-etcd-client"
    assert all(admits(planes, name, old[name][caller]) for name in MACHINES)
    of_etcd = {row.name for row in held_by(THREE, MACHINES[0]) if row.issuer is Authority.ETCD}
    known = [pair for pairs in new.values() for name, pair in pairs.items() if name in of_etcd]
    with knowing(planes, known):
        for name in MACHINES:
            assert not admits(planes, name, old[name][caller])
            assert admits(planes, name, new[name][caller])
            planes.await_ready(name)
            eventually(f"{name} writes", partial(writes, planes, name))
    assert process_ids(planes).items() >= {
        (name, pid) for name, pid in before.items() if "apiserver" in name
    }
