"""What machines with nothing to do take of their host, and which of their services it is for."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab import processors, qemu

SETTLES = 120.0
"""Seconds after an update in which pods and caches come to rest."""

SECONDS = 600.0
"""As long is measured: what happens every five minutes happens twice."""

NAMED = 6
"""How many services of a machine are named."""

LOOK = r"""
for group in "" /init.scope /*.slice /system.slice/*; do
    for file in /sys/fs/cgroup$group/cpu.stat; do
        [ -e "$file" ] && echo "cpu ${file%/cpu.stat} $(sed -n 's/^usage_usec //p' "$file")"
    done
done
sed -n 's/^\(MemTotal\|MemAvailable\): *\([0-9]*\) kB/memory \1 \2/p' /proc/meminfo
"""
"""On a machine: what each control group has used of the processor, and the memory."""

ROOT = "/sys/fs/cgroup"
INNER = f"{ROOT}/system.slice"
"""Its services are counted one by one, and so not it."""


@dataclass(frozen=True)
class Seen:
    """A machine from inside."""

    used: Mapping[str, int]
    """Microseconds of the processor by control group; the root's are all."""
    memory: int
    """MiB that are not to be had."""


def seen(text: str) -> Seen:
    """What ``LOOK`` has printed."""
    used = {group: int(number) for group, number in re.findall(r"^cpu (\S+) (\d+)$", text, re.M)}
    memory = dict(re.findall(r"^memory (\w+) (\d+)$", text, re.M))
    return Seen(used, (int(memory["MemTotal"]) - int(memory["MemAvailable"])) // 1024)


def services(before: Seen, after: Seen) -> dict[str, float]:
    """The part that each service has of what its machine used, the largest first.

    What is in no control group is the kernel's own.
    """
    spent = {group: used - before.used.get(group, 0) for group, used in after.used.items()}
    whole = max(spent.pop(ROOT), 1)
    spent.pop(INNER, None)
    spent["kernel"] = max(0, whole - sum(spent.values()))
    parts = {Path(group).name: used / whole for group, used in spent.items()}
    return dict(sorted(parts.items(), key=lambda one: -one[1]))


def bench_idle(
    console: Console,
    ask: Callable[[str, str], str],
    stack: str,
    names: Iterable[str],
    libvirt: Path,
) -> None:
    """Print what a stack's idle machines take of this computer.

    ``ask`` runs a script on a machine and says what it prints; ``libvirt`` is the folder that holds
    what runs in the lab. The machines go first: what they did not get now they would ask for later.
    """
    machines = qemu.machines(stack, names, libvirt)
    with qemu.first(libvirt):
        time.sleep(SETTLES)
        _measure(console, ask, machines)


def _measure(console: Console, ask: Callable[[str, str], str], machines: Mapping[str, int]) -> None:
    inside = {name: seen(ask(name, LOOK)) for name in machines}
    before = processors.look(machines)
    time.sleep(SECONDS)
    shares = processors.between(before, processors.look(machines), machines.values())
    table = Table(title=f"idle for {shares.seconds:.0f} s")
    for title in ("machine", "processors", "asked for", "MiB used", "for what"):
        table.add_column(title, justify="left" if title in ("machine", "for what") else "right")
    for name, got in shares.machines.items():
        now = seen(ask(name, LOOK))
        parts = list(services(inside[name], now).items())[:NAMED]
        named = ", ".join(f"{service} {part:.0%}" for service, part in parts)
        table.add_row(name, f"{got.got:.2f}", f"{got.asked:.2f}", str(now.memory), named)
    together = shares.together
    table.add_row("together", f"{together.got:.2f}", f"{together.asked:.2f}", "", "")
    console.print(table)
    if together.starves:
        console.print(f"[yellow]note[/]  {processors.starved(shares)}", highlight=False)
