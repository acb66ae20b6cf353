"""Consoles of machines: what a kernel's last words are taken for."""

from pathlib import Path

from lab.consoles import Consoles

DEATH = (
    "[  333.748127] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r\n"
    "[  333.748301] CPU: 0 UID: 0 PID: 17 Comm: ksoftirqd/0 Not tainted 6.12.117\r\n"
    "[  333.759296] Kernel panic - not syncing: Fatal exception in interrupt\r\n"
)


def test_a_kernel_that_ends_itself_is_told_with_its_reason(tmp_path: Path) -> None:
    quiet, dies = tmp_path / "dev-minion1.log", tmp_path / "dev-master.log"
    quiet.write_text("[    0.1] Linux version 6.12\r\n")
    dies.write_text("[    0.1] Linux version 6.12\r\n")
    consoles = Consoles(tmp_path, ["dev-master", "dev-minion1", "dev-minion2"])
    assert consoles.panics() == {}
    with dies.open("a") as console:
        console.write(DEATH)
    assert consoles.panics() == {"dev-master": "Fatal exception in interrupt, int3: 0000"}


def test_what_was_there_before_is_not_told_again(tmp_path: Path) -> None:
    (tmp_path / "dev-master.log").write_text(DEATH)
    assert Consoles(tmp_path, ["dev-master"]).panics() == {}


def test_a_console_that_began_anew_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "dev-master.log"
    log.write_text("x" * 1000)
    consoles = Consoles(tmp_path, ["dev-master"])
    log.write_text("[    9.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x9\r\n")
    assert consoles.panics() == {"dev-master": "Attempted to kill init! exitcode=0x9"}
