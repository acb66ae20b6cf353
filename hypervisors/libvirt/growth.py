"""Grows disks in place, also under running machines, without loss of data.

The provider would replace a volume whose size changes. So the size of the resource stays as it was
at creation (``machines.py``), and this module grows the disk with virsh. The provider also adopts
an existing volume of the same name and deletes it with the stack, so this module checks the names
of new disks first.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hypervisors.libvirt.virsh import ask, reason
from spec.hypervisor import Libvirt

GIB = 2**30
PATIENCE = 120
"""The time limit in seconds for an answer of libvirt."""

GONE = "Storage volume not found"


class DiskError(Exception):
    """A disk cannot be made or grown; the text is one sentence with the next thing to do."""


def volume(domain: str) -> str:
    """The name of a machine's disk in its pool."""
    return f"{domain}.qcow2"


def refuse_taken(where: Libvirt, domains: Iterable[str]) -> None:
    """Raise DiskError where a disk of one of these new domains exists already.

    Such a disk belongs to another stack or is a leftover. Without virsh there is no check.
    """
    for domain in domains:
        name = volume(domain)
        try:
            done = ask(where.uri, "vol-info", "--pool", where.pool, name, timeout=PATIENCE)
        except FileNotFoundError:
            return
        if done is not None and done.returncode == 0:
            raise DiskError(
                f"the disk {name} is in the pool {where.pool} already and is none of this stack's, "
                "which would take it and delete it in the end; where this stack's state was lost, "
                "./hardway recover gives it a new one, else give the cluster another name, or "
                f"remove that disk (virsh -c '{where.uri}' vol-delete --pool {where.pool} {name})"
            )


def grow(where: Libvirt, sizes: Mapping[str, int]) -> None:
    """Grow the disks of these domains to the given sizes in GiB, whether the domains run or not.

    A disk that is large enough is left alone, so a second call does nothing. A missing disk is left
    alone too, since the provider makes it with the right size. Raises DiskError.
    """
    for domain, size in sizes.items():
        name = volume(domain)
        if (capacity := _capacity(where, name)) is None or capacity >= size * GIB:
            continue
        if domain in _virsh(where, "list", "--name").split():
            path = _virsh(where, "vol-path", "--pool", where.pool, name).strip()
            _virsh(where, "blockresize", domain, path, f"{size * GIB}B")
        else:
            _virsh(where, "vol-resize", "--pool", where.pool, name, f"{size * GIB}B")


def _capacity(where: Libvirt, name: str) -> int | None:
    """The size of a disk in bytes; None where there is no such disk."""
    arguments = ("vol-info", "--bytes", "--pool", where.pool, name)
    done = _done(where, *arguments)
    if done.returncode != 0 and GONE in done.stderr:
        return None
    for line in _text(done, arguments).splitlines():
        key, _, value = line.partition(":")
        if key == "Capacity":
            return int(value.split()[0])
    raise DiskError(f"virsh does not say how large the disk {name} is; look at virsh vol-info")


def _virsh(where: Libvirt, *arguments: str) -> str:
    return _text(_done(where, *arguments), arguments)


def _text(done: subprocess.CompletedProcess[str], arguments: Sequence[str]) -> str:
    if done.returncode != 0:
        raise DiskError(
            f"virsh {' '.join(arguments)} failed ({reason(done)}); mend that and run the update "
            "again"
        )
    return done.stdout


def _done(where: Libvirt, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        done = ask(where.uri, *arguments, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise DiskError(
            "a disk grows by the program virsh, which is missing; install libvirt-clients and run "
            "the update again"
        ) from error
    if done is None:
        raise DiskError(
            f"libvirt at {where.uri} gives no answer within {PATIENCE} s; see that it runs and run "
            "the update again"
        )
    return done
