"""A cluster that an earlier revision of the program made goes on under this revision."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.paths import PROJECT
from tests.machine.lab import Lab, at_length, brought_up

pytestmark = [pytest.mark.machine, pytest.mark.timeout(5400), at_length]

EARLIER = "63e4eb2"
"""The last revision whose steps were shell scripts and whose machines had no lists."""

CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {
        "master": {"address": "192.168.1.10", "roles": "ae", "memory": 2048},
        "minion": {"address": "192.168.1.11", "roles": "i", "memory": 2048},
    },
}
SERVICES = "etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet"
CHANGED = ("etcd", "kube-apiserver", "kube-controller-manager")
"""The services whose flags or files have changed since then, all on the control plane."""
STARTED = f"systemctl show --property Id,InvocationID {SERVICES} kube-proxy flanneld"


def git(*arguments: str | Path, ok: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "-C", PROJECT, *arguments], check=ok, capture_output=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the earlier revision."""
    if git("cat-file", "-e", f"{EARLIER}^{{commit}}", ok=False).returncode != 0:
        pytest.skip(f"this clone's history does not reach back to {EARLIER}")
    folder = tmp_path_factory.mktemp("earlier")
    archive = git("archive", EARLIER).stdout
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive, check=True)
    return folder


@pytest.fixture(scope="module")
def lab(
    earlier: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Lab]:
    def up(lab: Lab) -> None:
        lab.program = earlier
        lab.describe(CLUSTER)
        lab.hardway("up")
        lab.program = PROJECT

    yield from brought_up("mtad", CLUSTER, tmp_path_factory, request.session, up)


def started(lab: Lab) -> dict[str, str]:
    """Machine and unit to the unit's present run."""
    return {
        f"{name} {unit}": run
        for name in CLUSTER["machines"]
        for unit, run in (
            (shown["Id"], shown["InvocationID"])
            for block in lab.on(name, STARTED).strip().split("\n\n")
            for shown in [dict(line.split("=", 1) for line in block.splitlines())]
        )
    }


def test_an_update_restarts_what_changed_and_the_next_preview_is_empty(lab: Lab) -> None:
    before = started(lab)
    shown = json.loads(lab.pulumi("preview", "--json").stdout)
    assert not [step["urn"] for step in shown["steps"] if "replace" in step["op"]]
    lab.hardway("up")
    after = started(lab)
    changed = {f"master {name}.service" for name in CHANGED}
    assert {unit for unit in after if after[unit] != before[unit]} == changed
    lab.pulumi("preview", "--expect-no-changes")
    lab.pulumi("preview", "--refresh", "--expect-no-changes")
    lab.hardway("validate", "--wait", "1200")


def test_what_the_earlier_revision_brought_is_taken_away_later(lab: Lab) -> None:
    lists = "ls /var/lib/hardway/applied"
    assert {"control-plane", "identity", "runtime"} <= set(lab.on("master", lists).split())
    lab.describe({**CLUSTER, "addons": {"coredns": False}})
    lab.hardway("up")
    names = lab.kubectl("get", "deployments,services,configmaps", "-n", "kube-system", "-o", "name")
    assert "dns" not in names
    lab.pulumi("preview", "--expect-no-changes")
