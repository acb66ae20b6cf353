"""Machines on a bridge of the network that their libvirt's host is in, and who is there already."""

import json
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from components import specification
from hypervisors.adapters import ADAPTERS, Adapter
from hypervisors.libvirt import bridge, neighbours
from hypervisors.libvirt.bridge import BridgeError, refuse_bridge
from hypervisors.libvirt.resources import DOMAIN, NETWORK, RESOURCE_TYPES, SEED
from hypervisors.libvirt.transport import python_on_host
from hypervisors.libvirt.upkeep import LibvirtUpkeep
from lab import namespace
from lab.paths import PROJECT
from spec.cluster import parse
from spec.hypervisor import Libvirt
from spec.kept import kept, read
from tests.engine.stack import EngineStack, empty_stack, eventually, stack
from tests.hypervisors.apart import RoutedHost, apart
from tests.hypervisors.test_apart import PROGRAM, at_the_router, give_base_image
from tests.hypervisors.test_mixed import declared, named

__all__ = ["empty_stack", "stack"]

LAN = IPv4Network("192.168.1.0/24")
BRIDGE, PORT = "br0", "port0"
NEIGHBOUR = f"hardway-n{os.getpid() % 10**6}"
"""The namespace of somebody else on the bridge."""
TAKEN, OWN = "192.168.1.77", "192.168.1.254"
"""The addresses that somebody else has, and the host itself."""
HERE = {"PYTHONPATH": str(PROJECT)}
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

VALUE: dict[str, Any] = {
    "hypervisor": {"uri": "qemu:///system", "image": "base"},
    "networks": {"machines": str(LAN), "bridge": BRIDGE, "gateway": OWN},
    "machines": {"master": {"address": "192.168.1.1", "roles": "ai"}},
}


def test_a_bridge_is_used_and_no_network_is_made() -> None:
    every = declared(VALUE)
    assert not named(every, NETWORK)
    (domain,) = named(every, DOMAIN).values()
    (interface,) = domain.inputs["networkInterfaces"]
    assert interface["bridge"] == BRIDGE
    assert "networkId" not in interface
    (seed,) = named(every, SEED).values()
    primary = yaml.safe_load(seed.inputs["networkConfig"])["ethernets"]["primary"]
    assert primary["addresses"] == ["192.168.1.1/24"]
    assert [route["via"] for route in primary["routes"]] == [OWN]


class Asked(LibvirtUpkeep):
    """An upkeep of which only the questions about the bridge are seen."""

    questions: list[tuple[str, set[str]]]

    def refuse_taken(self, domains: Any) -> None: ...

    def shut_down(self, sizes: Any, say: Any) -> None: ...

    def grow(self, sizes: Any) -> None: ...

    def refuse_bridge(self, bridge: str, addresses: Any) -> None:
        self.questions.append((bridge, set(map(str, addresses))))


def test_only_new_addresses_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asked, "questions", [], raising=False)
    monkeypatch.setitem(ADAPTERS, "libvirt", Adapter(RESOURCE_TYPES, Asked))
    provider = specification.SpecificationProvider()
    endpoint = {"kind": "virtual-ip", "address": "192.168.1.9"}
    first = kept(parse({**VALUE, "endpoint": endpoint}, name="dev"))
    known = read(first)
    assert known is not None
    assert known.networks.bridge == BRIDGE, "the state keeps it, for the next update"
    provider.create(first)
    assert Asked.questions == [(BRIDGE, {"192.168.1.1", "192.168.1.9"})]
    provider.update("1", first, {**first})
    assert len(Asked.questions) == 1, "the machines of the stack have these addresses"
    moved = {
        **VALUE,
        "endpoint": endpoint,
        "machines": {
            **VALUE["machines"],
            "renamed": {"address": "192.168.1.12"},
            "new": {"address": "192.168.1.13"},
        },
    }
    before = {
        **moved,
        "machines": {**VALUE["machines"], "before": {"address": "192.168.1.12"}},
    }
    old, new = (kept(parse(value, name="dev")) for value in (before, moved))
    provider.update("1", old, new)
    assert Asked.questions[1:] == [(BRIDGE, {"192.168.1.13"})]
    plain = {"networks": {"machines": str(LAN)}, "machines": {"m": {"address": "192.168.1.10"}}}
    provider.create(kept(parse(plain, name="dev")))
    assert len(Asked.questions) == 2


def test_the_host_of_a_libvirt_is_asked_by_its_own_login() -> None:
    uri = "qemu+ssh://admin@hv2:2222/system?keyfile=/k&knownhosts=/h"
    command = python_on_host(uri, "-c", "print('a b')", BRIDGE)
    assert command[-4:-1] == ["-p", "2222", "admin@hv2"]
    assert {"IdentityFile=/k", "UserKnownHostsFile=/h", "StrictHostKeyChecking=yes"} <= {*command}
    shell = subprocess.run(
        ["sh", "-c", f"set -- {command[-1]}; printf '%s\\n' \"$@\""],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shell.stdout.splitlines() == ["python3", "-c", "print('a b')", BRIDGE]


def ip(*arguments: str, inside: str) -> str:
    done = subprocess.run(
        ["ip", "-n", inside, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoutedHost]:
    """A host with a libvirt, a bridge, and somebody else on it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with apart(IPv4Network("10.98.0.0/24")) as (made,), at_the_router():
        give_base_image(made, tmp_path_factory.mktemp("base") / "base")
        own = made.paths.namespace
        subprocess.run(["ip", "netns", "add", NEIGHBOUR], check=True)
        try:
            ip("link", "add", BRIDGE, "type", "bridge", inside=own)
            ip("link", "add", PORT, "type", "veth", "peer", "lan0", "netns", NEIGHBOUR, inside=own)
            ip("link", "set", PORT, "master", BRIDGE, "up", inside=own)
            ip("link", "set", BRIDGE, "up", inside=own)
            ip("address", "add", f"{TAKEN}/24", "dev", "lan0", inside=NEIGHBOUR)
            ip("link", "set", "lan0", "up", inside=NEIGHBOUR)
            yield made
        finally:
            subprocess.run(["ip", "netns", "delete", NEIGHBOUR], check=True)


def asked(
    host: RoutedHost, *addresses: str, of: str = BRIDGE, user: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What the program that looks says on the host itself."""
    program = Path(neighbours.__file__).read_text()
    inside = ["nsenter", f"--net={namespace.namespace_path(host.paths)}", *user]
    answer = subprocess.check_output([*inside, "python3", "-c", program, of, *addresses])
    value: dict[str, Any] = json.loads(answer)
    return value


@pytest.mark.engine
@pytest.mark.machine
@pytest.mark.timeout(1800)
class TestOnARealBridge:
    """A private libvirt in a namespace with a bridge, and programs that reach it by SSH."""

    def describe(
        self, stack: EngineStack, host: RoutedHost, *, on: str = BRIDGE, **machines: str
    ) -> None:
        where = {
            "uri": host.uri,
            "pool": host.libvirt.pool,
            "image": "base",
            "image_format": "raw",
        }
        value = {
            "hypervisor": where,
            "networks": {"machines": str(LAN), "bridge": on, "gateway": OWN},
            "machines": {
                name: {"address": address, "roles": "ai" if name == "master" else "i"}
                for name, address in machines.items()
            },
        }
        (stack.directory / "cluster.json").write_text(json.dumps(value))

    def test_machines_are_on_it_and_leave_it_as_it_was(
        self, stack: EngineStack, host: RoutedHost
    ) -> None:
        stack.write(PROGRAM)
        networks = host.names("net-list", "--all")
        for bridge_name, address, phrase in (
            ("br9", "192.168.1.10", "has no such interface"),
            (PORT, "192.168.1.10", "which is no bridge of Linux"),
            (BRIDGE, TAKEN, f"{TAKEN} answers on {BRIDGE} already"),
        ):
            self.describe(stack, host, on=bridge_name, master=address)
            assert phrase in stack.up(environment=HERE, fails=True).text
            assert host.names("list", "--all") == set()
            assert "dev-master" not in host.virsh("vol-list", host.libvirt.pool)

        self.describe(stack, host, master="192.168.1.10")
        stack.up(environment=HERE)
        assert host.names("list") == {"dev-master"}
        tree = ElementTree.fromstring(host.virsh("dumpxml", "dev-master"))
        (interface,) = tree.findall("devices/interface")
        source = interface.find("source")
        assert source is not None
        assert (interface.get("type"), source.get("bridge")) == ("bridge", BRIDGE)
        ports = json.loads(
            ip("-json", "link", "show", "master", BRIDGE, inside=host.paths.namespace)
        )
        assert len({port["ifname"] for port in ports} - {PORT}) == 1
        assert host.names("net-list", "--all") == networks
        stack.preview("--refresh", "--expect-no-changes", environment=HERE)

        # The machine's own address answers by now, as it does once its system runs.
        ip("address", "add", "192.168.1.10/24", "dev", "lan0", inside=NEIGHBOUR)
        self.describe(stack, host, master="192.168.1.10", minion=TAKEN)
        assert f"{TAKEN} answers" in stack.up(environment=HERE, fails=True).text
        assert host.names("list", "--all") == {"dev-master"}
        self.describe(stack, host, master="192.168.1.10", minion="192.168.1.11")
        stack.up(environment=HERE)
        assert host.names("list") == {"dev-master", "dev-minion"}
        stack.preview("--expect-no-changes", environment=HERE)

        stack.write("")
        stack.up(environment=HERE)
        assert host.names("list", "--all") == set()
        assert host.names("net-list", "--all") == networks

        def left() -> list[str]:
            listed = ip("-json", "link", "show", "master", BRIDGE, inside=host.paths.namespace)
            return [port["ifname"] for port in json.loads(listed)]

        eventually("the bridge has its own port alone", lambda: left() == [PORT])
        ip("address", "delete", "192.168.1.10/24", "dev", "lan0", inside=NEIGHBOUR)

    def test_somebody_is_seen_without_an_address_of_the_host_and_without_rights(
        self, host: RoutedHost
    ) -> None:
        free, own = "192.168.1.78", host.paths.namespace
        by_arp = asked(host, TAKEN, free)
        assert (by_arp["kind"], by_arp["up"], by_arp["looked"]) == ("bridge", True, True)
        assert by_arp["taken"].keys() == {TAKEN}
        assert not asked(host, TAKEN, user=(*NOBODY,))["looked"], "it has no way to look"
        ip("address", "add", f"{OWN}/24", "dev", BRIDGE, inside=own)
        try:
            by_kernel = asked(host, TAKEN, free, OWN, user=(*NOBODY,))
            assert by_kernel["looked"]
            assert by_kernel["taken"] == {**by_arp["taken"], OWN: "this host"}
        finally:
            ip("address", "delete", f"{OWN}/24", "dev", BRIDGE, inside=own)

    def test_a_bridge_that_is_down_and_a_host_that_says_nothing_are_refused(
        self, host: RoutedHost
    ) -> None:
        where = Libvirt(uri=host.uri, pool=host.libvirt.pool, image="base")
        wanted = [IPv4Address("192.168.1.10")]
        refuse_bridge(where, BRIDGE, wanted)
        ip("link", "set", BRIDGE, "down", inside=host.paths.namespace)
        try:
            with pytest.raises(BridgeError, match="is down on the host"):
                refuse_bridge(where, BRIDGE, wanted)
        finally:
            ip("link", "set", BRIDGE, "up", inside=host.paths.namespace)
        stranger = where.model_copy(
            update={"uri": host.uri.replace(f"@{host.address}", "@127.0.0.9")}
        )
        with pytest.raises(BridgeError, match=r"cannot be asked about the bridge br0 \(.+\); it"):
            refuse_bridge(stranger, BRIDGE, wanted)


def test_a_host_whose_answer_is_awaited_in_vain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Libvirt(uri="qemu:///system", image="base")
    monkeypatch.setattr(bridge, "PATIENCE", 0.2)
    monkeypatch.setattr(bridge, "QUESTION", "import time; time.sleep(60)")
    with pytest.raises(BridgeError, match="gives no answer about the bridge br0 within"):
        refuse_bridge(where, BRIDGE, [])
