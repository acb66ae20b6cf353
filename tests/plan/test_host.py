"""The kernel and the system under the container runtime."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from plan import containerd, docker, host, runtime
from plan.model import Step
from tests.plan.shell import StandIn, cluster, stand_in

NO_IMAGES = {"images": "", "runtime": "none"}
ALL_WELL = {
    "systemctl": "[ $3 = systemd-resolved ]",
    "openssl": "exit 0",
}


@pytest.fixture
def node(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path, **ALL_WELL)


def _settings(node: StandIn) -> dict[str, str]:
    return {**NO_IMAGES, "resolver": str(node.folder / "resolv.conf")}


STEP: Step = runtime.step(cluster(), "master")


def test_each_kernel_setting_is_one_that_a_kernel_has() -> None:
    for key in host.SYSCTLS:
        if not key.startswith("net.bridge."):  # of a module
            assert Path("/proc/sys", *key.split(".")).is_file(), key


def test_settings_of_a_module_come_with_the_module() -> None:
    assert any(key.startswith("net.bridge.") for key in host.SYSCTLS)
    for spec in (cluster(), cluster(flannel={"backend": "host-gw"}, proxy_mode="iptables")):
        assert "br_netfilter" in host.modules(spec)


def test_what_the_script_loads_is_what_comes_back_at_a_boot() -> None:
    for backend in ("vxlan", "host-gw"):
        spec = cluster(flannel={"backend": backend})
        kept = next(file for file in host.files(spec) if file.path == host.MODULES_FILE)
        assert kept.content.split() == host.settings(spec)["modules"].split()
        assert ("vxlan" in kept.content.split()) == (backend == "vxlan")


def test_containers_are_confined_by_apparmor_with_each_runtime() -> None:
    for name in ("containerd", "docker"):
        assert "apparmor" in runtime.step(cluster(runtime=name), "minion").packages


def test_swap_does_not_come_back_with_any_runtime() -> None:
    for name in ("containerd", "docker"):
        assert "swap.target" in runtime.step(cluster(runtime=name), "minion").masked


def test_a_nodes_runtime_step_depends_on_no_other_node() -> None:
    spec = cluster()
    master = {"address": "192.168.1.10", "roles": "ai", "memory": 3072}
    minions = {"minion": {"address": "192.168.1.11"}, "other": {"address": "192.168.1.99"}}
    more = cluster(machines={"master": master, **minions})
    steps = [runtime.step(spec, "master"), runtime.step(more, "other")]
    for step, name in zip(steps, ("master", "other"), strict=True):
        assert step.rolling is not None
        assert step.rolling.node == name
    first, second = (replace(step, rolling=None) for step in steps)
    assert first == second
    assert runtime.step(more, "minion") == runtime.step(spec, "minion")


# -- the script ------------------------------------------------------------------------------------


def test_nothing_is_said_when_all_is_well(node: StandIn) -> None:
    result = node.run(STEP, **_settings(node))
    assert (result.code, result.output, result.errors) == (0, "", "")
    assert result.of("swapoff") == ["swapoff --all"]
    assert result.of("sysctl") == [f"sysctl --quiet --load={host.SYSCTLS_FILE}"]


def test_modules_that_are_there_already_are_not_loaded(node: StandIn) -> None:
    there = next(path.name for path in sorted(Path("/sys/module").iterdir()))
    result = node.run(STEP, **_settings(node) | {"modules": f"{there} no_such_module"})
    assert result.of("modprobe") == ["modprobe --all no_such_module"]


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        (
            {"modprobe": "echo not found in this kernel; exit 1"},
            "the kernel modules no_such_module cannot all be loaded: not found in this kernel",
        ),
        (
            {"sysctl": "echo permission denied on key; exit 1"},
            f"the kernel settings of {host.SYSCTLS_FILE} cannot be made: permission denied on key",
        ),
    ],
)
def test_what_the_kernel_refuses_is_told_in_a_sentence(
    node: StandIn, programs: dict[str, str], sentence: str
) -> None:
    settings = _settings(node) | {"modules": "no_such_module"}
    result = node.with_programs(**programs).run(STEP, **settings)
    assert (result.code, result.output, result.errors) == (1, "", f"failed: {sentence}\n")


@pytest.mark.parametrize(
    ("resolved", "target"), [("0", "/run/systemd/resolve/resolv.conf"), ("3", "/etc/resolv.conf")]
)
def test_pods_get_name_servers_they_can_reach(node: StandIn, resolved: str, target: str) -> None:
    result = node.with_programs(
        systemctl=f"[ $3 = systemd-resolved ] && exit {resolved}; exit 3"
    ).run(STEP, **_settings(node))
    assert result.errors == ""
    assert (node.folder / "resolv.conf").readlink() == Path(target)


# -- the clock -------------------------------------------------------------------------------------


def _certificate(folder: Path, start: datetime, end: datetime) -> dict[str, str]:
    """A self-signed certificate, and the settings that name it as its own authority."""
    path, key = folder / "certificate", ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), start, end
    ).sign(key, hashes.SHA256())
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return {"authority": str(path), "certificate": str(path)}


def _really(node: StandIn) -> StandIn:
    real = {name: body for name, body in node.programs.items() if name != "openssl"}
    return StandIn(node.folder, real)


DAY = timedelta(days=1)


def test_a_clock_within_the_certificates_time_is_right(node: StandIn) -> None:
    now = datetime.now(UTC)
    made = _certificate(node.folder, now - DAY, now + DAY)
    result = _really(node).run(STEP, **_settings(node) | made)
    assert (result.code, result.errors) == (0, "")


@pytest.mark.parametrize(
    ("start", "end", "why", "differs"),
    [
        (DAY, 2 * DAY, "not yet valid", "behind that"),
        (-2 * DAY, -DAY, "expired", "ahead of that"),
    ],
)
def test_a_clock_outside_the_certificates_time_is_told_and_which_other_it_differs_from(
    node: StandIn, start: timedelta, end: timedelta, why: str, differs: str
) -> None:
    now = datetime.now(UTC)
    made = _certificate(node.folder, now + start, now + end)
    result = _really(node).run(STEP, **_settings(node) | made)
    assert result.code == 1
    assert "the clock is right (" in result.errors
    assert why in result.errors
    pattern = rf"machine is (\d+) s or more {differs} of the computer that runs \./hardway up"
    match = re.search(pattern, result.errors)
    assert match
    assert abs(int(match[1]) - DAY.total_seconds()) < 600, "this test may be held up"
    assert made["certificate"] in result.errors


def test_certificates_of_different_authorities_are_no_affair_of_clocks(node: StandIn) -> None:
    now = datetime.now(UTC)
    made = _certificate(node.folder, now - DAY, now + DAY)
    (node.folder / "other").mkdir()
    foreign = _certificate(node.folder / "other", now - DAY, now + DAY)
    mixed = made | {"authority": foreign["authority"]}
    result = _really(node).run(STEP, **_settings(node) | mixed)
    assert result.code == 1
    assert "the clock of this machine is" not in result.errors
    assert "error" in result.errors


def test_a_time_service_is_waited_for_but_not_for_ever(node: StandIn) -> None:
    active = 'for unit; do [ "$unit" != chrony ] && echo inactive || echo active; done | tail -n +2'
    count = 'n=$(($(cat "$FOLDER/n" 2>/dev/null || echo 0) + 1)); echo $n >"$FOLDER/n"\n'
    slow = node.with_programs(systemctl=active, timedatectl=count + "[ $n -lt 3 ] || echo yes")
    assert len(slow.run(STEP, **_settings(node)).of("timedatectl")) == 3
    never = node.with_programs(systemctl=active, timedatectl="echo no", sleep="exec /bin/sleep 1")
    result = never.run(STEP, **_settings(node))
    assert (result.code, result.errors) == (0, "")


def test_a_runtime_is_the_clusters_own() -> None:
    assert STEP.units[0].name == containerd.UNIT
    names = [unit.name for unit in runtime.step(cluster(runtime="docker"), "minion").units]
    assert names == ["docker.service", docker.UNIT]
