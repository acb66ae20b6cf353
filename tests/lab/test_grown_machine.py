"""The first step of a machine fills a disk that grew under it: the image's own kernel and tools."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.cache import Cache
from lab.image import DiskImage, base_image
from lab.paths import LabPaths
from lab.progress import PlainProgress
from plan import library, render
from plan.model import Step
from tests.engine.stack import eventually
from tests.lab.test_image import debian

__all__ = ["debian"]

GIB = 2**30

# The machine's only program, instead of systemd. It ends the machine.
PROGRAM = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/steps
cat >/run/steps/5 <<'END-OF-STEP'
{five}END-OF-STEP
cat >/run/steps/8 <<'END-OF-STEP'
{eight}END-OF-STEP
sh -s <<'END-OF-SCRIPTS'
{scripts}END-OF-SCRIPTS
fill() {{
    {line} </run/steps/$1
    echo "STEP $1 $? SIZE $(stat --file-system --format '%b %S' /) KEPT $(cat /kept)"
}}
echo data >/kept
fill 5
until [ "$(cat /sys/class/block/vda/size)" -eq {sectors} ]; do sleep 0.1; done
fill 8
fill 8
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


def step(size: int) -> Step:
    settings = {
        "disk": str(size),
        "power_button": "",
        "api_name": "",
        "steps": "ready",
        "name_servers": "",
        "packet_size": "",
        **dict.fromkeys(("http_proxy", "https_proxy", "no_proxy"), ""),
    }
    return Step(name="ready", begin="ready", settings=settings)


def shell_first(initrd: bytes) -> bytes:
    """The image's initrd with a shell in systemd's place; its archive has fixed lengths."""
    systemd, shell = b"/root /sbin/init\n", b"/root /bin/bash \n"
    assert initrd.count(systemd) == 1
    return initrd.replace(systemd, shell)


def make_disk(disk: Path, image: DiskImage) -> None:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]
    subprocess.run([*command, str(image.disk), str(disk), "5G"], check=True)


def make_program(program: Path, text: str) -> None:
    """A disk whose content a shell reads as its script."""
    program.write_text(text + "\n" * (-len(text.encode()) % 512))


def start(
    kernel: Path, initrd: Path, disk: Path, program: Path, *more: str, folder: Path
) -> subprocess.Popen[bytes]:
    """A machine that takes what it is given for what is typed at its console.

    Its console is written to a file of the folder, where there is also its QEMU's socket. What is
    left there of a machine before is removed, or it would be taken for this machine's.
    """
    for name in ("console", "control"):
        (folder / name).unlink(missing_ok=True)
    return subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", "-m", "512", "-display", "none"]
        + ["-nic", "none", "-kernel", str(kernel), "-initrd", str(initrd)]
        + ["-append", " ".join(["console=ttyS0 quiet norandmaps mitigations=off", *more])]
        + ["-drive", f"file={disk},if=none,id=root,cache=unsafe"]
        + ["-device", "virtio-blk-pci,drive=root"]
        + ["-drive", f"file={program},if=none,id=program,format=raw,readonly=on"]
        + ["-device", "virtio-blk-pci,drive=program"]
        + ["-chardev", f"stdio,id=console,logfile={folder / 'console'}"]
        + ["-serial", "chardev:console", "-qmp", f"unix:{folder / 'control'},server=on,wait=off"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.machine
def test_the_root_file_system_fills_a_disk_that_grew_under_it(
    debian: Cache, paths: LabPaths, tmp_path: Path
) -> None:
    image = base_image(debian, (), PlainProgress(), logs=paths.logs)
    assert image.kernel
    assert image.initrd
    disk, program, initrd = tmp_path / "disk", tmp_path / "program", tmp_path / "initrd"
    make_disk(disk, image)
    steps = {"five": render.text(step(5)), "eight": render.text(step(8))}
    shell = {"scripts": library.laid_down(), "line": render.command(step(5))}
    make_program(program, PROGRAM.format(**steps, **shell, sectors=8 * GIB // 512))
    initrd.write_bytes(shell_first(image.initrd.read_bytes()))
    control, console = tmp_path / "control", tmp_path / "console"
    machine = start(image.kernel, initrd, disk, program, folder=tmp_path)

    def printed(text: str) -> bool:
        return console.exists() and text in console.read_text(errors="replace")

    try:
        eventually("the machine has a shell", lambda: printed("# "))
        assert machine.stdin
        machine.stdin.write(b"bash /dev/vdb\n")
        machine.stdin.flush()
        eventually("the first step is done", lambda: printed("STEP 5 "))
        tell(control, "block_resize", device="root", size=8 * GIB)
        machine.wait(600)
    finally:
        machine.kill()
        machine.wait()
    lines = console.read_text(errors="replace").splitlines()
    ends = [line.split() for line in lines if line.startswith("STEP ")]
    assert [(end[1], end[2], end[-1]) for end in ends] == [
        ("5", "0", "data"),
        ("8", "0", "data"),
        ("8", "0", "data"),
    ], "\n".join(lines[-30:])
    small, large, same = (int(end[4]) * int(end[5]) for end in ends)
    assert 4.8 * GIB < small < 5 * GIB
    assert 7.7 * GIB < large < 8 * GIB
    assert same == large


def tell(control: Path, command: str, **arguments: Any) -> None:
    """Have the machine's QEMU do something, as libvirt does it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        with connection.makefile("rw") as stream:
            stream.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": command, "arguments": arguments},
            ):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer: dict[str, Any] = {"event": "of before"}
                while "event" in answer:
                    answer = json.loads(stream.readline())
                assert "return" in answer, answer
