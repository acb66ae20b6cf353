"""A real machine on a real libvirt, up to a member of etcd: what every role stands on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.ssh import new_key_pair
from lab import libvirt
from lab.cache import Cache
from lab.offer import Phases, prepare_lab
from lab.progress import PlainProgress
from plan import layout
from spec.cluster import parse
from tests.machine.lab import Lab

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800)]

CLUSTER = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": {"address": "192.168.1.10"}},
}
UNTIL_ETCD = ("--exclude", "**::master-control-plane", "--exclude-dependents")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), stack="mtone")
    lab.describe(CLUSTER)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("XDG_STATE_HOME", "HARDWAY_LAB"):
                patch.setenv(name, lab.environment[name])
            spec = parse(CLUSTER, name=lab.stack)
            prepare_lab(lab.stack, spec, lab.paths, Cache(), PlainProgress(), Phases())
        lab.pulumi("up", "--yes", "--skip-preview", *UNTIL_ETCD)
        yield lab
    finally:
        lab.close(failed=False)


def test_the_machine_answers_with_the_host_key_that_it_was_given(lab: Lab) -> None:
    said = lab.on("master", "hostname; ip -4 -brief address show scope global; cat /etc/machine-id")
    name, interface, machine_id = said.splitlines()
    assert name == "master"
    assert " 192.168.1.10/24" in interface
    assert len(machine_id) == 32, "made at the first boot, not part of the image"
    key, known = lab.folder / "key", lab.folder / "known_hosts"
    key.touch(0o600)
    key.write_text(lab.access().ssh_key)
    known.write_text(f"192.168.1.10 {new_key_pair().public}\n")
    done = lab.inside(
        *("ssh", "-i", str(key), "-F", "none", "-o", f"UserKnownHostsFile={known}"),
        *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "root@192.168.1.10", "true"),
    )
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_it_holds_the_artifacts_with_the_right_bytes(lab: Lab) -> None:
    said = lab.on("master", "cd /var/lib/hardway/store/sha256 && sha256sum *")
    rows = [line.split() for line in said.splitlines()]
    assert len(rows) >= 20
    assert all(digest == name for digest, name in rows)


def test_etcd_is_healthy_and_refuses_who_has_no_certificate(lab: Lab) -> None:
    client = (
        f"--cacert={layout.MEMBER_AUTHORITY} "
        f"--cert={layout.certificate('etcd-healthcheck-client')} "
        f"--key={layout.private_key('etcd-healthcheck-client')}"
    )
    assert "is healthy" in lab.on("master", f"etcdctl {client} endpoint health 2>&1")
    done = lab.inside("curl", "-sk", "-m", "30", "https://192.168.1.10:2379/version")
    assert (done.returncode != 0, done.stdout) == (True, "")


def test_nothing_secret_is_in_the_plain_state_and_a_second_preview_is_empty(lab: Lab) -> None:
    body = "".join(lab.access().ssh_key.splitlines()[1:-1])[:60]
    assert len(body) == 60
    for file in lab.paths.backend.rglob("*.json*"):
        text = file.read_text().replace("\\n", "")
        assert body not in text, file
        assert "PRIVATE KEY-----" not in text, file
    assert (lab.paths.state / "passphrase").stat().st_mode & 0o777 == 0o600
    lab.pulumi("preview", "--expect-no-changes", *UNTIL_ETCD)


def test_down_works_with_a_hung_machine_and_leaves_only_the_cache(lab: Lab) -> None:
    lab.virsh("suspend", f"{lab.stack}-master")
    paths = lab.paths
    lab.hardway("down")
    assert libvirt.processes(paths) == []
    assert not Path(f"/run/netns/{paths.namespace}").exists()
    assert not paths.run.exists()
    assert not paths.state.exists()
    left = [
        command
        for pid in os.listdir("/proc")
        if pid.isdigit() and (command := _command(Path("/proc", pid)))
        if f"{lab.stack}-master" in command
    ]
    assert left == []


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
