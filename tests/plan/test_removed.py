"""A member of etcd that the others removed, under its machine's systemd."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from plan import etcd, identity, layout, render
from plan.model import Step
from spec.cluster import ArtifactSource, Cluster
from tests.certs.clusters import APART
from tests.engine.stack import eventually
from tests.plan.container import Container
from tests.plan.running import Keys, stored_program
from tests.plan.stored import as_root

pytestmark = [as_root, pytest.mark.timeout(900)]

OWN, OTHERS = "e3", ("e1", "e2")
NETWORK = """
cable() { # a cable between two network namespaces with these addresses
    ip -n "$1" link add "to-$3" type veth peer name "to-$1" netns "$3"
    ip -n "$1" address add "$2" peer "$4" dev "to-$3"
    ip -n "$3" address add "$4" peer "$2" dev "to-$1"
    ip -n "$1" link set "to-$3" up
    ip -n "$3" link set "to-$1" up
}
ip netns attach own $$
for name in e1 e2; do ip netns add "$name"; done
cable own "$3" e1 "$1"
cable own "$3" e2 "$2"
cable e1 "$1" e2 "$2"
"""
"""A member takes another one only from the address that its certificate names."""
CTL = f"etcdctl --endpoints={layout.etcd_url(APART, OTHERS[0])} " + " ".join(
    f"--{word}={path}" for word, path in zip(("cacert", "cert", "key"), etcd.OPERATOR, strict=True)
)


def with_programs(spec: Cluster = APART) -> tuple[Cluster, dict[str, Path]]:
    """The cluster with its real programs, and where these are here."""
    files = {name: stored_program(name, spec.versions) for name in etcd.PROGRAMS}
    own = {
        f"{name}-{spec.versions.etcd}": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
    }
    return spec.model_copy(update={"artifacts": ArtifactSource(digests=own)}), files


def begin_other(machine: Container, spec: Cluster, keys: Keys, name: str) -> None:
    """Run another machine's member beside, with its files and data elsewhere."""

    def here(text: str) -> str:
        return text.replace("/etc/", f"/srv/{name}/etc/").replace("/var/", f"/srv/{name}/var/")

    pairs = keys.of(name)
    for secret in identity.step(spec, name).secret_files:
        machine.write(here(secret.path), keys.content(secret.source, pairs), 0o600)
    unit = etcd.unit(spec, name)
    flags = {
        **unit.flags,
        "listen-client-urls": layout.etcd_url(spec, name),
        "initial-cluster": etcd.initial_cluster(spec),
    }
    del flags["listen-metrics-urls"]
    options = [f"--{flag}={here(value)}" for flag, value in flags.items()]
    (program,) = (
        artifact for artifact in etcd.step(spec, name).artifacts if artifact.name == "etcd"
    )
    network = f"--property=NetworkNamespacePath=/run/netns/{name}"
    machine.call("systemd-run", f"--unit={name}", network, program.store_path, *options)


@pytest.mark.parametrize("founders", [(*OTHERS, OWN), (OWN,)], ids=["all", "alone"])
def test_nobody_begins_the_cluster_while_the_machine_of_a_member_is_off(
    new_machine: Callable[..., Container], founders: tuple[str, ...]
) -> None:
    spec, files = with_programs()
    machine, keys = new_machine(), Keys(spec)
    step = etcd.founded(etcd.step(spec, OWN), founders)
    pairs = keys.of(OWN)
    for artifact in step.artifacts:
        machine.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
    done = machine.run(render.text(identity.step(spec, OWN), lambda it: keys.content(it, pairs)))
    assert (done.returncode, done.stderr) == (0, "")
    child = machine.begin(render.text(step, lambda source: keys.content(source, pairs)))
    assert child.stdout
    lines = iter(child.stdout.readline, "")
    assert "until the first members are up\n" in lines
    assert not machine.path(layout.ETCD_FIRST_START).exists()
    # Their machines answer, and the members begin only after this one.
    addresses = [str(spec.machines[name].address) for name in (*OTHERS, OWN)]
    machine.call("bash", "-euc", NETWORK, "bash", *addresses)
    eventually("it begins", machine.path(layout.ETCD_FIRST_START).exists)
    for name in founders[:-1]:
        begin_other(machine, spec, keys, name)
    assert list(lines)[-1] == f"{step.outcome}\n"
    assert child.wait() == 0
    child.communicate()


def test_a_removed_member_is_started_no_more_and_its_step_makes_it_anew(
    new_machine: Callable[..., Container],
) -> None:
    spec, files = with_programs()
    machine, keys, step = new_machine(), Keys(spec), etcd.step(spec, OWN)
    pairs = keys.of(OWN)
    addresses = [str(spec.machines[name].address) for name in (*OTHERS, OWN)]
    machine.call("bash", "-euc", NETWORK, "bash", *addresses)
    for artifact in step.artifacts:
        machine.write(artifact.store_path, files[artifact.name].read_bytes(), 0o755)
    for name in OTHERS:
        begin_other(machine, spec, keys, name)

    def bring(brought: Step) -> str:
        done = machine.run(render.text(brought, lambda source: keys.content(source, pairs)))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def members() -> dict[str, list[str]]:
        """Name to ID, state, URLs and whether it learns, as the others know it."""
        rows = (
            row.split(", ") for row in machine.call(*CTL.split(), "member", "list").splitlines()
        )
        return {row[2]: row for row in rows}

    def shown() -> tuple[str, str]:
        (service,) = machine.shown(etcd.UNIT)
        return service["ActiveState"], service["Job"]

    bring(identity.step(spec, OWN))
    bring(step)
    was = members()[OWN][0]
    removal = (*CTL.split(), "member", "remove", was)
    eventually(
        # For a moment after a member came up the others call the cluster unhealthy.
        "the member is removed",
        lambda: machine.start(*removal).wait() == 0,
    )
    eventually(
        "systemd has given it up",
        lambda: machine.path(layout.ETCD_REMOVED).exists() and shown()[0] in ("inactive", "failed"),
    )
    assert shown()[1] == ""
    machine.call("systemctl", "start", etcd.UNIT)
    assert shown()[0] in ("inactive", "failed")
    log = machine.path(f"{layout.ETCD_DATA}/member/wal")
    assert list(log.glob("*.wal")), "nobody but its step deletes its data"

    assert f"have removed {OWN} (its data is of the member {was}, " in bring(step)
    assert not machine.path(layout.ETCD_REMOVED).exists()
    now = members()
    assert {name: (row[1], row[5]) for name, row in now.items()} == dict.fromkeys(
        (*OTHERS, OWN), ("started", "false")
    )
    assert now[OWN][0] != was
    started = machine.settled(etcd.UNIT)
    assert bring(step).splitlines()[-1] == step.outcome
    assert (machine.settled(etcd.UNIT), members()) == (started, now)
    # Whatever else ends it, it is started again.
    machine.call("systemctl", "kill", "--signal=KILL", etcd.UNIT)
    eventually("it runs again", lambda: members() == now and shown() == ("active", ""))
    # But not without its data, as if it had never confirmed anything.
    machine.call("rm", "--recursive", f"{layout.ETCD_DATA}/member")
    machine.call("systemctl", "kill", "--signal=KILL", etcd.UNIT)
    eventually("systemd has given it up again", lambda: shown()[0] in ("inactive", "failed"))
    assert shown()[1] == ""
    assert not list(log.glob("*.wal"))
