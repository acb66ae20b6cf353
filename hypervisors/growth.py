"""Disks that grow where they are, under machines that run: nothing on them is lost.

The provider makes a volume anew for another size, so its size is settled when it is made
(``libvirt.py``), and this asks libvirt itself, by virsh.
"""

import subprocess
from collections.abc import Mapping, Sequence

from hypervisors.virsh import ask
from spec.hypervisor import Libvirt

GIB = 2**30
PATIENCE = 120
"""Seconds that libvirt may take for an answer."""

GONE = "Storage volume not found"


class NotGrown(Exception):
    """A disk that is not as large as it should be, in one sentence with the next step."""


def volume(domain: str) -> str:
    """The name of a machine's disk in its pool."""
    return f"{domain}.qcow2"


def grow(where: Libvirt, sizes: Mapping[str, int]) -> None:
    """Make the disks of these domains as large as this, in GiB, whether they run or not.

    A disk that is large enough is left alone, so a second time does nothing; one that is not there
    is left to whoever makes it. Raises NotGrown.
    """
    for domain, size in sizes.items():
        name = volume(domain)
        if (capacity := _capacity(where, name)) is None or capacity >= size * GIB:
            continue
        if domain in _said(where, "list", "--name").split():
            path = _said(where, "vol-path", "--pool", where.pool, name).strip()
            _said(where, "blockresize", domain, path, f"{size * GIB}B")
        else:
            _said(where, "vol-resize", "--pool", where.pool, name, f"{size * GIB}B")


def _capacity(where: Libvirt, name: str) -> int | None:
    """The size of a disk in bytes; None where there is no such disk."""
    words = ("vol-info", "--bytes", "--pool", where.pool, name)
    done = _done(where, *words)
    if done.returncode != 0 and GONE in done.stderr:
        return None
    for line in _text(done, words).splitlines():
        key, _, value = line.partition(":")
        if key == "Capacity":
            return int(value.split()[0])
    raise NotGrown(f"virsh does not say how large the disk {name} is; look at virsh vol-info")


def _said(where: Libvirt, *words: str) -> str:
    return _text(_done(where, *words), words)


def _text(done: subprocess.CompletedProcess[str], words: Sequence[str]) -> str:
    if done.returncode != 0:
        said = " ".join(done.stderr.replace("error:", "").split())
        raise NotGrown(
            f"virsh {' '.join(words)} failed ({said}); mend that and run the update again"
        )
    return done.stdout


def _done(where: Libvirt, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        done = ask(where.uri, *words, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise NotGrown(
            "a disk grows by the program virsh, which is missing; install libvirt-clients and run "
            "the update again"
        ) from error
    if done is None:
        raise NotGrown(
            f"libvirt at {where.uri} gives no answer within {PATIENCE} s; see that it runs and run "
            "the update again"
        )
    return done
