"""The kubelet, kube-proxy, flannel and the pods' interfaces, as the real programs see them."""

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from plan import balancer, cni, flannel, host, kubelet, layout, library, node, proxy, render
from plan.model import Link, Unit
from plan.unit import text
from spec.change import refused_changes
from spec.cluster import Cluster
from tests.plan.shell import StandIn, cluster, stand_in
from tests.plan.stored import stored

APART = {
    "e1": {"address": "192.168.1.21", "roles": "e"},
    "a1": {"address": "192.168.1.31", "roles": "a", "memory": 3072},
    "a2": {"address": "192.168.1.32", "roles": "a", "memory": 3072},
    "i1": {"address": "192.168.1.41", "roles": "i"},
}


ENDPOINT = {"kind": "virtual-ip", "address": "192.168.1.5"}

LIKE_NUMBERS = ("1e3", "5e12", "0o7")


def available(**more: Any) -> Cluster:
    """Two control planes that are no minions, and a minion with a balancer of its own."""
    return cluster(machines=APART, endpoint=ENDPOINT, **more)


SHAPES = {
    "default": cluster(),
    "available": available(),
    "flannel-api": cluster(flannel={"store": "kubernetes", "backend": "host-gw"}),
    "iptables": cluster(proxy_mode="iptables", kubernetes="1.37.1"),
}
every_node = pytest.mark.parametrize(
    ("spec", "name"),
    [(spec, name) for spec in SHAPES.values() for name in spec.nodes],
    ids=[f"{shape}-{name}" for shape, spec in SHAPES.items() for name in spec.nodes],
)


def _unit(spec: Cluster, name: str, of: str) -> Unit:
    return next(unit for unit in node.step(spec, name).units if unit.name == of)


# -- flags -----------------------------------------------------------------------------------------


@every_node
def test_each_service_starts_again_when_a_file_of_the_plan_changed(
    spec: Cluster, name: str
) -> None:
    step = node.step(spec, name)
    shared = {cni.RENDER.path} | {file.path for file in step.files if "hardway" in file.path}
    needed = {path for unit in step.units for path in unit.needs}
    assert {file.path for file in step.files} - needed <= shared


# -- kubelet ---------------------------------------------------------------------------------------


def _effective(config: str, folder: Path) -> tuple[dict[str, Any], str]:
    """What the kubelet makes of a configuration, and all that it says; it ends for lack of keys."""
    path = folder / "kubelet.yaml"
    path.write_text(config)
    done = subprocess.run(
        [str(stored("kubelet")), f"--config={path}", f"--kubeconfig={folder}/none"]
        + [f"--root-dir={folder}/root", f"--cert-dir={folder}/keys"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode != 0
    shown = done.stderr.split('"Effective KubeletConfiguration" config=<\n')[1].split("\n >")[0]
    return yaml.safe_load(re.sub(r"(?m)^\t", "", shown)), done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kubelet_takes_every_setting_as_it_was_meant(shape: str, tmp_path: Path) -> None:
    spec = SHAPES[shape]
    name = spec.nodes[0]
    effective, output = _effective(kubelet.files(spec, name)[0].content, tmp_path)
    assert "strict decoding" not in output
    for key, value in kubelet.configuration(spec, name).items():
        if value:  # what is empty is not shown
            assert _contains(effective[key], value), key


@pytest.mark.parametrize("text", LIKE_NUMBERS)
def test_a_text_that_looks_like_a_number_to_go_stays_a_text(text: str, tmp_path: Path) -> None:
    machine = {"address": "192.168.1.42", "roles": "i"}
    taint = {"key": "dedicated", "value": text, "effect": "PreferNoSchedule"}
    spec = cluster(machines={**APART, text: {**machine, "taints": [taint]}}, endpoint=ENDPOINT)
    effective, _ = _effective(kubelet.files(spec, text)[0].content, tmp_path)
    assert effective["registerWithTaints"] == [taint]
    assert _configured(proxy.files(spec, text)[0].content, tmp_path)["hostnameOverride"] == text


def _contains(shown: Any, wanted: Any) -> bool:
    """Whether all that is wanted is shown, beside defaults."""
    if isinstance(wanted, dict):
        return all(_contains(shown[key], value) for key, value in wanted.items())
    return bool(shown == wanted)


def test_a_setting_that_the_kubelet_does_not_know_would_be_seen(tmp_path: Path) -> None:
    config = yaml.safe_dump({**kubelet.configuration(cluster(), "minion"), "podPidLimit": 1})
    assert "strict decoding error" in _effective(config, tmp_path)[1]


def test_pods_restart_in_place_after_a_reboot(tmp_path: Path) -> None:
    """Pitfall 5: a kubelet that ends pods at a shutdown leaves dead ones behind."""
    effective, _ = _effective(kubelet.files(cluster(), "minion")[0].content, tmp_path)
    assert effective["shutdownGracePeriod"] == "0s"


def test_one_owner_renews_the_kubelets_certificate(tmp_path: Path) -> None:
    effective, _ = _effective(kubelet.files(cluster(), "minion")[0].content, tmp_path)
    assert "rotateCertificates" not in effective
    assert "serverTLSBootstrap" not in effective
    assert layout.kubeconfig("kubelet") in _unit(cluster(), "minion", kubelet.UNIT).needs


def test_the_kernel_is_as_the_kubelet_demands() -> None:
    """The values of pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables."""
    demanded = {
        "vm.overcommit_memory": 1,
        "vm.panic_on_oom": 0,
        "kernel.panic": 10,
        "kernel.panic_on_oops": 1,
        "kernel.keys.root_maxkeys": 1_000_000,
        "kernel.keys.root_maxbytes": 25_000_000,
    }
    assert kubelet.configuration(cluster(), "minion")["protectKernelDefaults"] is True
    assert demanded.items() <= host.SYSCTLS.items()


@pytest.mark.parametrize(
    ("roles", "tainted"), [("a", True), ("ea", True), ("ai", False), ("eai", False), ("i", False)]
)
def test_a_control_plane_keeps_pods_away_unless_it_is_a_minion(roles: str, tainted: bool) -> None:
    own = {"key": "dedicated", "value": "build", "effect": "NoExecute"}
    first = {"address": "192.168.1.10", "roles": roles, "memory": 3072, "taints": [own]}
    second = {"address": "192.168.1.20", "roles": "i" if "a" in roles else "ai", "memory": 3072}
    spec = cluster(machines={"one": first, "other": second})
    taints = kubelet.configuration(spec, "one")["registerWithTaints"]
    assert own in taints
    keys = [taint["key"] for taint in taints]
    assert ("node-role.kubernetes.io/control-plane" in keys) == tainted


def test_the_smallest_node_has_an_address_for_each_pod(tmp_path: Path) -> None:
    most = 25  # spec.network refuses fewer addresses
    networks = {"machines": "192.168.1.0/24", "pods": "172.16.0.0/16", "pods_per_node": most}
    files = kubelet.files(cluster(networks=networks), "minion")
    effective, _ = _effective(files[0].content, tmp_path)
    addresses = IPv4Network(f"10.0.0.0/{most}").num_addresses - len(("net", "bridge", "last"))
    assert 0 < effective["maxPods"] <= addresses


@pytest.mark.parametrize("memory", [1024, 1536, 2048, 4096, 65536])
def test_most_of_a_minions_memory_is_for_pods(memory: int) -> None:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "one": {"address": "192.168.1.11", "memory": memory},
    }
    spec = cluster(machines=machines)
    for name in machines:
        config = kubelet.configuration(spec, name)
        reserved = sum(
            int(config[who]["memory"].removesuffix("Mi"))
            for who in ("systemReserved", "kubeReserved")
        )
        assert 0 < reserved <= spec.machines[name].memory / (4 if name == "one" else 2)


def test_a_label_is_given_by_the_flag_that_takes_it() -> None:
    machines = {
        "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
        "one": {"address": "192.168.1.11", "labels": {"zone": "b", "disk": "ssd"}},
    }
    spec = cluster(machines=machines)
    assert _unit(spec, "one", kubelet.UNIT).flags["node-labels"] == "disk=ssd,zone=b"
    assert "node-labels" not in _unit(spec, "master", kubelet.UNIT).flags


# -- kube-proxy ------------------------------------------------------------------------------------


def _configured(config: str, folder: Path) -> dict[str, Any]:
    """What kube-proxy makes of a configuration."""
    path, written = folder / "config.yaml", folder / "written.yaml"
    path.write_text(config)
    done = subprocess.run(
        [stored("kube-proxy"), "--config", path, "--write-config-to", written],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "strict decoding" not in done.stderr
    configured: dict[str, Any] = yaml.safe_load(written.read_text())
    return configured


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_kube_proxy_takes_every_setting_as_it_was_meant(mode: str, tmp_path: Path) -> None:
    spec = cluster(proxy_mode=mode)
    configured = _configured(proxy.files(spec, "minion")[0].content, tmp_path)
    assert _contains(configured, proxy.configuration(spec, "minion"))


@every_node
def test_kube_proxy_waits_for_the_api_before_it_starts(spec: Cluster, name: str) -> None:
    """Pitfall 4."""
    unit = _unit(spec, name, proxy.UNIT)
    (line,) = unit.before_start
    assert line.split()[1:] == [layout.local_api_url(spec, name), layout.AUTHORITY]
    assert line.split()[0] in {file.path for file in node.step(spec, name).files}
    assert "TimeoutStartSec" not in unit.service


def test_a_minion_before_several_control_planes_has_a_balancer_and_no_other_machine_has() -> None:
    spec = available()
    having = {
        name
        for name in spec.nodes
        if balancer.UNIT in {unit.name for unit in node.step(spec, name).units}
    }
    assert having == {"i1"}
    assert "haproxy" in node.step(spec, "i1").packages


# -- flannel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_flannel_understands_its_network(backend: str, tmp_path: Path) -> None:
    spec = cluster(flannel={"backend": backend, "store": "kubernetes"}, proxy_mode="iptables")
    network = json.loads(flannel.files(spec, spec.nodes[0])[0].content)
    assert _starts(network, tmp_path)
    # It would have been seen: flannel refuses a network that is none.
    assert not _starts({**network, "Network": "172.16.0.0"}, tmp_path)


def _starts(network: dict[str, Any], folder: Path) -> bool:
    """Whether flanneld goes on from its network to the API, which is not there."""
    path, kubeconfig = folder / "network.json", folder / "kubeconfig"
    path.write_text(json.dumps(network))
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": ""}}],
                "current-context": "x",
            }
        )
    )
    options = ["-kube-subnet-mgr", f"-net-config-path={path}", f"-kubeconfig-file={kubeconfig}"]
    with subprocess.Popen(
        [stored("flanneld"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"NODE_NAME": "minion"},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "Waiting" in line or "error parsing subnet config" in line:
                child.kill()
                return "Waiting" in line
    pytest.fail("flanneld ended without a word about its network")


def test_flannel_uses_the_rules_of_kube_proxys_kind() -> None:
    for mode in ("nftables", "iptables"):
        spec = cluster(proxy_mode=mode)
        assert flannel.network(spec)["EnableNFTables"] == (mode == "nftables")
        assert cni.template(spec)["plugins"][1]["backend"] == mode


@every_node
def test_flannel_has_one_store_and_its_own_certificate_only(spec: Cluster, name: str) -> None:
    unit = _unit(spec, name, flannel.UNIT)
    etcd = {flag for flag in unit.flags if flag.startswith("etcd-")}
    kube = {flag for flag in unit.flags if flag in ("kube-subnet-mgr", "kubeconfig-file")}
    assert bool(etcd) != bool(kube)
    assert ("NODE_NAME" in unit.environment) == bool(kube)
    keys = {value for value in unit.flags.values() if value.startswith(layout.PKI)}
    own = {layout.certificate("flannel"), layout.private_key("flannel"), layout.ETCD_AUTHORITY}
    assert keys == (own if etcd else set())


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"flannel": {"vni": 2}}),
    ({}, {"flannel": {"port": 4789}}),
    ({}, {"flannel": {"backend": "host-gw"}}),
    ({"flannel": {"backend": "host-gw"}}, {}),
    ({"proxy_mode": "iptables"}, {"proxy_mode": "nftables"}),
]


def _started_with(spec: Cluster, name: str) -> dict[str, str | None]:
    """What flanneld reads on a machine: its unit, and each file that restarts it."""
    step = node.step(spec, name)
    files = {file.path: file.content for file in step.files}
    unit = _unit(spec, name, flannel.UNIT)
    contents: dict[str, str | None] = {path: files.get(path) for path in unit.needs}
    return {**contents, unit.path: text(unit)}


@pytest.mark.parametrize("store", ["etcd", "kubernetes"])
@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_flanneld_restarts_on_every_node_where_its_network_changes(
    before: dict[str, Any], after: dict[str, Any], store: str
) -> None:
    old, new = (
        cluster(**{**change, "flannel": {**change.get("flannel", {}), "store": store}})
        for change in (before, after)
    )
    assert not refused_changes(old, new)
    assert flannel.network(old) != flannel.network(new)
    for name in new.nodes:
        assert _started_with(old, name) != _started_with(new, name)


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        ({"vni": 1}, {"flannel.2", "flannel.10"}),
        ({"vni": 10}, {"flannel.1", "flannel.2"}),
        ({"backend": "host-gw"}, {"flannel.1", "flannel.2", "flannel.10"}),
    ],
)
def test_the_devices_of_another_network_go_before_flanneld_starts(
    given: dict[str, Any], gone: set[str], tmp_path: Path
) -> None:
    devices = ("flannel.1", "flannel.10", "flannel.2@nic0", "vxlan7")
    lines = "".join(
        f"{number}: {name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue\n"
        for number, name in enumerate(devices, start=3)
    )
    (tmp_path / "shown").write_text(lines)
    asked = 'case "$*" in "-oneline link show type vxlan") cat "$FOLDER/shown" ;; esac\n'
    machine = stand_in(tmp_path, ip=asked)
    unit = _unit(cluster(flannel=given), "minion", flannel.UNIT)
    program, *arguments = unit.before_start[0].split()
    (tmp_path / "remove").write_text(flannel.DEVICES.content)
    assert program == flannel.DEVICES.path
    outcome = machine.say(f"bash {tmp_path}/remove {' '.join(arguments)}")
    assert (outcome.code, outcome.output, outcome.errors) == (0, "", "")
    deleted = {call.split()[-1] for call in outcome.of("ip") if " delete " in call}
    assert deleted == gone


def _has_vxlan() -> bool:
    adds = ["unshare", "--net", "ip", "link", "add", "v", "type", "vxlan", "id", "1", "dstport"]
    return subprocess.run([*adds, "8472"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _has_vxlan(), reason="this kernel has no vxlan, or the test is not root's")
def test_the_real_ip_finds_the_devices_of_another_network() -> None:
    made = "".join(
        f"ip link add {name} type vxlan id {vni} dstport {8000 + vni} nolearning\n"
        for name, vni in (("flannel.1", 1), ("flannel.2", 2), ("other", 3))
    )
    script = f"set -e\n{made}set -- flannel.2\n{flannel.DEVICES.content}\nip -brief link show"
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"lo", "flannel.2", "other"}


# -- the CNI list ----------------------------------------------------------------------------------


class Rendering:
    """The program that makes the list, with everything below a folder."""

    def __init__(self, folder: Path) -> None:
        self.program, self.template = folder / "render-cni", folder / "cni.json"
        self.subnet, self.list = folder / "subnet.env", folder / "etc" / "net.d" / "list"
        files = {file.path: file.content for file in cni.files(cluster())}
        self.template.write_text(files[cni.TEMPLATE])
        self.program.write_text(files[cni.RENDER.path])
        self.program.chmod(0o755)

    def run(self, subnet: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.subnet.write_text(subnet)
        return subprocess.run(
            [self.program, self.template, self.subnet, self.list],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )


@pytest.fixture
def rendering(tmp_path: Path) -> Rendering:
    return Rendering(tmp_path)


def _file(gateway: str, mtu: int = 1450) -> str:
    """As flannel writes it (pkg/subnet, WriteSubnetFile)."""
    return (
        f"FLANNEL_NETWORK=172.16.0.0/12\nFLANNEL_SUBNET={gateway}\n"
        f"FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n"
    )


GATEWAYS = [
    *("172.16.5.1/24", "10.0.0.1/16", "172.31.255.65/26", "192.168.255.253/30"),
    *("255.255.128.1/17", "100.64.12.129/25", "172.20.8.1/21"),
]


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_the_list_has_flannels_network_and_packet_size(rendering: Rendering, gateway: str) -> None:
    done = rendering.run(_file(gateway, 1400))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    bridge = json.loads(rendering.list.read_text())["plugins"][0]
    assert bridge["ipam"]["ranges"] == [[{"subnet": str(IPv4Interface(gateway).network)}]]
    assert bridge["mtu"] == 1400
    assert rendering.list.stat().st_mode & 0o777 == 0o600  # CIS 1.1.9


def test_the_real_plugin_gives_addresses_from_the_list(
    rendering: Rendering, tmp_path: Path
) -> None:
    """Pitfall 7: host-local wants the network and not flannel's address in it."""
    rendering.run(_file("172.16.5.1/24"))
    bridge = json.loads(rendering.list.read_text())["plugins"][0]
    given = _host_local(bridge["ipam"], tmp_path)
    assert given["ips"] == [{"address": "172.16.5.2/24", "gateway": "172.16.5.1"}]
    refused = _host_local({**bridge["ipam"], "ranges": [[{"subnet": "172.16.5.1/24"}]]}, tmp_path)
    assert "host bits set" in refused["msg"]


def _host_local(ipam: dict[str, Any], folder: Path) -> dict[str, Any]:
    network = {
        "cniVersion": "1.0.0",
        "name": "test",
        "type": "bridge",
        "ipam": {**ipam, "dataDir": str(folder / "addresses")},
    }
    done = subprocess.run(
        [stored("host-local")],
        input=json.dumps(network),
        capture_output=True,
        text=True,
        env={
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "one",
            "CNI_NETNS": "/var/run/netns/another",
            "CNI_NETNS_OVERRIDE": "1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
        },
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_each_plugin_of_the_list_is_on_the_node() -> None:
    linked = {link.path.rpartition("/")[2] for link in cni.links(cluster())}
    for plugin in cni.template(cluster())["plugins"]:
        assert {plugin["type"], plugin.get("ipam", plugin)["type"]} <= linked


def test_a_list_that_is_right_is_left_alone(rendering: Rendering) -> None:
    rendering.run(_file("172.16.5.1/24"))
    before = rendering.list.stat()
    rendering.run(_file("172.16.5.1/24"))
    assert rendering.list.stat().st_ino == before.st_ino
    rendering.run(_file("172.16.6.1/24"))
    assert "172.16.6.0/24" in rendering.list.read_text()


def test_the_runtime_never_sees_half_a_list(rendering: Rendering, tmp_path: Path) -> None:
    """Pitfall 9: whatever is in the folder, containerd reads; and it reads at any time."""
    rendering.run(_file("172.16.5.1/24"))
    seen, folder = tmp_path / "seen", rendering.list.parent
    for name in ("sed", "sync", "mv", "rm", "cmp"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nls -A {folder} >>{seen}\nexec /usr/bin/{name} "$@"\n')
        program.chmod(0o755)
    rendering.run(_file("172.16.6.1/24"), PATH=f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    assert set(seen.read_text().split()) == {rendering.list.name}
    assert "172.16.6.0/24" in rendering.list.read_text()
    assert list(folder.iterdir()) == [rendering.list]


@pytest.mark.parametrize("missing", ["FLANNEL_SUBNET", "FLANNEL_MTU"])
def test_a_file_that_is_not_flannels_makes_no_list(rendering: Rendering, missing: str) -> None:
    done = rendering.run("".join(_file("172.16.5.1/24").replace(missing, "OTHER")))
    assert done.returncode != 0
    assert f"no {missing} in" in done.stderr
    assert not rendering.list.exists()


def test_no_address_outlives_the_pods_that_had_it() -> None:
    assert cni.template(cluster())["plugins"][0]["ipam"]["dataDir"].startswith("/run/")
    assert cni.SUBNET_FILE.startswith("/run/")


# -- the script ------------------------------------------------------------------------------------


@pytest.fixture
def healthy(tmp_path: Path) -> StandIn:
    (tmp_path / "list").write_text("{}")
    (tmp_path / "kubeconfig").write_text("    client-certificate: /crt\n    client-key: /key\n")
    return stand_in(tmp_path, curl="echo ok", systemctl="echo active")


def _settings(machine: StandIn) -> dict[str, str]:
    return {
        "cni_list": str(machine.folder / "list"),
        "kubeconfig": str(machine.folder / "kubeconfig"),
    }


@every_node
def test_nothing_is_said_when_all_is_well(healthy: StandIn, spec: Cluster, name: str) -> None:
    outcome = healthy.run(node.step(spec, name), **_settings(healthy))
    assert (outcome.code, outcome.output, outcome.errors) == (0, "", "")
    asked = {
        int(port) for call in outcome.of("curl") for port in re.findall(r":(\d+)/healthz", call)
    }
    assert asked == {10248, 10256}
    registered = [call for call in outcome.of("curl") if call.endswith(f"/api/v1/nodes/{name}")]
    assert registered
    assert all("--cert /crt --key /key" in call for call in registered)
    controllers = [call.split()[-1] for call in outcome.of("systemctl") if "kube-" in call]
    planes = ["kube-controller-manager.service", "kube-scheduler.service"]
    assert controllers == (planes if name in spec.control_planes else [])


@pytest.mark.parametrize(
    ("programs", "unit"),
    [
        ({"curl": "case $* in *10248*) echo refused; exit 7;; esac"}, kubelet.UNIT),
        ({"curl": "case $* in *10256*) echo refused; exit 7;; esac"}, proxy.UNIT),
        ({"curl": "case $* in */nodes/*) echo refused; exit 1;; esac"}, kubelet.UNIT),
        ({"systemctl": "echo refused; exit 3"}, flannel.UNIT),
    ],
)
def test_what_does_not_come_up_is_told_with_its_last_lines(
    healthy: StandIn, programs: dict[str, str], unit: str
) -> None:
    ill = healthy.with_programs(journalctl='echo "log of $2"', **programs)
    outcome = ill.run(node.step(cluster(), "minion"), **_settings(healthy))
    assert (outcome.code, outcome.output) == (1, "")
    assert "not yet after" in outcome.errors
    assert "refused" in outcome.errors
    assert f"log of {unit}" in outcome.errors


def test_a_control_plane_names_the_controller_that_is_not_well(healthy: StandIn) -> None:
    ill = healthy.with_programs(
        systemctl="case $* in *scheduler*) echo refused; exit 3;; *) echo active;; esac",
        journalctl='echo "log of $2"',
    )
    outcome = ill.run(node.step(cluster(), "master"), **_settings(healthy))
    assert outcome.code == 1
    assert "it is well (kube-scheduler.service)" in outcome.errors
    assert "log of kube-scheduler.service" in outcome.errors
    assert ill.run(node.step(cluster(), "minion"), **_settings(healthy)).code == 0


def test_a_node_that_runs_waits_until_no_api_server_is_older(healthy: StandIn) -> None:
    step = node.step(available(kubernetes="1.37.1"), "i1")
    rule = step.not_newer
    assert rule is not None
    servers = ("https://192.168.1.31:6443", "https://192.168.1.32:6443")
    assert (rule.version, rule.servers) == ("v1.37.1", servers)
    link = healthy.folder / "kubelet"
    here = replace(rule, program=Link(path=str(link), target="/of/this"))
    lines = render.text(replace(step, not_newer=here)).splitlines()
    (record,) = [line for line in lines if line.startswith("not_newer\t")]
    word = shlex.join(record.split("\t"))
    check = (library.script("skew"), word, "echo began")

    def versions(*answers: str) -> StandIn:
        cases = "".join(
            f'*{server}*) echo \'  "gitVersion": "{version}",\';; '
            for server, version in zip(servers, answers, strict=True)
        )
        return healthy.with_programs(kubectl=f"case $* in {cases} esac", journalctl="true")

    older = versions(rule.version, "v1.30.0")
    new = older.say(*check)
    assert (new.output, new.of("kubectl")) == ("began\n", []), "nothing runs that could be too new"
    link.symlink_to("/of/this")
    same = older.say(*check)
    assert (same.output, same.of("kubectl")) == ("began\n", [])
    link.unlink()
    link.symlink_to("/of/another/version")
    waits = older.say(*check)
    assert (waits.code, waits.output) == (1, "")
    assert f"all API servers are {rule.version}" in waits.errors
    assert f'{servers[1]}:   "gitVersion": "v1.30.0"' in waits.errors
    done = versions(rule.version, rule.version).say(*check)
    assert (done.code, done.output, len(done.of("kubectl"))) == (0, "began\n", 2)


def test_a_node_waits_before_anything_of_it_is_changed() -> None:
    records = render.text(node.step(cluster(), "minion"))
    after = records.index("\nnot_newer\t")
    assert all(records.find(f"\n{kind}\t") > after for kind in ("file", "link", "unit"))
    assert records.index("\nalone\n") > after, "others may be at work meanwhile"


def test_flannel_is_not_waited_for_where_it_waits_for_an_add_on(healthy: StandIn) -> None:
    down = healthy.with_programs(systemctl="exit 3")
    stores = {"kubernetes": 0, "etcd": 1}
    for store, code in stores.items():
        spec = cluster(flannel={"store": store})
        assert down.run(node.step(spec, "minion"), **_settings(down)).code == code
