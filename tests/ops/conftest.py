"""A stack of the lab whose program a test writes, in a project of its own."""

from pathlib import Path

import pytest
import yaml

from lab.paths import PROJECT, LabPaths
from lab.stack import Stack
from lab.toolchain import Toolchain

CLUSTER = {
    "hypervisor": {"uri": "qemu:///system", "image": "base"},
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": {"address": "192.168.1.10", "roles": "ai"}},
}


@pytest.fixture
def stack(
    toolchain: Toolchain, paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stack:
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: hardway\nruntime: python\n")
    (project / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": {"hardway:cluster": CLUSTER}})
    )
    for room in ("certs", "spec"):
        (project / room).symlink_to(PROJECT / room)
    for module in ("lab.stack", "ops.stacks"):
        monkeypatch.setattr(f"{module}.PROJECT", project)
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    return Stack("dev", paths, toolchain)
