"""The pinned programs know every flag and every setting that the plan gives them."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from certs.authority import new_service_account_pair
from lab.cache import Cache
from lab.recorded_flags import PROGRAMS, StoredProgram, stored_programs
from plan.model import Unit
from spec.artifacts import artifact_rows, needed
from spec.flags import deprecated_flags, known_flags, minor_of
from spec.versions import catalogue
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.running import stored_program
from tests.plan.view import View
from tests.ports import free_port

VIEWS = [
    View(name, golden_spec(name), plan)
    for name in NAMES
    for plan in golden_plan(name).nodes.values()
]
OURS = {row.name: row for row in artifact_rows()}
every_machine = pytest.mark.parametrize("machine", VIEWS, ids=str)


def _services(machine: View) -> Iterator[tuple[str, str, Unit]]:
    """Program, version and unit of the services whose programs the catalogue pins."""
    for name, unit in machine.units.items():
        if name in OURS:
            yield name, OURS[name].version(machine.spec.versions), unit


@cache
def _stored() -> list[StoredProgram]:
    return list(stored_programs(Cache()))


def _default(program: str) -> str | None:
    """The minor version of a program that every machine of the default stack has."""
    return minor_of(OURS[program].version(catalogue()[0])) if program in needed() else None


@cache
def _real(program: str, minor: str) -> Path:
    """The program of any patch version of a minor version that ``_at_hand`` has."""
    programs = [
        stored
        for stored in _stored()
        if (stored.name, minor_of(stored.version)) == (program, minor)
    ]
    return programs[-1].path if programs else stored_program(program, catalogue()[0])


def _at_hand(program: str, minor: str) -> bool:
    """Whether the real program can be asked: the default stack's always, others if stored."""
    return minor == _default(program) or any(
        (stored.name, minor_of(stored.version)) == (program, minor) for stored in _stored()
    )


# -- flags -----------------------------------------------------------------------------------------


@every_machine
def test_each_flag_is_known_to_the_pinned_program(machine: View) -> None:
    for program, version, unit in _services(machine):
        assert unit.flags.keys() <= known_flags(program, version), program


@every_machine
def test_no_flag_is_on_its_way_out(machine: View) -> None:
    told_by_cis = {("kube-scheduler", "profiling")}  # 1.4.1; the file says the same
    for program, version, unit in _services(machine):
        old = {(program, flag) for flag in unit.flags.keys() & deprecated_flags(program, version)}
        assert old <= told_by_cis


def test_the_flags_of_every_service_with_a_pinned_program_are_recorded() -> None:
    assert {program for machine in VIEWS for program, _, _ in _services(machine)} == set(PROGRAMS)


GONE = {
    # The first minor version without them (the changelogs): what old guides still write.
    ("1.24", "kubelet"): "network-plugin cni-bin-dir cni-conf-dir image-pull-progress-deadline"
    " docker-endpoint docker-root register-schedulable allow-privileged"
    " experimental-bootstrap-kubeconfig",
    ("1.24", "kube-apiserver"): "insecure-port insecure-bind-address kubelet-https"
    " enable-swagger-ui etcd-quorum-read",
    ("1.24", "kube-controller-manager"): "port address experimental-cluster-signing-duration",
    ("1.24", "kube-scheduler"): "port address algorithm-provider policy-config-file",
    ("1.25", "kube-apiserver"): "service-account-api-audiences",
    ("1.25", "kube-controller-manager"): "deleting-pods-qps deleting-pods-burst"
    " register-retry-count",
    ("1.27", "kube-apiserver"): "master-service-namespace",
    ("1.27", "kube-controller-manager"): "enable-taint-manager pod-eviction-timeout",
    ("1.27", "kubelet"): "container-runtime master-service-namespace",
    ("1.31", "kubelet"): "keep-terminated-pod-volumes iptables-masquerade-bit iptables-drop-bit",
    ("1.31", "kube-controller-manager"): "volume-host-cidr-denylist"
    " volume-host-allow-local-loopback horizontal-pod-autoscaler-upscale-delay"
    " horizontal-pod-autoscaler-downscale-delay",
    ("1.33", "kube-apiserver"): "cloud-config cloud-provider",
    ("1.35", "kubelet"): "pod-infra-container-image",
    ("1.35", "kube-proxy"): "cleanup-ipvs conntrack-max",
    ("1.37", "kube-proxy"): "boot-id-file machine-id-file",
    ("1.37", "kubelet"): "containerd containerd-namespace boot-id-file machine-id-file"
    " log-cadvisor-usage storage-driver-db storage-driver-host storage-driver-user"
    " storage-driver-password storage-driver-table storage-driver-secure",
    ("3.6", "etcd"): "enable-v2 proxy initial-corrupt-check",
    ("3.7", "etcd"): "experimental-initial-corrupt-check experimental-compact-hash-check-enabled"
    " experimental-watch-progress-notify-interval experimental-corrupt-check-time",
    ("0.28", "flanneld"): "remote listen subnet-dir",
}


@pytest.mark.parametrize(("minor", "program"), GONE)
def test_flags_are_known_until_they_are_gone(minor: str, program: str) -> None:
    gone = set(GONE[minor, program].split())
    for version in _minors(program):
        known = known_flags(program, version)
        if _number(version) < _number(minor):
            assert gone <= known, version
        else:
            assert not gone & known, version


def _minors(program: str) -> set[str]:
    return {minor_of(OURS[program].version(golden_spec(name).versions)) for name in NAMES}


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _command_lines() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Program, minor version and flags of one service for each set of flags."""
    lines = {}
    for machine in VIEWS:
        for program, version, unit in _services(machine):
            flags = tuple(f"{unit.dashes}{name}={value}" for name, value in unit.flags.items())
            lines[program, minor_of(version), frozenset(unit.flags)] = flags
    for (program, minor, _), flags in lines.items():
        yield program, minor, flags


LINES = list(_command_lines())


@pytest.mark.parametrize(
    ("program", "minor"), sorted({line[:2] for line in LINES if _at_hand(*line[:2])})
)
def test_the_real_program_takes_each_flag_with_its_value(program: str, minor: str) -> None:
    """A program looks at all its flags before it shows its help, and says what it does not like."""
    real = _real(program, minor)
    for *of, flags in LINES:
        if of == [program, minor]:
            assert _said(real, *flags, "--help") == _help(real)


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name in needed()])
def test_a_flag_that_a_program_does_not_know_would_be_seen(program: str) -> None:
    real = _real(program, _default(program) or "")
    assert _said(real, "--no-such-flag=1", "--help") != _help(real)


@cache
def _help(real: Path) -> str:
    return _said(real, "--help")


def _said(*command: str | Path) -> str:
    """All that a program prints."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


# -- configuration files ---------------------------------------------------------------------------

KUBERNETES = sorted({minor_of(golden_spec(name).versions.kubernetes) for name in NAMES})
READERS = ("kube-apiserver", "kube-scheduler", "kubelet", "kube-proxy")
AT_HAND = [minor for minor in KUBERNETES if all(_at_hand(name, minor) for name in READERS)]


def _files(flag: str, program: str, minor: str) -> Iterable[str]:
    """The content of the files that a flag names, one for each set of fields."""
    contents = {}
    for machine in VIEWS:
        for name, version, unit in _services(machine):
            if (name, minor_of(version)) == (program, minor):
                content = machine.text(unit.flags[flag])
                contents[_fields(content)] = content
    assert contents
    return contents.values()


def _fields(content: str) -> frozenset[str]:
    """The paths of all fields of a file."""

    def below(value: Any, path: str) -> Iterator[str]:
        yield path
        named = value.items() if isinstance(value, dict) else ()
        listed = value if isinstance(value, list) else ()
        for key, inner in (*named, *(("*", inner) for inner in listed)):
            yield from below(inner, f"{path}.{key}")

    return frozenset(below(yaml.safe_load(content), ""))


def _understood(program: str, minor: str, content: str, folder: Path) -> tuple[str, str]:
    """What kube-proxy or the scheduler says of its file, and the file as it writes it again.

    With ``--write-config-to`` it ends without a cluster.
    """
    config, kubeconfig = folder / "config.yaml", folder / "kubeconfig"
    written = folder / "written.yaml"
    config.write_text(re.sub(r"/etc/kubernetes/.*\.conf", str(kubeconfig), content))
    kubeconfig.write_text(yaml.safe_dump(NO_CLUSTER))
    output = _said(_real(program, minor), "--config", config, "--write-config-to", written)
    return output, written.read_text() if written.exists() else ""


NO_CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "users": [{"name": "nobody", "user": {"token": "none"}}],
    "current-context": "none",
}


def _kubelet_says(minor: str, content: str, folder: Path) -> str:
    """What the kubelet says of its file.

    It ends because of a number that cannot be, which it looks at after it has read all of it.
    """
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(content), "maxPods": -1}))
    own = [f"--root-dir={folder}/root", f"--cert-dir={folder}/keys"]
    return _said(_real("kubelet", minor), f"--config={config}", *own)


def _api_server_says(minor: str, authentication: str, policy: str, folder: Path) -> str:
    """What the API server says of two of its files.

    It ends because its audit log cannot be, which it opens after it has read both.
    """
    pair = new_service_account_pair()
    contents = {
        "private.pem": pair.private,
        "public.pem": pair.public,
        "authentication.yaml": authentication,
        "policy.yaml": policy,
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return _said(
        _real("kube-apiserver", minor),
        "--etcd-servers=http://127.0.0.1:1",
        "--service-account-issuer=https://nobody",
        f"--service-account-key-file={folder}/public.pem",
        f"--service-account-signing-key-file={folder}/private.pem",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--cert-dir={folder}",
        # A cluster of this computer may have the usual one.
        f"--secure-port={free_port()}",
        f"--authentication-config={folder}/authentication.yaml",
        f"--audit-policy-file={folder}/policy.yaml",
        f"--audit-log-path={folder}/policy.yaml/log",
    )


@pytest.mark.parametrize("minor", AT_HAND)
@pytest.mark.parametrize("program", ["kube-proxy", "kube-scheduler"])
def test_kube_proxy_and_the_scheduler_know_each_field_of_their_files(
    program: str, minor: str, tmp_path: Path
) -> None:
    for content in _files("config", program, minor):
        output, written = _understood(program, minor, content, tmp_path)
        assert "strict decoding" not in output
        assert _fields(content) <= _fields(written)


@pytest.mark.parametrize("minor", AT_HAND)
def test_the_kubelet_knows_each_field_of_its_file(minor: str, tmp_path: Path) -> None:
    for content in _files("config", "kubelet", minor):
        output = _kubelet_says(minor, content, tmp_path)
        assert "strict decoding" not in output
        assert "maxPods" in output.splitlines()[-1]


@pytest.mark.parametrize("minor", AT_HAND)
def test_the_api_server_knows_each_field_of_its_files(minor: str, tmp_path: Path) -> None:
    (authentication,) = _files("authentication-config", "kube-apiserver", minor)
    (policy,) = _files("audit-policy-file", "kube-apiserver", minor)
    output = _api_server_says(minor, authentication, policy, tmp_path)
    assert "strict decoding" not in output
    assert "ensureLogFile" in output.splitlines()[-1]


def test_a_field_that_a_program_does_not_know_would_be_seen(tmp_path: Path) -> None:
    minor = KUBERNETES[-1]

    def rendered(flag: str, program: str) -> str:
        return next(iter(_files(flag, program, minor)))

    def strange(content: str) -> str:
        return f"noSuchField: 1\n{content}"

    authentication = rendered("authentication-config", "kube-apiserver")
    policy = rendered("audit-policy-file", "kube-apiserver")
    own = {name: strange(rendered("config", name)) for name in ("kube-proxy", "kube-scheduler")}
    for output in (
        *(_understood(name, minor, content, tmp_path)[0] for name, content in own.items()),
        _kubelet_says(minor, strange(rendered("config", "kubelet")), tmp_path),
        _api_server_says(minor, strange(authentication), policy, tmp_path),
        _api_server_says(minor, authentication, strange(policy), tmp_path),
    ):
        assert "strict decoding" in output
        assert "noSuchField" in output
