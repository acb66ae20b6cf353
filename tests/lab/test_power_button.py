"""A machine shuts down when its power button is pressed: the image's own kernel and systemd."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lab import offer
from lab.cache import Cache
from lab.image import base_image
from lab.paths import LabPaths
from lab.progress import PlainProgress
from plan import library, render
from plan.cluster import node_plan
from tests.engine.stack import eventually
from tests.lab.test_grown_machine import make_disk, make_program, shell_first, start, tell
from tests.lab.test_image import debian
from tests.plan.golden import golden_spec

__all__ = ["debian"]

# The first of the machine's programs makes a service of the step, and becomes systemd.
PROGRAM = """
mount -t tmpfs tmpfs /run
touch /etc/cloud/cloud-init.disabled
sh -s <<'END-OF-SCRIPTS'
{scripts}END-OF-SCRIPTS
cat >/root/step <<'END-OF-STEP'
{step}END-OF-STEP
cat >/etc/systemd/system/step.service <<'END-OF-UNIT'
[Unit]
After=systemd-logind.service
ConditionPathExists=/root/step
[Service]
Type=oneshot
ExecStart=/bin/sh -c "{line} </root/step"
ExecStopPost=/bin/rm /root/step
ExecStopPost=/bin/sh -c "echo STEP $EXIT_STATUS >/dev/ttyS0"
END-OF-UNIT
ln -s ../step.service /etc/systemd/system/multi-user.target.wants/
umount /run
exec /sbin/init
"""

LINE = f"cd {library.PLACE}/{library.FOLDER.name}; exec bash -euo pipefail -c '. ./step.sh'"
"""Runs a step; its time limit and the digest of its scripts are no matter here."""

ALONE = (
    "systemd.mask=systemd-networkd-wait-online.service systemd.mask=cloud-init-main.service",
    "systemd.show_status=true",
)
"""Without a network or somebody who configures it."""


@pytest.mark.machine
@pytest.mark.timeout(1800)
def test_a_machine_obeys_its_power_button_after_its_first_step_and_at_each_boot(
    debian: Cache, paths: LabPaths, tmp_path: Path
) -> None:
    image = base_image(debian, (), PlainProgress(), logs=paths.logs)
    assert image.kernel
    assert image.initrd
    disk, program, initrd = tmp_path / "disk", tmp_path / "program", tmp_path / "initrd"
    make_disk(disk, image)
    step = node_plan(golden_spec("default"), "master").steps[0]
    assert step.name == "ready"
    # Its disk is not of the plan's size.
    step = replace(step, settings={**step.settings, "disk": "", "api_name": ""}, artifacts=())
    text = PROGRAM.format(scripts=library.laid_down(), step=render.text(step), line=LINE)
    make_program(program, text)
    initrd.write_bytes(shell_first(image.initrd.read_bytes()))

    def printed(text: str) -> bool:
        console = tmp_path / "console"
        return console.exists() and text in console.read_text(errors="replace")

    arguments = (*offer.emulated()["kernel_arguments"], *ALONE)
    machine = start(image.kernel, initrd, disk, program, *arguments, folder=tmp_path)
    try:
        eventually("the machine has a shell", lambda: printed("# "))
        assert machine.stdin
        machine.stdin.write(b"exec bash /dev/vdb\n")
        machine.stdin.flush()
        eventually("the step is done", lambda: printed("STEP "))
        assert printed("STEP 0")
        shuts_down(machine, tmp_path)
    finally:
        machine.kill()
        machine.wait()
    machine = start(image.kernel, image.initrd, disk, program, *arguments, folder=tmp_path)
    try:
        eventually("the machine is up", lambda: printed("multi-user.target"))
        shuts_down(machine, tmp_path)
    finally:
        machine.kill()
        machine.wait()


def shuts_down(machine: subprocess.Popen[bytes], folder: Path) -> None:
    """Press the button, once, and wait."""
    tell(folder / "control", "system_powerdown")
    console = folder / "console"
    eventually("the machine is off", lambda: machine.poll() is not None)
    assert machine.returncode == 0
    assert "Power down" in console.read_text(errors="replace")
