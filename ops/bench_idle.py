"""Measures the processor time and memory that idle machines take, and which services use them."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab import processors, qemu

SETTLES = 120.0
"""Seconds to wait after an update until pods and caches have settled."""

SECONDS = 600.0
"""Duration of the measurement; a job that runs every five minutes runs twice in it."""

NAMED = 6
"""The number of services of a machine that the table names."""

LOOK = r"""
for group in "" /init.scope /*.slice /system.slice/*; do
    for file in /sys/fs/cgroup$group/cpu.stat; do
        [ -e "$file" ] && echo "cpu ${file%/cpu.stat} $(sed -n 's/^usage_usec //p' "$file")"
    done
done
sed -n 's/^\(MemTotal\|MemAvailable\): *\([0-9]*\) kB/memory \1 \2/p' /proc/meminfo
"""
"""Script for a machine: prints each control group's processor time, and the memory figures."""

ROOT = "/sys/fs/cgroup"
INNER = f"{ROOT}/system.slice"
"""This group is not counted, since each of its services is."""


@dataclass(frozen=True)
class Seen:
    """The figures that ``LOOK`` prints on a machine."""

    used: Mapping[str, int]
    """Control group to microseconds of processor time; the root group has the total."""
    memory: int
    """MiB of memory that are not available."""


def seen(text: str) -> Seen:
    """Parse the output of ``LOOK``."""
    used = {group: int(number) for group, number in re.findall(r"^cpu (\S+) (\d+)$", text, re.M)}
    memory = dict(re.findall(r"^memory (\w+) (\d+)$", text, re.M))
    return Seen(used, (int(memory["MemTotal"]) - int(memory["MemAvailable"])) // 1024)


def services(before: Seen, after: Seen) -> dict[str, float]:
    """Service to its share of the machine's processor time between two readings, largest first.

    Time that belongs to no control group counts as ``kernel``.
    """
    spent = {group: used - before.used.get(group, 0) for group, used in after.used.items()}
    whole = max(spent.pop(ROOT), 1)
    spent.pop(INNER, None)
    spent["kernel"] = max(0, whole - sum(spent.values()))
    parts = {Path(group).name: used / whole for group, used in spent.items()}
    return dict(sorted(parts.items(), key=lambda pair: -pair[1]))


def bench_idle(
    console: Console,
    ask: Callable[[str, str], str],
    stack: str,
    names: Iterable[str],
    libvirt: Path,
) -> None:
    """Print the processor time and memory that a stack's idle machines take of this computer.

    ``ask`` runs a script on a machine and returns its output. ``libvirt`` is the runtime directory
    of the lab's libvirt. The machines have priority over other programs: otherwise work that they
    could not do before would distort the measurement.
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
