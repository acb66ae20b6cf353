"""A stack of the lab whose program a test writes, in a project of its own."""

from pathlib import Path

import pytest
import yaml

from lab.paths import PROJECT, LabPaths
from lab.stack import Stack
from lab.toolchain import Toolchain
from tests.engine.sshd import privilege_separation_directory

__all__ = ["privilege_separation_directory"]

MASTER = {"address": "192.168.1.10", "roles": "ai"}
CLUSTER = {
    "hypervisor": {"uri": "qemu:///system", "image": "base"},
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": MASTER},
}


@pytest.fixture
def stack(
    toolchain: Toolchain, paths: LabPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Stack:
    (project / "Pulumi.yaml").write_text("name: hardway\nruntime: python\n")
    (project / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": {"hardway:cluster": CLUSTER}})
    )
    for room in ("certs", "spec"):
        (project / room).symlink_to(PROJECT / room)
    monkeypatch.setattr("ops.stacks.PROJECT", project)
    return Stack("dev", paths, toolchain)
