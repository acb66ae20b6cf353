"""How verbs come to a cluster: through a real Pulumi's state, and into a real namespace."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from certs.ssh import SshKeyPair
from lab import namespace
from lab.paths import PROJECT, LabPaths
from lab.problem import Problem
from lab.stack import Stack, offer_path, stack_in_lab
from lab.toolchain import Toolchain
from ops.reach import INSIDE, kept_kubeconfig, opened, reach, secrets_of
from preview.registration import SECRET, SIGNATURE
from spec.cluster import ArtifactSource
from spec.hypervisor import Libvirt
from spec.offer import OFFER_VARIABLE, Offer
from tests.ops.conftest import CLUSTER, MASTER

KEYS = """\
import pulumi
from certs.table import FOR_PEOPLE
from certs.tracked import TrackedAuthorities, TrackedBundle, TrackedSshKeys

own = pulumi.ResourceOptions()
keys = TrackedSshKeys("ssh-key", own)
authorities = TrackedAuthorities("authorities", own)
people = TrackedBundle("people-keys", FOR_PEOPLE, authorities, own)
"""

BREAKS = (
    KEYS
    + """
def broken(_):
    raise pulumi.RunError("no machine")
pulumi.export("nodes", people.kept.apply(broken))
"""
)

ENDS = (
    KEYS
    + """
host_key = keys.host("master").public
pulumi.export("nodes", {"master": {"address": "192.168.1.10", "host_key": host_key}})
pulumi.export("ssh_private_key", pulumi.Output.secret(keys.private))
pulumi.export("kubeconfig", pulumi.Output.secret("a kubeconfig"))
"""
)

APPLIED = (
    ENDS
    + """
from components.specification import Specification
from spec.cluster import parse
spec = parse(pulumi.Config("hardway").require_object("cluster"), name="dev")
Specification(spec, own)
"""
)


OFFERED = (
    APPLIED.replace("spec = parse(", "spec = with_offer(parse(")
    .replace('name="dev")', 'name="dev"), offered())')
    .replace("from spec.cluster", "from spec.offer import offered, with_offer\nfrom spec.cluster")
)


def up(stack: Stack, program: str) -> int:
    folder = stack.file.parent
    (folder / "__main__.py").write_text(program)
    return stack.pulumi("up", "--yes", "--skip-preview", capture=True, cwd=folder).returncode


@pytest.mark.engine
def test_a_stack_that_was_never_up_is_one_sentence(stack: Stack) -> None:
    for _ in range(2):
        with pytest.raises(Problem, match=r"'dev' is not up: bring it up with ./hardway up"):
            opened("dev")
        stack.paths.backend.mkdir(parents=True, exist_ok=True)
    stack.create()
    with pytest.raises(Problem, match="is not up"):
        opened("dev")


@pytest.mark.engine
def test_keys_open_a_stack_whose_first_update_broke_and_outputs_one_that_ended(
    stack: Stack,
) -> None:
    stack.create()
    assert up(stack, BREAKS) != 0
    before = reach("dev")
    machine = before.access.machines["master"]
    assert machine.address == "192.168.1.10"
    load_ssh_private_key(before.access.ssh_key.encode(), None)
    load_ssh_public_key(machine.host_key.encode())
    assert before.access.kubeconfig is None

    state = before.state
    config = yaml.safe_load(kept_kubeconfig(before.spec, state) or "")
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.1.10:6443"
    certificate = x509.load_pem_x509_certificate(
        b64decode(config["users"][0]["user"]["client-certificate-data"])
    )
    assert "kubernetes-admin" in certificate.subject.rfc4514_string()

    secrets = secrets_of(state)
    assert before.access.ssh_key in secrets
    assert any("PRIVATE KEY" in s and "admin" in s for s in secrets)
    assert "192.168.1.10" not in secrets

    assert up(stack, ENDS) == 0
    after = reach("dev")
    assert after.access.kubeconfig == "a kubeconfig"
    assert after.access.machines == before.access.machines
    assert after.access.ssh_key == before.access.ssh_key


def edited(stack: Stack, **more: object) -> None:
    config = {"config": {"hardway:cluster": {**CLUSTER, **more}}}
    stack.file.write_text(yaml.safe_dump(config))


@pytest.mark.engine
def test_a_cluster_is_what_was_applied_whatever_its_file_says_since(
    stack: Stack,
) -> None:
    for room in ("components", "hypervisors", "plan"):
        (stack.file.parent / room).symlink_to(PROJECT / room)
    stack.create()
    assert up(stack, APPLIED) == 0
    reached = reach("dev")
    assert reached.unapplied is None
    assert reached.spec.versions.kubernetes == "1.37.1"
    assert reached.spec.hypervisor is not None

    # Where the machines run is not in the specification that the state keeps: the file says it.
    edited(stack, hypervisor={"uri": "qemu:///session", "image": "another"})
    reached = reach("dev")
    assert reached.unapplied is None
    assert getattr(reached.spec.hypervisor, "uri", None) == "qemu:///session"

    more = {"minion": {"address": "192.168.1.11"}}
    edited(stack, kubernetes="1.36.3", machines={"master": MASTER, **more})
    reached = reach("dev")
    assert reached.spec.versions.kubernetes == "1.37.1"
    assert list(reached.spec.machines) == ["master"]
    assert reached.unapplied
    assert "Pulumi.dev.yaml has changes that were not applied" in reached.unapplied
    assert "./hardway preview --live shows them" in reached.unapplied

    stack.file.write_text("config: {hardway:cluster: {networks: {machines: nowhere}}}")
    reached = reach("dev")
    assert list(reached.spec.machines) == ["master"]
    assert reached.unapplied
    assert "networks.machines" in reached.unapplied


@pytest.mark.engine
def test_what_the_lab_offered_is_no_change_of_the_file(stack: Stack) -> None:
    for room in ("components", "hypervisors", "plan"):
        (stack.file.parent / room).symlink_to(PROJECT / room)
    cluster = {key: value for key, value in CLUSTER.items() if key != "hypervisor"}
    stack.file.write_text(yaml.safe_dump({"config": {"hardway:cluster": cluster}}))
    offer = Offer(
        hypervisor=Libvirt(uri="qemu:///session", image="base"),
        artifacts=ArtifactSource(),
        name_servers=(IPv4Address("192.0.2.53"),),
    )
    file = offer_path(stack.paths, "dev")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(offer.written())
    stack = replace(stack, extra={**(stack.extra or {}), OFFER_VARIABLE: str(file)})
    stack.create()
    assert up(stack, OFFERED) == 0
    applied = opened("dev")
    assert applied.unapplied is None
    assert applied.spec.networks.name_servers == offer.name_servers

    networks = {"machines": "192.168.1.0/24", "name_servers": ["192.0.2.54"]}
    changed = {**cluster, "networks": networks}
    stack.file.write_text(yaml.safe_dump({"config": {"hardway:cluster": changed}}))
    assert "has changes that were not applied" in str(opened("dev").unapplied)


@pytest.mark.engine
def test_where_nothing_was_applied_the_mistakes_of_the_file_are_told(stack: Stack) -> None:
    stack.file.write_text("config: {hardway:cluster: {networks: {machines: nowhere}}}")
    with pytest.raises(Problem, match=r"networks\.machines"):
        reach("dev")
    stack.create()
    with pytest.raises(Problem, match=r"networks\.machines"):
        reach("dev")


def test_what_is_plain_elsewhere_in_the_state_is_no_secret() -> None:
    def hidden(value: object) -> dict[str, str]:
        return {SIGNATURE: SECRET, "plaintext": json.dumps(value)}

    key = SshKeyPair(private="private text", public="public text")
    resource = {
        "urn": "urn:pulumi:dev::hardway::x::y",
        "type": "x",
        "inputs": {"connection": hidden({"host": "10.0.0.1", "key": key.private})},
        "outputs": {"address": "10.0.0.1", "list": [hidden(key.public)], "known": key.public},
    }
    state = {"deployment": {"resources": [resource]}}
    assert secrets_of(state) == {"private text"}
    assert secrets_of({"deployment": {"resources": None}}) == frozenset()


# -- the namespace -------------------------------------------------------------------------------

COME_INSIDE = f"""\
import sys
sys.path.insert(0, {str(PROJECT)!r})
from lab.paths import lab_paths
from ops import reach
sys.path.pop(0)
reach._come_inside("dev", lab_paths())
print("stayed")
"""

SHOW = f"""\
import json, os, sys
print(json.dumps([sys.argv[1:], os.stat("/proc/self/ns/net").st_ino, os.environ[{INSIDE!r}]]))
"""


@pytest.fixture
def lab(paths: LabPaths) -> Iterator[Path]:
    namespace.make(paths)
    yield namespace.namespace_path(paths)
    namespace.remove(paths)


def come_inside(folder: Path, *before: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Come inside in a process of its own, where ``-m ops`` says what became of it."""
    (folder / "ops").mkdir(exist_ok=True)
    (folder / "ops" / "__main__.py").write_text(SHOW)
    (folder / "come.py").write_text(COME_INSIDE)
    command = [*before, sys.executable, str(folder / "come.py"), "ssh", "m", "--", "ls", "-l a"]
    without = ("PYTHONPATH", "PYTHONSAFEPATH")
    environment = {k: v for k, v in os.environ.items() if k not in without} | more
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.machine
def test_the_same_command_is_started_again_in_the_labs_namespace(lab: Path, tmp_path: Path) -> None:
    done = come_inside(tmp_path)
    assert done.returncode == 0, done.stderr
    arguments, inode, marker = json.loads(done.stdout)
    assert arguments == ["ssh", "m", "--", "ls", "-l a"]
    assert inode == lab.stat().st_ino
    assert marker == str(lab)


@pytest.mark.machine
def test_inside_it_stays_and_where_it_cannot_come_in_it_does_not_try_for_ever(
    lab: Path, tmp_path: Path
) -> None:
    done = come_inside(tmp_path, "nsenter", f"--net={lab}")
    assert done.stdout == "stayed\n", done.stderr
    done = come_inside(tmp_path, **{INSIDE: str(lab)})
    assert "cannot be entered" in done.stderr
    assert done.returncode == 1


@pytest.mark.machine
@pytest.mark.usefixtures("lab")
def test_pulumi_runs_in_the_lab_for_the_stacks_whose_machines_are_there(
    paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.libvirt._answers", lambda *_: True)
    tools = Toolchain(pulumi=tmp_path, programs=tmp_path, home=tmp_path, choices=())
    offer = offer_path(paths, "inside")
    offer.parent.mkdir(parents=True)
    offer.write_text('{"hypervisor": {"uri": "qemu:///session"}}')
    assert "nsenter" in stack_in_lab("inside", paths, tools).enter
    assert not stack_in_lab("outside", paths, tools).enter


def test_without_a_lab_the_person_is_told_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.libvirt.SYSTEM_SOCKET", tmp_path / "none")
    with pytest.raises(Problem, match=r"does not run.*\./hardway up --stack dev"):
        reach("dev")
