"""Measures the frequency of this host's time stamp counter (TSC).

An emulated processor has the same counter. No source of the kernel gives its frequency reliably:
``cpu MHz`` in /proc/cpuinfo is the present clock of a core, the boot message is lost from the log
after a while, and the CPUID leaves are empty in many virtual machines. So this module measures it
against CLOCK_MONOTONIC_RAW, which the kernel derives from the counter and nobody adjusts.
"""

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from pathlib import Path

STEADY = {"constant_tsc", "nonstop_tsc"}
"""Flags in /proc/cpuinfo of a counter whose speed does not depend on the core's clock or sleep."""

RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""Machine code that returns the counter: rdtsc; shl $32, %rdx; or %rdx, %rax; ret"""

PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC

SECONDS = 0.1
"""Duration of the measurement. One reading takes some 100 ns, a millionth of that."""

READINGS = 50
"""Number of readings, of which the quickest counts: an interrupt may have delayed the others."""


def frequency(cpuinfo: Path = Path("/proc/cpuinfo")) -> int | None:
    """The frequency in kHz, rounded to 0.1 MHz; None where the host has no steady counter."""
    if platform.machine() != "x86_64" or not _steady(cpuinfo):
        return None
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=PROTECTION) as page:
            page.write(RDTSC)
            start = ctypes.c_char.from_buffer(page)
            count = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
            try:
                return _counted(count)
            finally:
                del start
    except OSError:  # the host forbids memory that is both writable and executable
        return None


def _steady(cpuinfo: Path) -> bool:
    lines = cpuinfo.read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return set(flags) >= STEADY


def _counted(count: Callable[[], int]) -> int:
    ticks, nanoseconds = _reading(count)
    time.sleep(SECONDS)
    more, later = _reading(count)
    return round((more - ticks) * 1e6 / (later - nanoseconds) / 100) * 100


def _reading(count: Callable[[], int]) -> tuple[int, float]:
    """The counter's value, and the time in nanoseconds at the middle of its reading."""
    readings = []
    for _ in range(READINGS):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        ticks = count()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        readings.append((after - before, ticks, (before + after) / 2))
    _, ticks, middle = min(readings)
    return ticks, middle
