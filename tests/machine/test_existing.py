"""Machines that somebody else made become a cluster, and are afterwards as they were."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.paths import PROJECT
from ops.reach import kept_access
from spec.cluster import parse
from tests.engine.stack import eventually
from tests.machine.lab import Lab, at_length

pytestmark = [pytest.mark.machine, pytest.mark.timeout(7200), at_length]

STACK, MAKER = "mtex", "mtexmade"
MACHINES: dict[str, Any] = {
    "master": {"address": "192.168.1.10", "roles": "ai", "memory": 3072},
    "minion": {"address": "192.168.1.11", "memory": 2048},
}
NETWORKS = {"machines": "192.168.1.0/24"}

# Makes the lab and only the machines of a stack: no step runs on them.
MAKE = """
import sys
from lab import toolchain
from lab.cache import Cache
from lab.offer import Phases, prepare_lab
from lab.paths import lab_paths
from lab.progress import PlainProgress
from lab.stack import stack_in_lab
from ops.stacks import read_cluster

name, *targets = sys.argv[1:]
paths, cache, progress = lab_paths(), Cache(), PlainProgress()
prepare_lab(name, read_cluster(name), paths, cache, progress, Phases())
stack = stack_in_lab(name, paths, toolchain.prepare(cache, paths, progress))
stack.create()
words = [word for target in targets for word in ("--target", target)]
done = stack.pulumi("up", "--yes", "--skip-preview", "--target-dependents=false", *words)
sys.exit(done.returncode)
"""

LISTING = r"""
set -eu
find /etc /opt /root /srv /usr/local /home /var/lib -xdev \
    \( -path /var/lib/hardway -o -path /var/lib/apt -o -path /var/lib/systemd -o -path '/etc/*-' \
    -o -path /var/lib/dpkg -o -path /var/lib/cloud \
    -o -path /var/lib/private -o -name .updated \) \
    -prune -o -type d -printf 'directory %m %U:%G %p\n' -o -type l -printf 'link %l %p\n' \
    -o -type f -printf 'file %m %U:%G %s %p\n' | sort
dpkg-query --show
getent passwd
getent group
systemctl list-unit-files --state=enabled,masked --no-legend
systemctl list-units --type=service --state=active --no-legend --plain | cut -d' ' -f1 |
    grep -v -e ^user -e ^systemd- -e ^ssh
for key in net.ipv4.ip_forward net.ipv4.tcp_keepalive_time net.ipv4.tcp_retries2 \
    vm.overcommit_memory kernel.panic kernel.panic_on_oops fs.inotify.max_user_watches; do
    echo "$key $(sysctl --values "$key")"
done
ls /sys/class/net
iptables-save | grep ^-A || true
nft list tables | grep -v -e ' filter$' -e ' nat$' -e ' mangle$' || true
cat /proc/swaps
ps -e --format comm= | grep -e kube -e containerd -e etcd -e flannel || true
"""
"""All that a machine has, but for what it changes by itself."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with machines, which the stack of the test has nothing to do with."""
    lab = Lab(tmp_path_factory.mktemp("lab"), STACK)
    maker = PROJECT / f"Pulumi.{MAKER}.yaml"
    before = request.session.testsfailed
    lab.describe({"networks": NETWORKS, "machines": MACHINES})
    lab.file.rename(maker)
    try:
        _make_machines(lab)
        yield lab
    except BaseException:
        before = -1
        raise
    finally:
        if lab.file.exists():
            lab.hardway("down", ok=False)
        lab.stack = lab.environment["PULUMI_STACK"] = MAKER
        lab.close(failed=request.session.testsfailed > before)
        (PROJECT / f"Pulumi.{STACK}.yaml").unlink(missing_ok=True)


def _make_machines(lab: Lab) -> None:
    targets = ["**::specification", "**::ssh-key", "**libvirt**", "**Network::machines"]
    targets += ["**hardway:Authorities::**", "**hardway:Certificates::**"]
    targets += [f"**Cluster::{MAKER}", *(f"**Machine::{name}" for name in MACHINES)]
    done = subprocess.run(
        [sys.executable, "-c", MAKE, MAKER, *targets],
        cwd=PROJECT,
        env={**lab.environment, "PULUMI_STACK": MAKER, "PYTHONPATH": os.fspath(PROJECT)},
        capture_output=True,
        text=True,
    )
    lab.transcript += done.stdout + done.stderr
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


class Somebody:
    """Who made the machines, and can log in to them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        export = ("pulumi", "stack", "export", "--show-secrets", "--stack", MAKER)
        state = json.loads(lab.hardway(*export).stdout)
        spec = parse({"networks": NETWORKS, "machines": MACHINES}, name=MAKER)
        self.access = kept_access(spec, state)
        self._key = folder / "somebodys_key"
        self._key.write_text(self.access.ssh_key)
        self._key.chmod(0o600)
        self._agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", folder / "agent"], stdout=subprocess.DEVNULL
        )
        self.agent = os.fspath(folder / "agent")
        eventually("the agent has the key", self._add)

    def _add(self) -> bool:
        adds = ["ssh-add", "-q", os.fspath(self._key)]
        environment = {**os.environ, "SSH_AUTH_SOCK": self.agent}
        return subprocess.run(adds, env=environment, capture_output=True).returncode == 0

    def on(self, name: str, script: str) -> str:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        given = [argument for option in options for argument in ("-o", option)]
        to = ["-i", os.fspath(self._key), f"root@{MACHINES[name]['address']}", script]
        done = self._lab.inside("ssh", "-F", "none", *given, *to)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def end(self) -> None:
        self._agent.terminate()
        self._agent.wait()


@pytest.fixture(scope="module")
def somebody(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebody]:
    somebody = Somebody(lab, tmp_path_factory.mktemp("somebody"))
    for name in MACHINES:
        eventually(f"{name} has booted", partial(_answers, somebody, name))
        # A lab's image has artifacts and images of pods already, which only a cluster brings.
        somebody.on(name, "rm -rf /opt/containerd /var/lib/containerd /var/lib/hardway")
        somebody.on(name, "cloud-init status --wait || true")
    lab.environment["SSH_AUTH_SOCK"] = somebody.agent
    yield somebody
    somebody.end()


def _answers(somebody: Somebody, name: str) -> bool:
    try:
        return bool(somebody.on(name, "echo it does"))
    except AssertionError:
        return False


def described(somebody: Somebody, *names: str) -> dict[str, Any]:
    keys = {machine.address: machine.host_key for machine in somebody.access.machines.values()}
    machines = {
        name: {key: value for key, value in MACHINES[name].items() if key != "memory"}
        for name in names
    }
    there = {machine["address"] for machine in machines.values()}
    return {
        "networks": NETWORKS,
        "hypervisor": {
            "kind": "existing",
            "host_keys": {address: key for address, key in keys.items() if address in there},
        },
        "machines": machines,
    }


def there(lab: Lab, *arguments: str) -> str:
    """What ``./hardway`` prints on a computer in the machines' network."""
    done = lab.inside(os.fspath(lab.program / "hardway"), *arguments, env=lab.environment)
    lab.transcript += f"$ {' '.join(arguments)}\n{done.stdout}{done.stderr}\n"
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return str(done.stdout)


def nodes(lab: Lab) -> set[str]:
    answer = json.loads(there(lab, "kubectl", "get", "nodes", "--output", "json"))
    return {node["metadata"]["name"] for node in answer["items"]}


def test_machines_of_somebody_become_a_cluster_and_are_as_they_were_afterwards(
    lab: Lab, somebody: Somebody
) -> None:
    before = {name: somebody.on(name, LISTING).splitlines() for name in MACHINES}
    lab.describe(described(somebody, *MACHINES))
    there(lab, "up")
    assert "MiB brought to master and minion" in lab.transcript
    there(lab, "validate", "--wait", "1200")
    there(lab, "pulumi", "preview", "--expect-no-changes")
    assert nodes(lab) == {*MACHINES}
    there(lab, "drift")

    lab.describe(described(somebody, "master"))
    there(lab, "up")
    assert lab.transcript.count("MiB brought to ") == 1, "the machines had all of it"
    assert nodes(lab) == {"master"}
    assert somebody.on("minion", LISTING).splitlines() == before["minion"]
    assert somebody.on("minion", "ls -d /var/lib/hardway || true") == ""

    there(lab, "ssh", "master", "--", "systemctl stop etcd kube-apiserver")
    there(lab, "down", "--keep-lab")
    assert somebody.on("master", LISTING).splitlines() == before["master"]
    assert somebody.on("master", "ls -d /var/lib/hardway || true") == ""
