"""Clocks of emulated machines: what the kernel is told, and how a wrong clock is noticed."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from lab import offer, timestamp_counter
from lab.consoles import Consoles
from lab.debian_root import ENABLED, OWN

CHECK = OWN / "root/usr/local/sbin/check-clock.sh"
CATCH_UP = OWN / "root/usr/local/sbin/catch-up-clock.sh"


def kernel_counted() -> float | None:
    """Ticks in a millisecond, as this host's kernel found or was told them at its start."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
    speeds = re.findall(r"tsc: (?:Detected|Refined TSC clocksource calibration:) ([\d.]+) MHz", log)
    return float(speeds[-1]) * 1000 if speeds else None


def test_the_counter_ticks_as_the_kernel_says() -> None:
    known = kernel_counted()
    if known is None:
        pytest.skip("this host's kernel no longer tells what it counted")
    ticks = timestamp_counter.frequency()
    assert ticks is not None
    assert abs(ticks - known) <= 0.001 * known, "the kernel refuses a refinement of more than 1 %"


def test_a_counter_that_is_not_steady_is_not_counted(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu tsc constant_tsc\n")
    assert timestamp_counter.frequency(cpuinfo) is None


@pytest.mark.parametrize(
    ("ticks", "arguments"), [(2300000, {"tsc_early_khz=2300000"}), (None, set[str]())]
)
def test_an_emulated_machine_is_told_how_its_counter_ticks(
    ticks: int | None, arguments: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timestamp_counter, "frequency", lambda: ticks)
    given = offer.emulated()["kernel_arguments"]
    assert {argument for argument in given if argument.startswith("tsc_early")} == arguments
    assert "clocksource=tsc" in given


def checked(folder: Path, off: int, *, ready: bool = False) -> tuple[int, str]:
    """What the check says of a clock that is ``off`` seconds ahead, and its exit status."""
    rtc, console, done = folder / "rtc", folder / "dev-minion.log", folder / "done"
    rtc.write_text(f"{int(time.time()) - off}\n")
    console.touch()
    if ready:
        done.touch()
    process = subprocess.run(["sh", CHECK, rtc, console, done], capture_output=True, text=True)
    assert process.stderr == ""
    return process.returncode, console.read_text()


@pytest.mark.parametrize(("off", "how"), [(280, "ahead of"), (-280, "behind")])
def test_a_wrong_clock_is_said_on_the_console_where_the_lab_reads_it(
    off: int, how: str, tmp_path: Path
) -> None:
    consoles = Consoles(tmp_path, ["dev-minion"])
    status, output = checked(tmp_path, off)
    assert status == 1
    assert re.search(rf"clock of this machine is 2(79|80|81) s {how} its host's", output)
    assert how in consoles.wrong_clock("dev-minion")
    consoles.forget("dev-minion")
    assert consoles.wrong_clock("dev-minion") == "", "of the start before"


def test_a_right_clock_a_ready_machine_and_a_machine_without_rtc_say_nothing(
    tmp_path: Path,
) -> None:
    assert checked(tmp_path, 0) == (0, "")
    assert checked(tmp_path, 280, ready=True) == (0, "")
    done = subprocess.run(["sh", CHECK, tmp_path / "none"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_nobody_logs_in_before_the_clock_was_looked_at() -> None:
    unit = (OWN / "root/etc/systemd/system/ssh.service.d/90-hardway.conf").read_text()
    assert f"ExecStartPre=/{CHECK.relative_to(OWN / 'root')}\n" in unit
    assert CHECK.stat().st_mode & 0o111


@pytest.mark.parametrize(("off", "is_set"), [(-280, True), (-1, False), (280, False)])
def test_only_a_clock_that_fell_behind_is_set(off: int, is_set: bool, tmp_path: Path) -> None:
    rtc, arguments = tmp_path / "rtc", tmp_path / "words"
    host = int(time.time()) - off
    rtc.write_text(f"{host}\n")
    # This host's own clock stays what it is: what is said to ``date --set`` is looked at.
    date = tmp_path / "date"
    date.write_text(f'#!/bin/sh\n[ "$1" = +%s ] && exec /bin/date "$@"\necho "$@" >>{arguments}\n')
    date.chmod(0o755)
    done = subprocess.run(
        ["sh", CATCH_UP, rtc],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert arguments.exists() == is_set
    assert not is_set or arguments.read_text() == f"--set=@{host}\n"
    assert ("behind the host's and is set" in done.stdout) == is_set


def test_the_image_looks_again_and_again_whether_its_clock_fell_behind() -> None:
    units = OWN / "root/usr/lib/systemd/system"
    (wanted,) = ENABLED["timers.target"]
    service = (units / wanted).with_suffix(".service")
    assert f"ExecStart=/{CATCH_UP.relative_to(OWN / 'root')}\n" in service.read_text()
    assert CATCH_UP.stat().st_mode & 0o111
