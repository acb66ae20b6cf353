"""The diagnostic commands and API requests for a cluster that does not work.

None of them reads a secret: from secret files they take digests and modes, and from the API they
request no Secrets.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.paths import LabPaths
from plan import layout
from plan.model import NodePlan
from spec.cluster import API_PORT, Cluster

SECONDS = 30
"""Time limit in seconds of a command on a machine."""

LINES = 1000
"""Number of lines from each journal."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A diagnostic command for bash on a machine."""

    name: str
    """The name of the file for the command's output."""
    script: str


HOST: Mapping[str, str] = {
    "system": "uname -a; cat /etc/os-release; uptime; cat /proc/pressure/*",
    "clock": "date --utc '+%F %T.%N %Z'; timedatectl --no-pager; timedatectl timesync-status",
    "cloud-init": "cloud-init status --long",
    "failed": "systemctl --no-pager list-units --failed; systemctl --no-pager list-jobs",
    "boot": "systemd-analyze --no-pager blame | head -n 40",
    "kernel": f"journalctl --no-pager --output short-precise --dmesg --lines {LINES}",
    "warnings": "journalctl --no-pager --output short-precise --boot --priority warning"
    f" --lines {LINES}",
    "disk": "df --human-readable; df --inodes; lsblk",
    "memory": "free --mebi; cat /proc/meminfo",
    "processes": "ps -eo pid,ppid,user,stat,etimes,time,rss,args --sort=-rss",
    "addresses": "ip -details address; ip neighbour; bridge fdb show",
    "routes": "ip rule; ip route show table all",
    "sockets": "ss --numeric --processes --listening --tcp --udp",
    "resolver": "cat /etc/resolv.conf /etc/hosts",
    "firewall": "nft list ruleset; iptables-save; ip6tables-save",
    "modules": "lsmod; sysctl net.ipv4.ip_forward net.bridge",
    "steps": "ls -l --time-style=full-iso /var/lib/hardway /var/lib/hardway/steps"
    " /var/lib/hardway/running",
    # Only the pods of kube-system: the logs of other pods are private to their owners.
    "pods": "for log in /var/log/pods/kube-system_*/*/*.log; do"
    ' echo "==> $log"; tail --lines 200 "$log"; done',
}
"""Question name to the command that runs on every machine."""

CONTAINERS: Mapping[str, str] = {
    "containerd": "for what in containers tasks images; do ctr --namespace k8s.io $what list; done",
    "docker": "for what in 'containers/json?all=1' images/json info; do curl --silent --show-error"
    ' --max-time 10 --unix-socket /run/docker.sock "http://docker/$what"; echo; done',
}

API: Mapping[str, str] = {
    "version": "/version",
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "events": "/api/v1/events",
    "services": "/api/v1/services",
    "endpoints": "/api/v1/endpoints",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "deployments": "/apis/apps/v1/deployments",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "leases": "/apis/coordination.k8s.io/v1/leases",
    "certificatesigningrequests": "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    "apiservices": "/apis/apiregistration.k8s.io/v1/apiservices",
}
"""Name to the API path that is requested, besides the health endpoints."""


def questions(spec: Cluster, plan: NodePlan) -> Iterator[Question]:
    """The questions for a machine with this plan; the quickest and most useful first."""
    units = [unit.name for unit in plan.units]
    if units:
        yield Question(
            name="units",
            script=f"systemctl --no-pager --full --lines 0 status {shlex.join(units)}",
        )
    for name, script in HOST.items():
        yield Question(name=name, script=script)
    for unit in units:
        yield Question(
            name=f"journal-{unit.removesuffix('.service')}",
            script="journalctl --no-pager --output short-precise"
            f" --lines {LINES} --unit {shlex.quote(unit)}",
        )
    yield Question(name="files", script=_files(plan))
    yield Question(name="certificates", script=_certificates())
    if plan.node in spec.nodes:
        yield Question(name="containers", script=CONTAINERS[spec.runtime])
    if plan.node in spec.etcd_members:
        yield Question(name="etcd", script=_etcd())
    if plan.node in spec.control_planes:
        yield Question(
            name="api-server",
            script="curl --silent --show-error --max-time 10"
            f" --cacert {layout.AUTHORITY} 'https://127.0.0.1:{API_PORT}/readyz?verbose'",
        )


def _files(plan: NodePlan) -> str:
    """The command for modes, owners and times of all paths in the plan, and digests of files."""
    files = [file.path for file in plan.files] + [file.path for file in plan.secret_files]
    files += [unit.path for unit in plan.units]
    others = [directory.path for directory in plan.directories]
    others += [link.path for step in plan.steps for link in step.links]
    others += [artifact.store_path for artifact in plan.artifacts]
    listed = shlex.join(dict.fromkeys([*files, *others]))
    digests = f"; sha256sum -- {shlex.join(dict.fromkeys(files))}" if files else ""
    return f"stat --format '%A %U:%G %s %y %N' -- {listed or '/'}{digests}"


def _certificates() -> str:
    return (
        f"for file in {layout.PKI}/*.crt {layout.ETCD_PKI}/*.crt; do"
        ' echo "==> $file"; openssl x509 -noout -subject -issuer -serial -dates -in "$file"; done'
    )


def _etcd() -> str:
    """The command that queries this machine's etcd member; each member is asked on its machine."""
    client = "etcd-healthcheck-client"
    options = [
        f"--endpoints=https://127.0.0.1:{layout.ETCD_CLIENT_PORT}",
        f"--cacert={layout.MEMBER_AUTHORITY}",
        f"--cert={layout.certificate(client)}",
        f"--key={layout.private_key(client)}",
        "--command-timeout=5s",
        "--write-out=table",
    ]
    return (
        "for what in 'member list' 'endpoint status' 'endpoint health' 'alarm list'; do"
        f' xargs etcdctl {shlex.join(options)} <<<"$what"; done'
    )


def logs(spec: Cluster, paths: LabPaths) -> Iterator[tuple[str, Path]]:
    """The logs of the lab and of this cluster's machines in it, as pairs of name and path."""
    for file in sorted(paths.logs.glob("*.log")):
        yield file.name, file
    for file in sorted((paths.state / "libvirt" / "log").rglob("*.log")):
        yield f"libvirt/{file.name}", file
    for name in spec.machines:
        for folder, parent in {
            "console": paths.state / "console",
            "qemu": Path("/var/log/libvirt/qemu"),
        }.items():
            file = parent / f"{spec.name}-{name}.log"
            if file.is_file():
                yield f"{folder}/{file.name}", file


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def without_values(value: Any) -> Any:
    """An API object without values of environment variables, managed fields and last-applied copy.

    People put passwords into environment variables, and the last-applied annotation repeats them.
    """
    if isinstance(value, list):
        return [without_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key in ("managedFields", LAST_APPLIED):
            continue
        if key == "env" and isinstance(item, list):
            kept[key] = [_without_value(variable) for variable in item]
        else:
            kept[key] = without_values(item)
    return kept


def _without_value(variable: Any) -> Any:
    if isinstance(variable, dict):
        return {k: "(left out)" if k == "value" else v for k, v in variable.items()}
    return "(left out)"
