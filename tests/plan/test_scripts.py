"""Every step of the default stack's master, run for real, cut off and run again.

What a container cannot do is taken from it. It has the host's kernel: modules and kernel settings
are only noted, and the kubelet and kube-proxy, which want to set some, are left to real machines.
It has no network: packages that the base image does not have are empty ones.
"""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from lab.artifacts import Store
from lab.cache import Cache
from lab.manifest import artifacts
from lab.progress import Silence
from plan import addons, flannel, host, layout, records, render, web_proxy
from plan.cluster import cluster_plan, node_plan
from plan.item import digest
from plan.layout import STATE
from plan.model import STORE, Artifact, File, Kubeconfig, NodePlan, Step
from spec.cluster import API_PORT, Cluster
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, quiet
from tests.plan.golden import golden_spec
from tests.plan.limited import limited
from tests.plan.mirror import mirror
from tests.plan.running import Keys, beside_waits
from tests.plan.shell import cluster

pytestmark = pytest.mark.container


# -- the first step ------------------------------------------------------------------------------


def first_boot(user_data: str) -> Callable[[Path], None]:
    """A machine with a seed, as its seed disk gives it one."""

    def prepare(root: Path) -> None:
        quiet(root)
        (root / "etc/cloud/cloud-init.disabled").unlink()
        (root / "etc/systemd/system-generators/cloud-init-generator").unlink()
        seed = root / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        (seed / "meta-data").write_text("instance-id: one\n")
        (seed / "user-data").write_text(f"#cloud-config\n{user_data}")

    return prepare


PROXIES = ("http_proxy", "https_proxy", "no_proxy")
OPTIONAL = ("disk", "power_button", "api_name", "name_servers", "packet_size", *PROXIES)
NOTHING = dict.fromkeys(OPTIONAL, "") | {"steps": "ready"}
READY = Step(name="ready", script="ready", settings=NOTHING)


def test_a_machine_is_ready_when_its_first_boot_is_done_and_that_is_the_last(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine(prepare=first_boot("runcmd: [touch /srv/booted]\n"))
    for _ in range(2):
        done = machine.run(render.text(replace(READY, settings=NOTHING | {"disk": "4"})))
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
        assert machine.path("/srv/booted").exists()
        assert machine.path("/etc/cloud/cloud-init.disabled").exists()


def test_the_first_boot_of_a_machine_that_nobody_here_makes_stays_as_it_is(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine(prepare=first_boot("runcmd: [touch /srv/booted]\n"))
    done = machine.run(render.text(READY))
    assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
    assert machine.path("/srv/booted").exists()
    assert not machine.path("/etc/cloud/cloud-init.disabled").exists()


def test_a_first_boot_without_its_end_is_gone_through_again(
    new_machine: Callable[..., Container],
) -> None:
    boot = first_boot("runcmd: [touch /srv/booted]\n")

    def cut_off(root: Path) -> None:
        boot(root)
        # As after a loss of power: notes are there, and nothing of what they note.
        cloud = root / "var/lib/cloud"
        (cloud / "instances/one/sem").mkdir(parents=True)
        (cloud / "data").mkdir()
        (cloud / "instance").symlink_to("instances/one")
        for name in ("instance-id", "previous-instance-id"):
            (cloud / "data" / name).write_text("one\n")
        for name in ("config_runcmd", "config_scripts_user"):
            (cloud / "instances/one/sem" / name).touch()

    machine = new_machine(prepare=cut_off)
    done = machine.run(render.text(READY))
    assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
    assert machine.path("/srv/booted").exists()


def test_a_first_boot_that_failed_is_told(new_machine: Callable[..., Container]) -> None:
    machine = new_machine(prepare=first_boot("runcmd: [exit 5]\n"))
    done = machine.run(render.text(replace(READY, settings=NOTHING | {"disk": "4"})))
    assert done.returncode == 1
    assert done.stderr.startswith("failed: cloud-init failed: "), "and then the details"
    assert not machine.path("/etc/cloud/cloud-init.disabled").exists()
    # On a machine that existed before it is its owner's.
    done = machine.run(render.text(READY))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cloud-init of this machine had errors, see cloud-init status --long\n"
    assert not machine.path("/etc/cloud/cloud-init.disabled").exists()


def test_a_machine_without_a_first_boot_is_ready(new_machine: Callable[..., Container]) -> None:
    machine = new_machine()
    for disk in ("", "4"):  # what is no block device is left alone
        done = machine.run(render.text(replace(READY, settings=NOTHING | {"disk": disk})))
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")


NAME = "api.example.org"
NAMED = replace(READY, settings=NOTHING | {"api_name": NAME})


def test_a_name_that_comes_in_time_is_waited_for(new_machine: Callable[..., Container]) -> None:
    machine = new_machine()
    child = machine.begin(render.text(NAMED))
    assert child.stdout
    assert child.stdout.readline() == f"until it finds an address of {NAME}\n"
    machine.write("/etc/hosts", f"127.0.0.1 localhost\n192.0.2.7 {NAME}\n")
    done = machine.finish(child)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # And nothing is said where it is there.
    done = machine.run(render.text(NAMED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("list_of_servers", "servers", "listed"),
    [
        ("/etc/resolv.conf", (), "none"),
        ("/etc/resolv.conf", ("192.0.2.53", "192.0.2.54"), "192.0.2.53 192.0.2.54"),
        ("/run/systemd/resolve/resolv.conf", ("192.0.2.55",), "192.0.2.55"),
        ("/run/systemd/resolve/resolv.conf", (), "none"),
    ],
)
def test_a_name_that_no_machine_finds_is_told_in_one_sentence(
    new_machine: Callable[..., Container],
    list_of_servers: str,
    servers: tuple[str, ...],
    listed: str,
) -> None:
    machine = new_machine()
    machine.path("/etc/resolv.conf").unlink(missing_ok=True)
    machine.path("/run/systemd/resolve/resolv.conf").unlink(missing_ok=True)
    if servers:
        machine.write(list_of_servers, "".join(f"nameserver {server}\n" for server in servers))
    if list_of_servers != "/etc/resolv.conf":
        machine.write("/etc/resolv.conf", "nameserver 127.0.0.53\n")
    done = machine.run(limited(render.text(NAMED), 1, "api-name"))
    assert done.returncode == 1
    host = machine.call("hostname").strip()
    assert done.stderr == (
        f"failed: {host} finds no address of {NAME}, the host at which it is to ask for the API "
        f"(its name servers: {listed}); make a DNS record that it can look up or a line in its "
        "/etc/hosts, or write the balancer's address as endpoint.host, and run the same again\n"
    )


OURS = File(
    path=host.NAME_SERVERS, content="nameserver 192.0.2.1\nnameserver 192.0.2.2\n", mode=0o644
)
ASKING = replace(
    READY,
    files=(OURS,),
    begin="ready",
    script=None,
    settings=NOTHING | {"name_servers": "192.0.2.1 192.0.2.2"},
)


@pytest.mark.parametrize("before", ["link", "file", "nothing"])
def test_name_servers_come_and_go_with_the_spec(
    new_machine: Callable[..., Container], before: str
) -> None:
    machine = new_machine()
    path = machine.path(host.NAME_SERVERS)
    path.unlink(missing_ok=True)
    mode = path.parent.stat().st_mode
    if before == "link":
        path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    elif before == "file":
        machine.write(host.NAME_SERVERS, "nameserver 198.51.100.1\n")
    for _ in range(2):
        done = machine.run(render.text(ASKING))
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
        assert not path.is_symlink()
        assert path.read_text() == OURS.content
    for _ in range(2):
        done = machine.run(render.text(READY))
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
        assert path.is_symlink() == (before == "link")
        assert path.is_symlink() or path.exists() is (before == "file")
        assert before != "file" or path.read_text() == "nameserver 198.51.100.1\n"
        assert path.parent.stat().st_mode == mode


def test_name_servers_are_there_when_a_name_is_first_looked_up(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine()
    asking = replace(ASKING, settings=dict(ASKING.settings) | {"api_name": NAME})
    done = machine.run(limited(render.text(asking), 1, "api-name"))
    assert done.returncode == 1
    assert "(its name servers: 192.0.2.1 192.0.2.2)" in done.stderr


def test_the_size_of_packets_comes_and_goes_with_the_spec(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine()
    for command in (
        "ip link add name lan0 mtu 1450 type bridge",
        "ip address add 192.0.2.7/24 dev lan0",
        "ip link set dev lan0 up",
    ):
        machine.call(*command.split(" "))

    def sized(text: str) -> None:
        step = replace(READY, begin="ready", script=None, settings=NOTHING | {"packet_size": text})
        for _ in range(2):
            done = machine.run(render.text(step))
            assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")

    sized("192.0.2.7 1400")
    assert machine.call("cat", "/sys/class/net/lan0/mtu").strip() == "1400"
    sized("192.0.2.7 1380")
    assert machine.call("cat", "/sys/class/net/lan0/mtu").strip() == "1380"
    machine.call("ip", "link", "set", "dev", "lan0", "mtu", "1500")
    machine.write("/run/packet-size", flannel.PACKET_SIZE.content, 0o755)
    machine.call("/run/packet-size", "192.0.2.7", "1380")
    assert machine.call("cat", "/sys/class/net/lan0/mtu").strip() == "1380"
    sized("")
    assert machine.call("cat", "/sys/class/net/lan0/mtu").strip() == "1450"
    step = replace(READY, settings=NOTHING | {"packet_size": "192.0.2.8 1400"})
    assert "failed: no interface of this machine has" in machine.run(render.text(step)).stderr


def test_artifacts_come_through_the_proxy_of_the_spec(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine()
    content, far, near = b"program\n", "http://far.example/program", "/near"
    digest_of_it = hashlib.sha256(content).hexdigest()
    spec = cluster(proxy={"http": "http://proxy.example:3128", "no_proxy": ["192.0.2.0/24"]})
    with mirror(machine.listener()) as proxy, mirror(machine.listener()) as direct:
        proxy.files = {far: content}
        direct.files = {"near": content}
        settings = dict(web_proxy.settings(spec)) | {"http_proxy": proxy.url("").rstrip("/")}
        for url, asked in ((far, [far]), (direct.url("near"), [])):
            artifact = Artifact(
                name="program", version="1", kind="binary", sha256=digest_of_it, urls=(url,)
            )
            step = replace(
                READY,
                artifacts=(artifact,),
                begin="ready",
                script=None,
                settings=NOTHING | settings,
            )
            done = machine.run(render.text(step))
            assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, "", "")
            assert proxy.asked == asked
            machine.path(artifact.store_path).unlink()
            proxy.asked.clear()
        assert direct.asked == [near]


def test_apt_asks_the_proxy_of_the_spec(new_machine: Callable[..., Container]) -> None:
    machine = new_machine()
    spec = cluster(
        proxy={"https": "https://proxy.example", "no_proxy": [".a.example", "b.example"]}
    )
    (file,) = web_proxy.files(spec)
    machine.write(file.path, file.content)
    read = machine.call("apt-config", "dump", "Acquire::https::Proxy")
    assert 'Acquire::https::Proxy "https://proxy.example";' in read
    assert 'Acquire::https::Proxy::b.example "DIRECT";' in read
    assert 'Acquire::https::Proxy::192.168.1.1 "DIRECT";' in read
    assert "a.example " not in read.replace("b.example", "")
    assert machine.call("apt-config", "dump", "Acquire::http::Proxy").strip() in (
        "",
        'Acquire::http::Proxy "";',
    )


# -- all others ----------------------------------------------------------------------------------

NODE = "master"
LEFT_OUT = {"kubelet.service", "kube-proxy.service"}
LARGE = 20_000_000


def of_the_store() -> tuple[Cluster, dict[str, Path]]:
    """The default stack with the digests of the artifact store, and their files."""
    spec = golden_spec("default")
    store = Store(Cache(), Silence(), Path("/nonexistent"))
    files = {
        f"{needed.name}-{needed.version}": store.find(needed)
        for needed in artifacts(spec.versions, store.architecture, spec.runtime)
    }
    lacking = sorted(name for name, file in files.items() if file is None)
    if lacking or store.architecture != spec.architecture:
        pytest.skip(f"the artifact store has no {', '.join(lacking)}: ./hardway artifacts fetch")
    there = {name: file for name, file in files.items() if file}
    sources = {"digests": {name: file.digest for name, file in there.items()}}
    spec = Cluster.model_validate(spec.model_dump() | {"artifacts": sources})
    return spec, {file.digest: file.path for file in there.values()}


@pytest.fixture(scope="module")
def stored() -> Iterator[tuple[Cluster, Path]]:
    """The spec, and a layer with a machine's artifact store as the base image has it."""
    spec, files = of_the_store()
    with Cache().work() as scratch:
        folder = scratch / "layer" / STORE[1:] / "sha256"
        folder.mkdir(parents=True)
        marks = folder.parent / "verified"
        marks.mkdir()
        for digest, path in files.items():
            os.link(path, folder / digest)
            status = path.stat()
            if status.st_size > LARGE:  # to read hundreds of megabytes takes seconds
                time = f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}"
                (marks / digest).write_text(f"{status.st_size} {time}\n")
        yield spec, scratch / "layer"


class RecordedMachine:
    """A machine and what was done on it."""

    def __init__(self, container: Container, spec: Cluster) -> None:
        self.container, self.spec = container, spec
        self.plan: NodePlan = node_plan(spec, NODE)
        self.keys = Keys(spec)
        self.pairs = self.keys.of(NODE) | self.keys.of_people()
        self.done: list[Step] = []

    def text(self, step: Step) -> str:
        return render.text(step, lambda source: self.keys.content(source, self.pairs))

    def bring(self, step: Step, *, cut: bool = False) -> None:
        """Do a step, which says what it did; before, it may be cut off at a random command."""
        text, chance = self.text(step), random.Random(step.name)
        # Each record takes more commands than these.
        commands = 5 * sum(not line.startswith(records.INDENT) for line in text.splitlines())
        if cut:
            killed = self.container.run(text, command=chance.randint(1, commands))
            assert killed.returncode < 0, f"{step.name} was not cut off"
        done = self.container.run(text)
        outcome = f"{step.outcome}\n" if step.outcome else ""
        assert (done.returncode, beside_waits(done.stdout), done.stderr) == (0, outcome, ""), (
            step.name
        )
        if step not in self.done:
            self.done.append(step)

    def until(self, name: str) -> Step:
        """Do what comes before a step, and return the step."""
        names = [step.name for step in self.done]
        for step in self.steps:
            if step.name == name:
                return step
            if step.name not in names:
                self.bring(step)
        raise KeyError(name)

    @property
    def steps(self) -> Iterator[Step]:
        for step in (*self.plan.steps, *cluster_plan(self.spec).add_ons):
            if step.name == "node":
                units = tuple(unit for unit in step.units if unit.name not in LEFT_OUT)
                yield replace(step, units=units, script=None)
            elif step.name != "ready":
                yield step

    def started(self) -> dict[str, str]:
        """The services of all steps so far to a number that changes with every start."""
        names = [unit.name for step in self.done for unit in step.units]
        return self.container.settled(*names) if names else {}

    def state(self) -> dict[str, str]:
        return self.container.snapshot("/etc", "/usr/local", f"{STATE}/steps", f"{STATE}/running")


# Programs that would change the host's kernel, and note what they are asked instead.
STAND_IN = """#!/bin/sh
echo "${0##*/} $*" >>/run/asked
"""


def furnish(root: Path) -> None:
    quiet(root)
    for name in ("modprobe", "sysctl"):
        path = root / "usr/local/sbin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN)
        path.chmod(0o755)


ARRANGED = """
ip link add machine type dummy 2>/dev/null || ip link add machine type veth peer name other
ip address add {address}/24 dev machine
ip link set machine up
# containerd's snapshots are overlays, and those need something else than an overlay below them.
mkdir /var/lib/containerd; mount -t tmpfs tmpfs /var/lib/containerd
mkdir -p /srv/package/DEBIAN
for name in {packages}; do
    if dpkg-query --show "$name" >/dev/null 2>&1; then continue; fi
    printf '%s\\n' "Package: $name" 'Version: 1' 'Architecture: all' 'Description: stands in' \\
        'Maintainer: nobody <nobody@example.com>' >/srv/package/DEBIAN/control
    dpkg-deb --build /srv/package /srv/package.deb; dpkg --install /srv/package.deb
done
"""


@pytest.fixture(scope="module")
def machine(memory: Memory, stored: tuple[Cluster, Path]) -> Iterator[RecordedMachine]:
    spec, layer = stored
    with Container(memory, layer, prepare=furnish) as container:
        recorded = RecordedMachine(container, spec)
        packages = " ".join(name for step in recorded.plan.steps for name in step.packages)
        text = ARRANGED.format(address=spec.machines[NODE].address, packages=packages)
        done = container.run(text)
        assert done.returncode == 0, done.stderr
        yield recorded


STEPS = ("identity", "runtime", "etcd", "control-plane", "node")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_done_after_a_cut_and_then_changes_nothing(
    machine: RecordedMachine, name: str
) -> None:
    step = machine.until(name)
    machine.bring(step, cut=True)
    before = machine.started(), machine.state()
    machine.bring(step)
    assert (machine.started(), machine.state()) == before


def test_the_cluster_gets_its_objects_and_the_machine_keeps_no_key_to_them(
    machine: RecordedMachine,
) -> None:
    steps = [machine.until("add-ons-apply"), addons.nodes(machine.spec)]
    as_kubelet = ("kubectl", "--kubeconfig", layout.kubeconfig("kubelet"))
    ready = f"curl --fail --silent --cacert {layout.AUTHORITY} https://127.0.0.1:{API_PORT}/readyz"
    eventually("the API is ready", lambda: machine.container.run(ready).returncode == 0)
    node = f"{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}\n"
    machine.container.write("/srv/node.yaml", node)
    machine.container.call(*as_kubelet, "create", "--filename", "/srv/node.yaml")
    for step in (*steps, *steps):
        machine.bring(step)
        for path in (addons.CERTIFICATE, addons.PRIVATE_KEY):
            assert not machine.container.path(path).exists()
    labels = machine.container.call(*as_kubelet, "get", "node", NODE, "--show-labels")
    assert "node-role.kubernetes.io/control-plane=" in labels


def test_a_renewal_of_all_leaves_restarts_only_who_reads_them_once(
    machine: RecordedMachine,
) -> None:
    machine.until("add-ons-apply")
    before = machine.started()
    machine.pairs |= machine.keys.of(NODE)
    machine.bring(machine.until("identity"))
    after = machine.started()
    assert {name for name in before if after[name] != before[name]} == {"flanneld.service"}
    for name in ("etcd", "control-plane", "node"):
        machine.bring(machine.until(name))
    assert machine.started() == after


def of_an_earlier_program(machine: RecordedMachine) -> None:
    """As a program left it that put keys into kubeconfigs and restarted services for every file."""
    spec, state = machine.spec, machine.container.path(f"{STATE}/running")
    for component in ("controller-manager", "scheduler"):
        source = Kubeconfig(layout.KUBECONFIGS[component], layout.local_api_url(spec, NODE))
        content = machine.keys.content(source, machine.pairs)
        machine.container.write(layout.kubeconfig(component), content)
    for unit in (candidate for candidate in machine.plan.units if candidate.name not in LEFT_OUT):
        stamp = state / unit.name
        paths = [line.split("  ")[1] for line in stamp.read_text().splitlines()]
        lines = []
        for path in dict.fromkeys((*paths, *unit.reads)):
            file = machine.container.path(path)
            version = file.readlink() if file.is_symlink() else digest(file.read_text())
            lines.append(f"{version}  {path}\n")
        stamp.write_text("".join(lines))


@pytest.mark.parametrize("renewed", [False, True])
def test_a_cluster_of_an_earlier_program_restarts_each_service_once_at_most(
    machine: RecordedMachine, renewed: bool
) -> None:
    machine.until("add-ons-apply")
    of_an_earlier_program(machine)
    started = [machine.started()]
    if renewed:
        machine.pairs |= machine.keys.of(NODE)
    for name in ("identity", "etcd", "control-plane", "node"):
        machine.bring(machine.until(name))
        started.append(machine.started())
    restarts = Counter(
        name
        for earlier, later in pairwise(started)
        for name in earlier
        if earlier[name] != later[name]
    )
    once = {"kube-controller-manager.service", "kube-scheduler.service"}
    assert restarts == Counter(once | ({"flanneld.service"} if renewed else set()))


# -- a member of etcd that has lost its data -------------------------------------------------------

ETCD = "etcd.service"
LOG = f"{layout.ETCD_DATA}/member/wal"


def test_a_member_without_its_data_is_started_by_nobody(machine: RecordedMachine) -> None:
    """Neither by systemd, as at a boot, nor by its step; with the data back it goes on."""
    machine.until("add-ons-apply")
    step, container = machine.until("etcd"), machine.container
    assert container.path(layout.ETCD_ANSWERED).exists()
    container.call("systemctl", "stop", ETCD)
    container.call("mv", LOG, "/srv/wal")
    for word in ("start", "restart"):
        with pytest.raises(RuntimeError, match="Assertion failed"):
            container.call("systemctl", word, ETCD)
    done = container.run(machine.text(step))
    assert done.returncode == 1
    assert done.stderr.startswith(f"failed: etcd's data is gone from {NODE} ({LOG} has no log)")
    (shown,) = container.shown(ETCD)
    assert (shown["ActiveState"], shown["Job"]) == ("inactive", "")
    assert not container.path(LOG).exists()
    container.call("mv", "/srv/wal", LOG)
    container.call("systemctl", "start", ETCD)
    machine.bring(step)


def test_a_member_is_told_once_how_it_joins(machine: RecordedMachine) -> None:
    """Further words of its command line, of a file that is gone with the next boot."""
    machine.until("add-ons-apply")
    step, container = machine.until("etcd"), machine.container
    options = ["--initial-cluster-state=existing", "--initial-cluster=a=https://a:1,b=https://b:1"]
    assert not any("existing" in word for word in _command_line(machine))
    container.call("mkdir", "--parents", str(Path(layout.ETCD_FIRST_START).parent))
    container.write(layout.ETCD_FIRST_START, f'ONCE="{" ".join(options)}"\n')
    container.call("systemctl", "restart", ETCD)
    assert _command_line(machine)[-2:] == options
    # A member with its data does not look at them, and its step takes them away.
    machine.bring(step)
    assert not container.path(layout.ETCD_FIRST_START).exists()
    container.call("systemctl", "restart", ETCD)
    assert all(_command_line(machine))
    assert not any("existing" in word for word in _command_line(machine))


def _command_line(machine: RecordedMachine) -> list[str]:
    machine.container.settled(ETCD)
    (shown,) = machine.container.shown(ETCD)
    return machine.container.read(f"/proc/{shown['MainPID']}/cmdline").split("\0")[:-1]
