"""The CIS Kubernetes Benchmark (v1.12 and v2.0.1), evaluated from the plans of all golden clusters.

Every Automated row, and the Manual ones without a functional price. A row says what must be true of
each machine that has the component; where the benchmark accepts an absent setting, so does the row.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import yaml

from plan import layout
from plan.model import (
    AuthorityCertificate,
    Certificate,
    Kubeconfig,
    PrivateKey,
    SigningCertificate,
)
from tests.plan.golden import NAMES, golden_plan, golden_spec
from tests.plan.view import View

Check = Callable[[View], bool]

VIEWS = [
    View(name, golden_spec(name), plan)
    for name in NAMES
    for plan in golden_plan(name).nodes.values()
]


def control_plane(machine: View) -> bool:
    return machine.plan.node in machine.spec.control_planes


def member(machine: View) -> bool:
    return machine.plan.node in machine.spec.etcd_members


def node(machine: View) -> bool:
    return machine.plan.node in machine.spec.nodes


# -- words -----------------------------------------------------------------------------------------


def at_most(mode: int, *paths: str) -> Check:
    """Each of the files is there and has no permission beyond ``mode``."""
    return lambda machine: all(not machine.entries[path].mode & ~mode for path in paths)


def owned(owner: str, *paths: str) -> Check:
    return lambda machine: all(machine.entries[path].owner == owner for path in paths)


def service(name: str) -> str:
    return f"/etc/systemd/system/{name}.service"


def flag(component: str, name: str, right: Callable[[str], bool] = bool) -> Check:
    """The flag is given, and its value is right."""
    return lambda machine: right(machine.flags(component).get(name, ""))


def unset(component: str, name: str) -> Check:
    return lambda machine: name not in machine.flags(component)


def equal(wanted: str) -> Callable[[str], bool]:
    return lambda value: value == wanted


def at_least(number: int) -> Callable[[str], bool]:
    return lambda value: value.isdigit() and int(value) >= number


def has(word: str) -> Callable[[str], bool]:
    return lambda value: word in value.split(",")


def lacks(word: str) -> Callable[[str], bool]:
    return lambda value: value != "" and word not in value.split(",")


def list_lacks(component: str, name: str, word: str) -> Check:
    """Unset, or a list without the word."""
    return lambda machine: word not in machine.flags(component).get(name, "").split(",")


def both(*checks: Check) -> Check:
    return lambda machine: all(check(machine) for check in checks)


def setting(component: str, *path: str, right: Callable[[Any], bool]) -> Check:
    """A value of the component's configuration file; None where it is not there."""

    def check(machine: View) -> bool:
        value = machine.config(component)
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return right(value)

    return check


def secrets_below(folder: str, *, mode: int | None = None, owner: str | None = None) -> Check:
    def check(machine: View) -> bool:
        files = [file for file in machine.plan.secret_files if file.path.startswith(folder + "/")]
        return bool(files) and all(
            (mode is None or not file.mode & ~mode) and (owner is None or file.owner == owner)
            for file in files
        )

    return check


def no_person(machine: View) -> bool:
    """No administrator's credential lies on the machine."""
    return not any(
        isinstance(file.source, Kubeconfig | Certificate | PrivateKey)
        and "admin" in str(file.source)
        for file in machine.plan.secret_files
    )


STRONG = {
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in (
        *("AES_128_GCM_SHA256", "AES_256_GCM_SHA384"),
        *("CHACHA20_POLY1305", "CHACHA20_POLY1305_SHA256"),
    )
} | {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}


def strong(suites: Iterable[str] | None) -> bool:
    return bool(suites) and set(suites or ()) <= STRONG


API, KCM, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
KUBELET, PROXY, ETCD = "kubelet", "kube-proxy", "etcd"
ADMISSION = "enable-admission-plugins"
TRUE, FALSE = equal("true"), equal("false")

AUTOMATED: dict[str, tuple[Check, Check]] = {
    # 1.1 files of a control plane; a unit stands for the pod spec
    "1.1.1": (control_plane, at_most(0o600, service(API))),
    "1.1.2": (control_plane, owned("root:root", service(API))),
    "1.1.3": (control_plane, at_most(0o600, service(KCM))),
    "1.1.4": (control_plane, owned("root:root", service(KCM))),
    "1.1.5": (control_plane, at_most(0o600, service(SCHEDULER))),
    "1.1.6": (control_plane, owned("root:root", service(SCHEDULER))),
    "1.1.7": (member, at_most(0o600, service(ETCD))),
    "1.1.8": (member, owned("root:root", service(ETCD))),
    "1.1.11": (member, at_most(0o700, layout.ETCD_DATA)),
    "1.1.12": (member, owned("etcd:etcd", layout.ETCD_DATA)),
    "1.1.13": (control_plane, no_person),
    "1.1.14": (control_plane, no_person),
    "1.1.15": (control_plane, at_most(0o600, layout.kubeconfig("scheduler"))),
    "1.1.16": (control_plane, owned("root:root", layout.kubeconfig("scheduler"))),
    "1.1.17": (control_plane, at_most(0o600, layout.kubeconfig("controller-manager"))),
    "1.1.18": (control_plane, owned("root:root", layout.kubeconfig("controller-manager"))),
    "1.1.19": (control_plane, secrets_below(layout.PKI, owner="root:root")),
    # 1.2 API server
    "1.2.2": (control_plane, unset(API, "token-auth-file")),
    "1.2.4": (
        control_plane,
        both(flag(API, "kubelet-client-certificate"), flag(API, "kubelet-client-key")),
    ),
    "1.2.5": (control_plane, flag(API, "kubelet-certificate-authority")),
    "1.2.6": (control_plane, flag(API, "authorization-mode", lacks("AlwaysAllow"))),
    "1.2.7": (control_plane, flag(API, "authorization-mode", has("Node"))),
    "1.2.8": (control_plane, flag(API, "authorization-mode", has("RBAC"))),
    "1.2.10": (control_plane, list_lacks(API, ADMISSION, "AlwaysAdmit")),
    "1.2.12": (control_plane, list_lacks(API, "disable-admission-plugins", "ServiceAccount")),
    "1.2.13": (control_plane, list_lacks(API, "disable-admission-plugins", "NamespaceLifecycle")),
    "1.2.14": (control_plane, flag(API, ADMISSION, has("NodeRestriction"))),
    "1.2.15": (control_plane, flag(API, "profiling", FALSE)),
    "1.2.16": (control_plane, flag(API, "audit-log-path")),
    "1.2.17": (control_plane, flag(API, "audit-log-maxage", at_least(30))),
    "1.2.18": (control_plane, flag(API, "audit-log-maxbackup", at_least(10))),
    "1.2.19": (control_plane, flag(API, "audit-log-maxsize", at_least(100))),
    "1.2.21": (
        control_plane,
        lambda m: m.flags(API).get("service-account-lookup", "true") == "true",
    ),
    "1.2.22": (control_plane, flag(API, "service-account-key-file")),
    "1.2.23": (control_plane, both(flag(API, "etcd-certfile"), flag(API, "etcd-keyfile"))),
    "1.2.24": (control_plane, both(flag(API, "tls-cert-file"), flag(API, "tls-private-key-file"))),
    "1.2.25": (control_plane, flag(API, "client-ca-file")),
    "1.2.26": (control_plane, flag(API, "etcd-cafile")),
    "1.2.30": (control_plane, flag(API, "service-account-extend-token-expiration", FALSE)),
    # 1.3 controller manager, 1.4 scheduler
    "1.3.2": (control_plane, flag(KCM, "profiling", FALSE)),
    "1.3.3": (control_plane, flag(KCM, "use-service-account-credentials", TRUE)),
    "1.3.4": (control_plane, flag(KCM, "service-account-private-key-file")),
    "1.3.5": (control_plane, flag(KCM, "root-ca-file")),
    "1.3.6": (
        control_plane,
        list_lacks(KCM, "feature-gates", "RotateKubeletServerCertificate=false"),
    ),
    "1.3.7": (control_plane, flag(KCM, "bind-address", equal("127.0.0.1"))),
    "1.4.1": (control_plane, flag(SCHEDULER, "profiling", FALSE)),
    "1.4.2": (control_plane, flag(SCHEDULER, "bind-address", equal("127.0.0.1"))),
    # 2 etcd
    "2.1": (member, both(flag(ETCD, "cert-file"), flag(ETCD, "key-file"))),
    "2.2": (member, flag(ETCD, "client-cert-auth", TRUE)),
    "2.3": (member, lambda m: m.flags(ETCD).get("auto-tls", "false") == "false"),
    "2.4": (member, both(flag(ETCD, "peer-cert-file"), flag(ETCD, "peer-key-file"))),
    "2.5": (member, flag(ETCD, "peer-client-cert-auth", TRUE)),
    "2.6": (member, lambda m: m.flags(ETCD).get("peer-auto-tls", "false") == "false"),
    # 4.1 files of a node
    "4.1.1": (node, at_most(0o600, service(KUBELET))),
    "4.1.2": (node, owned("root:root", service(KUBELET))),
    "4.1.5": (node, at_most(0o600, layout.kubeconfig("kubelet"))),
    "4.1.6": (node, owned("root:root", layout.kubeconfig("kubelet"))),
    "4.1.9": (node, lambda m: at_most(0o600, m.flags(KUBELET)["config"])(m)),
    "4.1.10": (node, lambda m: owned("root:root", m.flags(KUBELET)["config"])(m)),
    # 4.2 kubelet, 4.3 kube-proxy
    "4.2.1": (
        node,
        setting(KUBELET, "authentication", "anonymous", "enabled", right=lambda v: v is False),
    ),
    "4.2.2": (node, setting(KUBELET, "authorization", "mode", right=lambda v: v == "Webhook")),
    "4.2.3": (node, setting(KUBELET, "authentication", "x509", "clientCAFile", right=bool)),
    "4.2.6": (node, setting(KUBELET, "makeIPTablesUtilChains", right=lambda v: v in (True, None))),
    "4.2.10": (node, setting(KUBELET, "rotateCertificates", right=lambda v: v in (True, None))),
    "4.3.1": (
        node,
        setting(
            PROXY, "metricsBindAddress", right=lambda v: v is None or v.startswith("127.0.0.1:")
        ),
    ),
}

MANUAL: dict[str, tuple[Check, Check]] = {
    "1.1.20": (
        control_plane,
        lambda m: all(
            not file.mode & ~0o644
            for file in m.plan.secret_files
            if isinstance(file.source, Certificate | AuthorityCertificate | SigningCertificate)
        ),
    ),
    "1.1.21": (
        control_plane,
        lambda m: all(
            not file.mode & ~0o600
            for file in m.plan.secret_files
            if isinstance(file.source, PrivateKey)
        ),
    ),
    "1.2.9": (control_plane, flag(API, ADMISSION, has("EventRateLimit"))),
    "1.2.27": (control_plane, flag(API, "encryption-provider-config", equal(layout.ENCRYPTION))),
    "1.2.29": (control_plane, lambda m: strong(m.flags(API)["tls-cipher-suites"].split(","))),
    "1.3.1": (control_plane, flag(KCM, "terminated-pod-gc-threshold", at_least(1))),
    "2.7": (
        member,
        lambda m: (
            m.flags(ETCD)["trusted-ca-file"] == layout.MEMBER_AUTHORITY
            and next(
                file.source for file in m.plan.secret_files if file.path == layout.MEMBER_AUTHORITY
            )
            == AuthorityCertificate("etcd")
        ),
    ),
    "3.2.1": (
        control_plane,
        lambda m: yaml.safe_load(m.text(m.flags(API)["audit-policy-file"]))["kind"] == "Policy",
    ),
    "4.1.3": (node, at_most(0o600, layout.kubeconfig("kube-proxy"))),
    "4.1.4": (node, owned("root:root", layout.kubeconfig("kube-proxy"))),
    "4.1.7": (node, at_most(0o644, layout.AUTHORITY)),
    "4.1.8": (node, owned("root:root", layout.AUTHORITY)),
    "4.2.4": (node, setting(KUBELET, "readOnlyPort", right=lambda v: v in (0, None))),
    "4.2.5": (node, setting(KUBELET, "streamingConnectionIdleTimeout", right=lambda v: v != "0")),
    "4.2.8": (node, setting(KUBELET, "eventRecordQPS", right=lambda v: 5 <= v <= 50)),
    "4.2.9": (
        node,
        both(
            setting(KUBELET, "tlsCertFile", right=bool),
            setting(KUBELET, "tlsPrivateKeyFile", right=bool),
        ),
    ),
    "4.2.12": (node, setting(KUBELET, "tlsCipherSuites", right=strong)),
    "4.2.13": (node, setting(KUBELET, "podPidsLimit", right=lambda v: (v or 0) > 0)),
    "4.2.14": (node, setting(KUBELET, "seccompDefault", right=lambda v: v is True)),
}


def test_the_table_has_every_automated_row() -> None:
    assert len(AUTOMATED) == 65


@pytest.mark.parametrize("row", [*AUTOMATED, *MANUAL])
def test_a_row_of_the_benchmark_holds_on_every_machine(row: str) -> None:
    applies, holds = {**AUTOMATED, **MANUAL}[row]
    machines = [machine for machine in VIEWS if applies(machine)]
    assert len(machines) >= len(NAMES)
    assert [str(machine) for machine in machines if not holds(machine)] == []
