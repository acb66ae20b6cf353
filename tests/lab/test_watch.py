"""The watch over first boots: with a clock of its own, and over real machines that hang."""

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import libvirt, timestamp_counter
from lab.cache import Cache
from lab.image import base_image
from lab.libvirt import LibvirtConnection
from lab.paths import LabPaths
from lab.progress import PlainProgress
from lab.watch import PAUSED, RUNNING, FirstBootWatch, Sighting
from tests.lab.world import Notebook

QUIET = 120.0
SHUT_OFF = 5


@dataclass
class Bench:
    """Machines made of variables, and a clock that is moved by hand."""

    record: Path
    time: float = 1000.0
    sightings: dict[str, Sighting] = field(default_factory=dict)
    speaking: set[str] = field(default_factory=set)
    resets: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def look(self, domain: str) -> Sighting | None:
        return self.sightings.get(domain)

    def answers(self, address: str) -> bool:
        return address in self.speaking

    def reset(self, domain: str, state: int) -> None:
        self.resets.append(f"{domain} {state}")

    def watch(self) -> FirstBootWatch:
        return FirstBootWatch(
            self,
            {"dev-master": "192.168.1.10", "dev-minion": "192.168.1.11"},
            self.record,
            self.messages.append,
            quiet_seconds=QUIET,
            clock=lambda: self.time,
        )

    def shows(
        self, domain: str, signs: str, state: int = RUNNING, uuid: str = "u1", clock: str = ""
    ) -> None:
        self.sightings[domain] = Sighting(uuid, state, signs, clock)

    def pass_time(self, watch: FirstBootWatch, seconds: float) -> None:
        for _ in range(int(seconds // 5)):
            self.time += 5
            watch.look()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "first-boot.json")


def test_a_machine_whose_clock_is_wrong_is_reset_at_once_and_once(bench: Bench) -> None:
    watch = bench.watch()
    bench.shows("dev-minion", "1")
    watch.look()
    assert bench.resets == []
    bench.shows("dev-minion", "2", clock="is 280 s ahead of its host's")
    watch.look()
    assert bench.resets == [f"dev-minion {RUNNING}"]
    bench.shows("dev-minion", "3")
    bench.pass_time(watch, QUIET / 2)
    bench.shows("dev-minion", "4", clock="is 290 s ahead of its host's")
    bench.pass_time(watch, QUIET)
    assert bench.resets == [f"dev-minion {RUNNING}"], "a clock that stays wrong is for a person"
    first, again = bench.messages
    assert first == "the clock of dev-minion is 280 s ahead of its host's: resetting it (once)"
    assert again.startswith("the clock of dev-minion is 290 s ahead of its host's, and was reset")


def test_a_machine_that_hangs_is_reset_once_and_visibly(bench: Bench) -> None:
    watch = bench.watch()
    bench.shows("dev-master", "100")
    bench.pass_time(watch, QUIET)
    assert bench.resets == []
    bench.pass_time(watch, 10)
    assert bench.resets == [f"dev-master {RUNNING}"]
    bench.pass_time(watch, 10 * QUIET)
    assert bench.resets == [f"dev-master {RUNNING}"]
    assert ["resetting" in text for text in bench.messages] == [True, False]
    assert all("dev-master" in text for text in bench.messages)


def test_a_sign_of_life_starts_the_patience_anew(bench: Bench) -> None:
    watch = bench.watch()
    for signs in range(8):
        bench.shows("dev-master", str(signs))
        bench.pass_time(watch, QUIET - 10)
    assert bench.resets == []


def test_a_quiet_machine_that_answers_is_never_reset(bench: Bench) -> None:
    watch = bench.watch()
    bench.speaking.add("192.168.1.10")
    bench.shows("dev-master", "100")
    bench.pass_time(watch, 2 * QUIET)
    bench.speaking.clear()  # later, when its first boot is over
    bench.pass_time(watch, 10 * QUIET)
    assert bench.resets == []


def test_the_reset_is_remembered_by_the_next_watch(bench: Bench) -> None:
    bench.shows("dev-master", "100")
    for _ in range(3):
        bench.pass_time(bench.watch(), 2 * QUIET)
    assert len(bench.resets) == 1


def test_a_new_machine_of_the_same_name_has_its_own_reset(bench: Bench) -> None:
    watch = bench.watch()
    for uuid in ("u1", "u2"):
        bench.shows("dev-master", "100", uuid=uuid)
        bench.pass_time(watch, 2 * QUIET)
    assert len(bench.resets) == 2


def test_a_machine_that_is_off_or_not_there_is_left_alone(bench: Bench) -> None:
    watch = bench.watch()
    bench.shows("dev-master", "100", SHUT_OFF)
    bench.pass_time(watch, 10 * QUIET)
    assert bench.resets == []


def test_a_paused_machine_is_reset_though_its_port_could_answer(bench: Bench) -> None:
    watch = bench.watch()
    bench.speaking.add("192.168.1.10")
    bench.shows("dev-master", "100", PAUSED)
    bench.pass_time(watch, 2 * QUIET)
    assert bench.resets == [f"dev-master {PAUSED}"]


def test_a_spoilt_record_counts_as_none(bench: Bench) -> None:
    bench.record.write_text("{half")
    bench.shows("dev-master", "100")
    bench.pass_time(bench.watch(), 2 * QUIET)
    assert len(bench.resets) == 1


# -- real machines -------------------------------------------------------------------------------


@pytest.fixture
def host(paths: LabPaths) -> Iterator[LibvirtConnection]:
    notebook = Notebook()
    try:
        yield libvirt.start(paths, notebook)
    finally:
        libvirt.stop(paths, notebook)


def _start(
    host: LibvirtConnection,
    paths: LabPaths,
    tmp_path: Path,
    boot: str = "",
    disk: str = "",
    mebibytes: int = 256,
) -> Path:
    """A machine, without a disk if none is given; its console is where the watch looks for it."""
    console = paths.state / "console" / "hangs.log"
    console.parent.mkdir(parents=True)
    definition = tmp_path / "hangs.xml"
    definition.write_text(
        f"""<domain type='{host.domain_type}'><name>hangs</name>
        <memory unit='MiB'>{mebibytes}</memory>
        <vcpu>1</vcpu><os><type arch='x86_64'>hvm</type>{boot}</os><features><acpi/></features>
        <devices>{disk}<serial type='pty'><log file='{console}'/></serial></devices></domain>"""
    )
    libvirt.virsh(host, "define", definition)
    libvirt.virsh(host, "start", "hangs")
    return console


def _until(condition: object, seconds: float = 900) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


@pytest.mark.machine
def test_a_suspended_machine_is_set_going_again(
    host: LibvirtConnection, paths: LabPaths, tmp_path: Path
) -> None:
    _start(host, paths, tmp_path)
    libvirt.virsh(host, "suspend", "hangs")
    notebook = Notebook()
    with FirstBootWatch.running(paths, host, {"hangs": "192.168.1.10"}, notebook, quiet_seconds=4):
        assert _until(lambda: libvirt.virsh(host, "domstate", "hangs").strip() == "running")
    assert sum("resetting" in text for text in notebook.messages) == 1


@pytest.mark.machine
def test_a_kernel_that_finds_no_disk_is_booted_a_second_time_and_no_third(
    host: LibvirtConnection, paths: LabPaths, tmp_path: Path
) -> None:
    if subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip() != "x86_64":
        pytest.skip("the machine of this test is an x86_64 one")
    image = base_image(Cache(), (), PlainProgress(), logs=paths.logs)
    boot = f"<kernel>{image.kernel}</kernel><initrd>{image.initrd}</initrd>"
    boot += "<cmdline>console=ttyS0</cmdline>"
    console = _start(host, paths, tmp_path, boot)

    def boots() -> int:
        text = console.read_text(errors="replace") if console.exists() else ""
        return text.count("Run /init as init process")

    assert _until(lambda: boots() == 1)
    notebook = Notebook()
    with FirstBootWatch.running(paths, host, {"hangs": "192.168.1.10"}, notebook, quiet_seconds=8):
        assert _until(lambda: boots() == 2)
        assert _until(lambda: any("was reset before" in text for text in notebook.messages))
    assert boots() == 2
    assert sum("resetting" in text for text in notebook.messages) == 1


@pytest.mark.machine
def test_a_machine_whose_kernel_counts_a_tenth_is_reset_before_anybody_logs_in(
    host: LibvirtConnection, paths: LabPaths, tmp_path: Path
) -> None:
    ticks = timestamp_counter.frequency()
    if host.domain_type != "qemu" or ticks is None:
        pytest.skip("this test is of an emulated processor that shows its host's counter")
    image = base_image(Cache(), (), PlainProgress(), logs=paths.logs)
    overlay = host.disks / "counts.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", image.format]
        + ["-b", str(image.disk), str(overlay), "10G"],
        check=True,
    )
    arguments = f"root=/dev/vda rw quiet console=ttyS0 tsc=reliable tsc_early_khz={ticks // 10}"
    boot = f"<kernel>{image.kernel}</kernel><initrd>{image.initrd}</initrd>"
    boot += f"<cmdline>{arguments}</cmdline>"
    disk = "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/>"
    disk += f"<source file='{overlay}'/><target dev='vda' bus='virtio'/></disk>"
    notebook = Notebook()
    with FirstBootWatch.running(
        paths, host, {"hangs": "192.168.1.10"}, notebook, quiet_seconds=600
    ):
        _start(host, paths, tmp_path, boot, disk, mebibytes=1024)
        assert _until(lambda: any("resetting" in text for text in notebook.messages), seconds=900)
    (message,) = [text for text in notebook.messages if "resetting" in text]
    assert re.match(r"the clock of hangs is \d+ s ahead of its host's", message)
