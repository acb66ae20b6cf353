"""The files that a running program reads again by itself, and the time after which it does.

A changed file restarts a service unless a row here says that this is not necessary: a file that no
row names counts as read once, at the start. Each row was observed with the real program of the
version that the row names (``tests/plan/test_reload.py``; the kubelet's rows beside a real API
server, by hand).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reload:
    """How a program treats changes of the files that some of its flags name."""

    program: str
    names: tuple[str, ...]
    """Flags, or settings of its configuration or kubeconfig, whose values are paths."""
    seconds: int | None
    """The longest time until a new file takes effect; None where this takes a restart."""
    seen: str
    """The version of the program with which this was observed."""


AT_ONCE = 5
"""Seconds for files that a program reads as soon as they change, or at the next connection."""
BEAT = 300
"""Seconds between two checks of the certificate and key with which a client identifies itself,
counted from the program's start (client-go, transport/cert_rotation.go)."""

SERVING = ("tls-cert-file", "tls-private-key-file")
CALLERS = ("client-ca-file", "requestheader-client-ca-file")
CLIENT = ("client-certificate", "client-key")
"""Settings of a kubeconfig. ``certificate-authority`` is not one of them: only client-go 0.36 and
later read that file again, and until client-go has done so, it refuses an API server whose
certificate is from another authority. So it is with ``kubelet-certificate-authority`` and
kubelets."""


def _row(seen: str, seconds: int | None, program: str, *names: str) -> Reload:
    return Reload(program=program, names=names, seconds=seconds, seen=seen)


RELOADS = (
    _row("3.7.1", AT_ONCE, "etcd", "cert-file", "key-file", "peer-cert-file", "peer-key-file"),
    _row("1.37.1", AT_ONCE, "kube-apiserver", *CALLERS, *SERVING),
    _row("1.37.1", AT_ONCE, "kube-apiserver", "proxy-client-cert-file", "proxy-client-key-file"),
    _row("1.37.1", AT_ONCE, "kube-apiserver", "etcd-certfile", "etcd-keyfile"),
    _row("1.37.1", BEAT, "kube-apiserver", "kubelet-client-certificate", "kubelet-client-key"),
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
    """The files of a service; each file is in one of the two groups."""

    needs: tuple[str, ...]
    """The files that the service reads at its start only."""
    reads: tuple[str, ...]
    """The files that the service reads again by itself."""


def files(program: str, *named: Mapping[str, str]) -> Files:
    """The files of a program: those under ``/etc`` that these flags and settings name.

    ``named`` maps flags or settings to values. Where several of them name the same file, the file
    counts as read again only if the program does so for all of them.
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
