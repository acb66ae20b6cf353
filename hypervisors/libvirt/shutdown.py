"""Shuts down machines in order before they are replaced.

The provider cannot change the memory or the processors of a domain: it cuts the power of the old
domain and makes a new one around the same disks. Software on the machine would get no notice, so an
etcd leader could not hand over. This module presses the power button with virsh and waits.
"""

import time
from collections.abc import Callable, Mapping

from hypervisors.libvirt.virsh import ask
from hypervisors.upkeep import MachineSize
from spec.hypervisor import Libvirt

LIMIT = 240
"""Time limit in seconds for a machine to power itself off. systemd waits up to 90 seconds for a
unit that does not stop, and an emulated machine is slow."""

AGAIN = 20.0
"""Seconds between two presses of the power button, since a machine ignores it while it boots."""

INTERVAL = 1.0
"""Seconds between two queries of the running domains."""

PATIENCE = 60
"""The time limit in seconds for an answer of libvirt."""


def shut_down(
    where: Libvirt,
    sizes: Mapping[str, MachineSize],
    say: Callable[[str], None],
    limit: float = LIMIT,
) -> None:
    """Have the running domains among these power off if their size differs from the given one.

    They power off at the same time. A domain that still runs after ``limit`` seconds is no failure:
    ``say`` gets a line about it, and its replacement cuts its power.
    """
    try:
        _shut_down(where, sizes, say, limit)
    except FileNotFoundError:
        say(
            f"{', '.join(sizes)} will be powered off as they run: there is no program virsh to "
            "shut machines down (it is in libvirt-clients)"
        )


def _shut_down(
    where: Libvirt, sizes: Mapping[str, MachineSize], say: Callable[[str], None], limit: float
) -> None:
    runs = _running(where)
    if runs is None:
        say(f"libvirt at {where.uri} does not say which machines run, so none is shut down")
        return
    left = [domain for domain in sizes if domain in runs and _size(where, domain) != sizes[domain]]
    for domain in left:
        size = sizes[domain]
        say(f"{domain} shuts down, to be made anew with {size.memory} MiB and {size.cpus} CPU")
    end, pressed = time.monotonic() + limit, None
    while left and (now := time.monotonic()) < end:
        if pressed is None or now - pressed >= AGAIN:
            pressed = now
            for domain in left:
                ask(where.uri, "shutdown", domain, "--mode", "acpi", timeout=PATIENCE)
        time.sleep(INTERVAL)
        if (runs := _running(where)) is not None:
            left = [domain for domain in left if domain in runs]
    for domain in left:
        say(f"{domain} has not shut down within {limit:.0f} s and will be powered off as it runs")


def _running(where: Libvirt) -> list[str] | None:
    """The names of the running domains; None where libvirt gives no answer."""
    done = ask(where.uri, "list", "--name", "--state-running", timeout=PATIENCE)
    return done.stdout.split() if done is not None and done.returncode == 0 else None


def _size(where: Libvirt, domain: str) -> MachineSize | None:
    """The size of a domain according to libvirt; None where libvirt does not give it."""
    done = ask(where.uri, "dominfo", domain, timeout=PATIENCE)
    facts = (
        dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line) if done else {}
    )
    try:
        memory, unit = facts["Max memory"].split()
        return MachineSize(int(memory) // 1024, int(facts["CPU(s)"])) if unit == "KiB" else None
    except (KeyError, ValueError):
        return None
