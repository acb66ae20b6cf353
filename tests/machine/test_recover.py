"""A cluster whose state is lost gets a new one, from a file with its keys and its own machines."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(3600),
    at_length,
]

CLUSTER = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "aei", "cpus": 2},
        "minion1": {"address": "192.168.1.11", "roles": "i"},
    },
    "addons": {"storage": True},
}

RUNNING = """
echo boot $(cat /proc/sys/kernel/random/boot_id)
for unit in etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet; do
    echo $unit $(systemctl show --property MainPID --value $unit)
done
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from brought_up(
        "mtrecover", CLUSTER, tmp_path_factory, request.session, lambda lab: lab.hardway("up")
    )


@pytest.fixture(scope="module")
def saved(lab: Lab) -> Path:
    """A file with the keys, as a person keeps it; its passphrase stands in another one."""
    (lab.folder / "passphrase").write_text("four words of a test\n")
    file = lab.folder / "mtrecover.secrets"
    lab.hardway("backup", "secrets", str(file), *opening(lab))
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def opening(lab: Lab) -> tuple[str, str]:
    return "--passphrase-file", str(lab.folder / "passphrase")


def machines(lab: Lab) -> dict[str, str]:
    """What runs on each machine, with the processes, and which machine it is to libvirt."""
    return {
        node: lab.virsh("domuuid", f"{lab.stack}-{node}").strip() + lab.on(node, RUNNING)
        for node in lab.cluster["machines"]
    }


def lose_the_state(lab: Lab) -> None:
    """As with a disk of this computer, of which the lab's libvirt is not a part."""
    shutil.rmtree(lab.paths.backend)
    shutil.rmtree(lab.paths.state / "config")
    (lab.paths.state / "passphrase").unlink()


def test_a_cluster_without_its_state_gets_a_new_one(lab: Lab, saved: Path) -> None:
    lab.kubectl("create", "secret", "generic", "kept", "--from-literal=a=b")
    before = machines(lab)
    lose_the_state(lab)
    refused = lab.hardway("up", ok=False)
    assert refused.returncode != 0
    assert "./hardway recover" in refused.stdout + refused.stderr

    unasked = lab.hardway("recover", str(saved), *opening(lab))
    assert "Write the state with" in unasked.stdout
    lab.hardway("recover", str(saved), *opening(lab), "--yes")
    lab.hardway("recover", str(saved), *opening(lab), "--yes")
    others = {name: verb for name, verb in lab.changes("--refresh").items() if verb != "create"}
    # What a provider is configured with is no part of a machine.
    assert set(others.items()) <= {("libvirt", "update"), ("default", "update")}
    lab.hardway("up", "--refresh")
    after = machines(lab)
    assert after == before
    secret = lab.objects("secret", "kept")
    assert secret["data"] == {"a": "Yg=="}
    lab.pulumi("preview", "--refresh", "--expect-no-changes")
    lab.hardway("drift")
    lab.hardway("validate", "--wait", "1200")


def test_a_state_that_is_there_is_left_alone(lab: Lab, saved: Path) -> None:
    before = json.loads(lab.pulumi("stack", "export").stdout)
    refused = lab.hardway("recover", str(saved), *opening(lab), "--yes", ok=False)
    assert "has a state" in refused.stderr
    assert json.loads(lab.pulumi("stack", "export").stdout) == before


def test_keys_that_turned_over_since_are_refused(lab: Lab, saved: Path) -> None:
    lab.describe({**CLUSTER, "keys": {"encryption": 2}})
    lab.hardway("up")
    lose_the_state(lab)
    lab.describe(CLUSTER)
    refused = lab.hardway("recover", str(saved), *opening(lab), "--yes", ok=False)
    assert "master has another /etc/kubernetes/encryption.yaml" in refused.stderr
    lab.describe({**CLUSTER, "keys": {"encryption": 2}})
    refused = lab.hardway("recover", str(saved), *opening(lab), "--yes", ok=False)
    assert "keys.encryption" in refused.stderr
