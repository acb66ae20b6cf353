"""Machines that are about to be made anew power themselves off first, in order.

The provider cannot change the memory or the processors of a domain: it cuts the power of the old
one and makes another around the same disks. Nothing on the machine would be told, so a member of
etcd that leads would hand nothing over. This presses the power button, by virsh, and waits.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypervisors.virsh import ask
from spec.hypervisor import Libvirt

LIMIT = 240
"""Seconds for a machine to power itself off: systemd gives what does not end 90 of them, and an
emulated machine is slow."""

AGAIN = 20.0
"""Seconds between two presses of the button: a machine that still boots does not notice it."""

INTERVAL = 1.0
"""Seconds between two looks."""

PATIENCE = 60
"""Seconds that libvirt may take for an answer."""


@dataclass(frozen=True)
class MachineSize:
    """What a domain is made with."""

    memory: int
    """MiB."""
    cpus: int


def shut_down(
    where: Libvirt,
    sizes: Mapping[str, MachineSize],
    say: Callable[[str], None],
    limit: float = LIMIT,
) -> None:
    """Have those of these domains power themselves off that run and have another size than this.

    All at once. Whatever still runs after so many seconds is left to who makes it anew: that is no
    failure, and is said.
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
    """The domains that run; None where libvirt does not say."""
    done = ask(where.uri, "list", "--name", "--state-running", timeout=PATIENCE)
    return done.stdout.split() if done is not None and done.returncode == 0 else None


def _size(where: Libvirt, domain: str) -> MachineSize | None:
    """What libvirt made a domain with; None where it does not say."""
    done = ask(where.uri, "dominfo", domain, timeout=PATIENCE)
    facts = (
        dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line) if done else {}
    )
    try:
        memory, unit = facts["Max memory"].split()
        return MachineSize(int(memory) // 1024, int(facts["CPU(s)"])) if unit == "KiB" else None
    except (KeyError, ValueError):
        return None
