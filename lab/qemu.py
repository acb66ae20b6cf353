"""The QEMU processes of a lab's machines, and their share of this computer's processors.

Machines yield to the programs of their host (machines-yield.sh), which is what a person wants who
edits beside them, and starves them where others compile. So while an update works on them they go
first. The share is by session where the kernel schedules sessions (an *autogroup*: each machine is
one, and so is each terminal), and by thread where it does not; both are set.

``python -m lab.qemu`` is a process of its own that keeps machines first until its standard input
ends. The kernel closes that input whatever becomes of the update, so a killed one sets them back.
"""

import os
import select
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.paths import PROJECT
from spec.hypervisor import domain_name

YIELDING = 5
"""The nice value of machines that nobody waits for, as machines-yield.sh sets it."""

FIRST = -10
"""The nice value of machines that an update works on: nine times the share of another session."""

LEADING = -13
"""The nice value of control planes meanwhile: twice the share of machines that wait for them."""

INTERVAL = 3.0
"""Seconds between two looks for machines that have started."""

SYSTEM = Path("/run/libvirt")
"""Where the system's libvirt keeps what runs."""


def processes(libvirt: Path) -> dict[str, int]:
    """The QEMU process of each running domain, by the folder of a libvirt that holds what runs."""
    found = {}
    for file in (libvirt / "qemu").glob("*.pid"):
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            # The file may be older than a reboot, and its number another program's.
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.split(b",")[0] == f"guest={file.stem}".encode() for word in words):
                found[file.stem] = pid
    return found


def machines(cluster: str, names: Iterable[str], private: Path) -> dict[str, int]:
    """The QEMU process of each of a cluster's machines that runs here, by the machine's name.

    Of a private libvirt, of which ``private`` holds what runs, or else of the system's.
    """
    found = processes(private) or processes(SYSTEM)
    domains = {name: domain_name(cluster, name) for name in names}
    return {name: found[domain] for name, domain in domains.items() if domain in found}


def weigh(pid: int, nice: int) -> None:
    """Give a process, which is a session of its own, the share of a nice value.

    What the kernel does not allow or does not have is left as it is.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)


@contextmanager
def first(libvirt: Path, leading: Iterable[str] = ()) -> Iterator[None]:
    """Have the machines of a libvirt go first while the context lasts, and some before the others.

    ``libvirt`` is the folder that holds what runs, ``leading`` are domains. Machines that start
    meanwhile go first as well.
    Two updates may do so at once: what the first one that ends sets back, the other one's process
    raises again.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", "lab.qemu", str(libvirt), *leading],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is not for it
    )
    assert keeper.stdin is not None
    try:
        yield
    finally:
        keeper.stdin.close()
        if keeper.wait() != 0:  # it was killed
            _set_back(libvirt)


def _set_back(libvirt: Path) -> None:
    for pid in processes(libvirt).values():
        weigh(pid, YIELDING)


def _keep_first(libvirt: Path, leading: Collection[str]) -> None:
    """Look for machines again and again until the standard input ends, then set them back."""
    while True:
        for domain, pid in processes(libvirt).items():
            weigh(pid, LEADING if domain in leading else FIRST)
        if select.select([sys.stdin], [], [], INTERVAL)[0]:
            break
    _set_back(libvirt)


if __name__ == "__main__":
    _keep_first(Path(sys.argv[1]), sys.argv[2:])
