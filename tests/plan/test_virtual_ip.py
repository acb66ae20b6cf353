"""The virtual IP and the minions' balancers: who stands behind them, on every machine."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.authority import new_authority
from certs.table import Authority
from plan import apiserver, balancer, layout, library, virtual_ip
from plan.model import File
from plan.program import program
from spec.cluster import Cluster, VirtualIp
from tests.certs.clusters import APART, BALANCED, SINGLE, cluster
from tests.plan.container import Container
from tests.plan.golden import NAMES, golden_plan, golden_spec

LONELY = cluster(
    {"c1": ("192.168.1.31", "a"), "m1": ("192.168.1.41", "i")},
    endpoint={"kind": "virtual-ip", "address": "192.168.1.100"},
)
CLUSTERS = [APART, BALANCED, SINGLE, LONELY, *map(golden_spec, NAMES)]
EVERY = pytest.mark.parametrize("spec", CLUSTERS, ids=lambda spec: f"{spec.name}")
MOVING = pytest.mark.parametrize(
    "spec", [spec for spec in CLUSTERS if isinstance(spec.endpoint, VirtualIp)]
)


def _configuration(spec: Cluster, node: str) -> str:
    files = virtual_ip.files(spec, node)
    return next(file.content for file in files if file.path == virtual_ip.CONFIG)


def _word(text: str, word: str) -> str:
    values = re.findall(rf"^\s*{word} (.+)$", text, re.MULTILINE)
    assert len(values) == 1, f"{word}: {values}"
    return str(values[0])


def _block(text: str, word: str) -> list[str]:
    block = re.search(rf"^( *){word} \{{\n(.*?)^\1\}}$", text, re.MULTILINE | re.DOTALL)
    return block[2].split() if block else []


@MOVING
def test_control_planes_agree_on_the_address_and_on_who_is_next(spec: Cluster) -> None:
    texts = {node: _configuration(spec, node) for node in spec.control_planes}
    assert len({_word(text, "virtual_router_id") for text in texts.values()}) == 1
    assert 1 <= int(_word(texts[spec.control_planes[0]], "virtual_router_id")) <= 255
    priorities = [int(_word(text, "priority")) for text in texts.values()]
    assert len(set(priorities)) == len(priorities)
    assert all(1 <= priority <= 254 for priority in priorities)
    for node, text in texts.items():
        assert isinstance(spec.endpoint, VirtualIp)
        assert f"{spec.endpoint.address}/32" in _block(text, "virtual_ipaddress")
        if len(texts) == 1:
            assert "unicast" not in text
            continue
        own = _word(text, "unicast_src_ip")
        assert own == str(spec.machines[node].address)
        others = {_word(peer, "unicast_src_ip") for peer in texts.values()} - {own}
        assert set(_block(text, "unicast_peer")) == others


@MOVING
def test_the_address_is_only_where_the_api_server_is_ready(spec: Cluster) -> None:
    for node in spec.control_planes:
        text = _configuration(spec, node)
        asked, _, without = _word(text, "script").strip('"').partition("?")
        assert asked.endswith("https://127.0.0.1:6443/readyz")
        assert without == "exclude=etcd&exclude=etcd-readiness", "etcd is slow for all or for none"
        assert _block(text, "track_script") == ["api"]
        assert "init_fail" in _block(text, "vrrp_script api")
        limit = int(_word(text, "timeout"))
        limit_of_curl = re.search(r"--max-time (\d+)", text)
        assert limit_of_curl
        assert int(limit_of_curl[1]) < limit, "curl must end before keepalived ends it"


def _delay(spec: Cluster) -> float:
    unit = apiserver.unit(spec, spec.control_planes[0])
    return float(unit.flags["shutdown-delay-duration"].removesuffix("s"))


(STEADY,) = map(int, re.findall(r"^steady=(\d+)$", library.script("turn"), re.MULTILINE))
"""Seconds for which the others have been well when an API server is restarted."""


@MOVING
def test_the_address_has_left_when_an_api_server_that_ends_refuses(spec: Cluster) -> None:
    """It is asked right before the end begins, and says no at each of the next questions."""
    text = _configuration(spec, spec.control_planes[0])
    interval, fall, rise = (int(_word(text, word)) for word in ("interval", "fall", "rise"))
    if len(spec.control_planes) > 1:
        assert interval * fall < _delay(spec)
    assert interval * rise < STEADY, "another machine may have the address before this one ends"


def test_the_balancer_knows_who_is_ready_before_another_one_ends() -> None:
    """haproxy's Configuration Manual, 5.2: inter while it is up, downinter while it is down."""
    (file,) = balancer.parts(APART, "m1")[1]
    inter, down = (
        int(_found(rf"default-server .*\b{word} (\d+)s", file)) for word in ("inter", "downinter")
    )
    rise = int(_found(r"default-server .*\brise (\d+)", file))
    assert inter < _delay(APART)
    assert down * rise < STEADY


def _found(pattern: str, file: File) -> str:
    (value,) = re.findall(pattern, file.content)
    return str(value)


@MOVING
def test_nothing_secret_is_in_a_configuration_that_would_send_it_in_the_clear(
    spec: Cluster,
) -> None:
    for node in spec.control_planes:
        assert "auth" not in _configuration(spec, node)


@pytest.mark.parametrize("name", NAMES)
def test_keepalived_runs_on_control_planes_with_a_virtual_ip_only(name: str) -> None:
    spec = golden_spec(name)
    for node, plan in golden_plan(name).nodes.items():
        runs = any(unit.name == virtual_ip.UNIT for unit in plan.units)
        wanted = isinstance(spec.endpoint, VirtualIp) and node in spec.control_planes
        assert runs is wanted


def test_two_clusters_beside_each_other_do_not_mix() -> None:
    ids = {
        virtual_ip.router_id(VirtualIp(kind="virtual-ip", address=f"192.168.1.{last}"))  # type: ignore[arg-type]
        for last in range(1, 255)
    }
    assert len(ids) == 254


@EVERY
def test_a_balancer_is_where_components_ask_it_and_knows_all_control_planes(
    spec: Cluster,
) -> None:
    for node in spec.machines:
        packages, files, units = balancer.parts(spec, node)
        url = layout.local_api_url(spec, node)
        asked = url == "https://127.0.0.1:7443"
        assert bool(packages) is bool(files) is bool(units) is asked
        if asked:
            (file,) = files
            assert _word(file.content, "bind") == url.removeprefix("https://")
            servers = re.findall(r"^\s+server \S+ (\S+)$", file.content, re.MULTILINE)
            assert servers == [f"{spec.machines[n].address}:6443" for n in spec.control_planes]
            assert units[0].needs == (file.path, layout.AUTHORITY)


def test_the_interface_of_an_address_is_found_and_one_of_none_is_told(tmp_path: Path) -> None:
    environment = tmp_path / "interface"
    text = program("interface-of").content

    def ask(address: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", text, "-", address, str(environment)]
        return subprocess.run(command, capture_output=True, text=True)

    assert ask("127.0.0.1").returncode == 0
    assert environment.read_text() == "$INTERFACE=lo\n"
    environment.unlink()
    done = ask("203.0.113.1")
    assert done.returncode != 0
    assert "203.0.113.1" in done.stderr
    assert not environment.exists()


# -- the programs of the base image ----------------------------------------------------------------


@pytest.mark.container
def test_haproxy_takes_its_configuration(machine: Container) -> None:
    (file,) = balancer.parts(APART, "m1")[1]
    machine.write("/tmp/haproxy", file.content)
    authority = new_authority(Authority.KUBERNETES, datetime.now(UTC)).certificate
    machine.write(layout.AUTHORITY, authority)
    assert "WARNING" not in machine.call("/usr/sbin/haproxy", "-c", "-f", "/tmp/haproxy")


@pytest.mark.container
@pytest.mark.parametrize("spec", [APART, LONELY])
def test_keepalived_takes_its_configuration(machine: Container, spec: Cluster) -> None:
    machine.call("sh", "-c", "ip link show vrrp0 || ip link add vrrp0 type bridge")
    machine.write("/tmp/interface", "$INTERFACE=vrrp0\n")
    text = _configuration(spec, "c1").replace("/run/virtual-ip/interface", "/tmp/interface")
    machine.write("/tmp/keepalived", text)
    machine.call(
        *("/usr/sbin/keepalived", "--config-test", "--log-console", "--use-file=/tmp/keepalived")
    )
