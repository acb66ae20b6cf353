"""The QEMU processes of a lab's machines, and their share of this computer's processors.

By default machines have a lower priority than the programs of their host (machines-yield.sh). That
suits a person who edits files on the host, but it starves the machines where other programs
compile. So machines get a higher priority while an update works on them. A kernel with autogroups
shares the processors out by session (each machine is a session, and so is each terminal); other
kernels share them out by thread. This module sets the nice value of both.

``python -m lab.qemu`` is a separate process that raises the priority until its standard input ends,
and then lowers it again. The kernel closes that input however the update ends, so the priority
falls back also after an update that was killed.
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
"""The nice value of machines while no update works on them, as machines-yield.sh sets it."""

FIRST = -10
"""The nice value of machines that an update works on: nine times the share of another session."""

LEADING = -13
"""The nice value of control planes during an update: twice the share of other machines, which wait
for them."""

INTERVAL = 3.0
"""Seconds between two searches for machines that have started."""

SYSTEM = Path("/run/libvirt")
"""The runtime directory of the system's libvirt; it holds the PID files."""


def processes(libvirt: Path) -> dict[str, int]:
    """Domain to the PID of its QEMU process; ``libvirt`` is the runtime directory of a libvirt."""
    pids = {}
    for file in (libvirt / "qemu").glob("*.pid"):
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            # A file from before a reboot may hold a PID that now belongs to another program.
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(
                argument.split(b",")[0] == f"guest={file.stem}".encode() for argument in arguments
            ):
                pids[file.stem] = pid
    return pids


def machines(cluster: str, names: Iterable[str], private: Path) -> dict[str, int]:
    """Machine name to the PID of its QEMU process, for the cluster's machines that run here.

    Looks in ``private``, the runtime directory of a private libvirt, or, where nothing runs there,
    in that of the system's libvirt.
    """
    pids = processes(private) or processes(SYSTEM)
    domains = {name: domain_name(cluster, name) for name in names}
    return {name: pids[domain] for name, domain in domains.items() if domain in pids}


def weigh(pid: int, nice: int) -> None:
    """Set the nice value of a session leader's session (autogroup) and of all threads of it.

    Ignores what the kernel does not allow or does not support.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n")
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)


@contextmanager
def first(libvirt: Path, leading: Iterable[str] = ()) -> Iterator[None]:
    """Raise the priority of a libvirt's machines while the context lasts.

    ``libvirt`` is the libvirt's runtime directory. The domains in ``leading`` get a still higher
    priority. Machines that start while the context lasts are raised as well. Two updates may run
    at once: the update that ends first lowers the priority, and the process of the other one raises
    it again.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", "lab.qemu", str(libvirt), *leading],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C in the terminal does not reach the process
    )
    assert keeper.stdin is not None
    try:
        yield
    finally:
        keeper.stdin.close()
        if keeper.wait() != 0:  # the process was killed before it could lower the priority
            _set_back(libvirt)


def _set_back(libvirt: Path) -> None:
    for pid in processes(libvirt).values():
        weigh(pid, YIELDING)


def _keep_first(libvirt: Path, leading: Collection[str]) -> None:
    """Raise the priority every ``INTERVAL`` until the standard input ends, then lower it again."""
    while True:
        for domain, pid in processes(libvirt).items():
            weigh(pid, LEADING if domain in leading else FIRST)
        if select.select([sys.stdin], [], [], INTERVAL)[0]:
            break
    _set_back(libvirt)


if __name__ == "__main__":
    _keep_first(Path(sys.argv[1]), sys.argv[2:])
