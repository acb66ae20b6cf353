"""Which files a running program reads again by itself, and after how long.

A service is restarted for a changed file unless a row here says that it need not be: what no row
names is taken for read once. Each row was seen with the real program of the version that it names
(``tests/plan/test_reload.py``; the kubelet's beside a real API server, by hand).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reload:
    """What a program does with new files of some of its flags."""

    program: str
    names: tuple[str, ...]
    """Flags, or settings of its configuration or kubeconfig, whose values are paths."""
    seconds: int | None
    """After which a new file is in force, at the latest; None: at the program's next start only."""
    seen: str
    """The program's version."""


AT_ONCE = 5
"""Seconds for what is read as soon as it changes, or at the next connection."""
BEAT = 300
"""Seconds between two looks at the files with which a client identifies itself, from the program's
start on (client-go, transport/cert_rotation.go)."""

SERVING = ("tls-cert-file", "tls-private-key-file")
CALLERS = ("client-ca-file", "requestheader-client-ca-file")
CLIENT = ("client-certificate", "client-key")
"""Of a kubeconfig. Its ``certificate-authority`` is no such name: client-go reads it again in its
latest versions only, and until then it refuses an API server's certificate of another authority."""


def _row(seen: str, seconds: int | None, program: str, *names: str) -> Reload:
    return Reload(program=program, names=names, seconds=seconds, seen=seen)


RELOADS = (
    _row("3.7.1", AT_ONCE, "etcd", "cert-file", "key-file", "peer-cert-file", "peer-key-file"),
    _row("1.37.1", AT_ONCE, "kube-apiserver", *CALLERS, *SERVING),
    _row("1.37.1", AT_ONCE, "kube-apiserver", "proxy-client-cert-file", "proxy-client-key-file"),
    _row("1.37.1", AT_ONCE, "kube-apiserver", "etcd-certfile", "etcd-keyfile"),
    _row(
        *("1.37.1", BEAT, "kube-apiserver"),
        *("kubelet-certificate-authority", "kubelet-client-certificate", "kubelet-client-key"),
    ),
    _row("1.37.1", AT_ONCE, "kube-controller-manager", *CALLERS, *SERVING),
    _row("1.37.1", BEAT, "kube-controller-manager", *CLIENT),
    _row("1.37.1", AT_ONCE, "kube-scheduler", *CALLERS, *SERVING),
    _row("1.37.1", BEAT, "kube-scheduler", *CLIENT),
    _row("1.37.1", AT_ONCE, "kubelet", "clientCAFile", "tlsCertFile", "tlsPrivateKeyFile"),
    _row("1.37.1", BEAT, "kubelet", *CLIENT),
    _row("1.37.1", BEAT, "kube-proxy", *CLIENT),
    _row("3.7.1", None, "etcd", "trusted-ca-file"),
    _row("1.37.1", None, "kube-apiserver", "etcd-cafile", "encryption-provider-config"),
    _row(
        *("1.37.1", None, "kube-apiserver"),
        *("service-account-key-file", "service-account-signing-key-file"),
    ),
    _row("1.37.1", None, "kube-controller-manager", "root-ca-file"),
)


@dataclass(frozen=True)
class Files:
    """The files of a service, each in one of the two."""

    needs: tuple[str, ...]
    """Those that it reads at its start only."""
    reads: tuple[str, ...]
    """Those that it reads again by itself."""


def files(program: str, *named: Mapping[str, str]) -> Files:
    """The files under ``/etc`` that flags or settings of a program name, by these names.

    A file that is named more than once is read again only where all of its names are.
    """
    rows = [row for row in RELOADS if row.program == program and row.seconds is not None]
    again = {name for row in rows for name in row.names}
    every = list(_paths(*named))
    needs = {path for name, path in every if name not in again}
    reads = {path for _, path in every} - needs
    return Files(tuple(sorted(needs)), tuple(sorted(reads)))


def _paths(*named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for mapping in named:
        yield from ((name, path) for name, path in mapping.items() if path.startswith("/etc/"))
