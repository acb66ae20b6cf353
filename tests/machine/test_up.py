"""One machine from nothing to nothing: what ``make up`` and ``make down`` promise, for real."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from lab import libvirt
from lab.paths import PROJECT, LabPaths, lab_paths

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400)]

ADDRESS = "192.168.1.10"


class Lab:
    """A lab of the tests' own, driven through the door as a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "HARDWAY_LAB": f"m{os.getpid() % 10**6}",
        }
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK"):
            self.environment.pop(name, None)
        self.transcript = ""

    @property
    def paths(self) -> LabPaths:
        saved = {name: os.environ.get(name) for name in ("XDG_STATE_HOME", "HARDWAY_LAB")}
        os.environ.update({name: self.environment[name] for name in saved})
        try:
            return lab_paths()
        finally:
            for name, value in saved.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def hardway(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROJECT / "hardway", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = "(secrets)\n" if "--show-secrets" in words else done.stdout
        self.transcript += f"$ hardway {' '.join(words)}\n{printed}{done.stderr}\n"
        if ok:
            assert done.returncode == 0, f"{words}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def libvirt(self) -> libvirt.Libvirt:
        found = libvirt.find(self.paths)
        assert found is not None
        return found

    @cached_property
    def outputs(self) -> dict[str, Any]:
        words = ("pulumi", "stack", "output", "--json", "--show-secrets")
        found: dict[str, Any] = json.loads(self.hardway(*words).stdout)
        return found

    def ssh(self, command: str, *, host_key: str | None = None) -> subprocess.CompletedProcess[str]:
        key = self.folder / "key"
        if not key.exists():
            key.touch(0o600)
            key.write_text(self.outputs["ssh_private_key"])
        known = self.folder / "known_hosts"
        known.write_text(f"{ADDRESS} {host_key or self.outputs['nodes']['master']['host_key']}\n")
        return subprocess.run(
            libvirt.enter(self.libvirt())
            + ["ssh", "-i", str(key), "-F", "none", "-o", f"UserKnownHostsFile={known}"]
            + ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
            + ["-o", "ConnectTimeout=30", f"root@{ADDRESS}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.hardway("up")
        yield lab
    finally:
        lab.hardway("down", ok=False)
        print(lab.transcript)  # shown by pytest where a test fails


def test_the_machine_answers_at_its_address_with_the_host_key_it_was_given(lab: Lab) -> None:
    done = lab.ssh("hostname; ip -4 -brief address show scope global; cat /etc/machine-id")
    assert done.returncode == 0, done.stderr
    name, interface, machine_id = done.stdout.splitlines()
    assert name == "master"
    assert f" {ADDRESS}/24" in interface
    assert len(machine_id) == 32, "made at the first boot, not part of the image"


def test_another_host_key_is_refused(lab: Lab) -> None:
    from certs.ssh import new_key_pair

    done = lab.ssh("true", host_key=new_key_pair().public)
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_the_machine_holds_the_default_versions_artifacts_with_the_right_bytes(lab: Lab) -> None:
    done = lab.ssh("cd /var/lib/hardway/store/sha256 && for f in *; do sha256sum $f; done")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) >= 20
    assert all(digest == name for digest, name in rows)


def test_a_second_preview_is_empty(lab: Lab) -> None:
    lab.hardway("pulumi", "preview", "--expect-no-changes")


def test_the_mirror_serves_the_store_to_the_machine(lab: Lab) -> None:
    done = lab.ssh("ls /var/lib/hardway/store/sha256 | head -1")
    digest = done.stdout.strip()
    status = json.loads(lab.hardway("status", "--json").stdout)
    told = lab.ssh(f"curl -fsS {status['mirror']}/sha256/{digest} | sha256sum")
    assert told.stdout.split()[:1] == [digest], told.stderr


def test_nothing_secret_is_in_the_plain_state_and_the_checkout_is_unchanged(lab: Lab) -> None:
    key = lab.outputs["ssh_private_key"]
    body = "".join(key.splitlines()[1:-1])[:60]
    assert len(body) == 60
    for file in lab.paths.backend.rglob("*.json*"):
        text = file.read_text()
        assert body not in text.replace("\\n", ""), file
        assert "PRIVATE KEY" not in text, file
    assert "encryptionsalt" not in (PROJECT / "Pulumi.dev.yaml").read_text()
    assert (lab.paths.state / "passphrase").stat().st_mode & 0o777 == 0o600


def test_after_a_reset_the_machine_comes_back_and_the_preview_is_still_empty(lab: Lab) -> None:
    before = lab.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    libvirt.virsh(lab.libvirt(), "reset", "dev-master")
    for _ in range(60):
        done = lab.ssh("cat /proc/sys/kernel/random/boot_id")
        if done.returncode == 0 and done.stdout != before:
            break
        time.sleep(1)
    assert done.returncode == 0, done.stderr
    assert done.stdout != before
    lab.hardway("pulumi", "preview", "--expect-no-changes")


def test_after_down_nothing_is_left_but_the_cache(lab: Lab) -> None:
    paths = lab.paths
    state = json.loads(lab.hardway("status", "--json").stdout)
    assert state["machines"] != "none"
    lab.hardway("down")
    assert libvirt.processes(paths) == []
    assert not Path(f"/run/netns/{paths.namespace}").exists()
    assert not paths.run.exists()
    assert not paths.state.exists()
    assert paths.namespace not in Path("/proc/self/mountinfo").read_text()
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "dev-master" not in left
    assert str(paths.state) not in left
    again = lab.hardway("down")
    assert "Traceback" not in again.stderr
