"""How fast this host's time stamp counter (TSC) ticks: an emulated processor has the same counter.

The kernel tells it nowhere for sure: ``cpu MHz`` of /proc/cpuinfo is the present clock of a core,
the message at boot scrolls away, and CPUID's leaves are empty in many virtual machines. So it is
counted, against the clock that the kernel makes of it and nobody adjusts (CLOCK_MONOTONIC_RAW).
"""

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from pathlib import Path

STEADY = {"constant_tsc", "nonstop_tsc"}
"""Flags of /proc/cpuinfo: the counter keeps its speed, whatever the core's clock and sleep."""

RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl $32, %rdx; or %rdx, %rax; ret"""

PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC

SECONDS = 0.1
"""Over which is counted: what reading takes, some 100 ns, is then a millionth of it."""

READINGS = 50
"""Of which the quickest counts: in no other was the process certainly not interrupted."""


def frequency(cpuinfo: Path = Path("/proc/cpuinfo")) -> int | None:
    """Ticks in a millisecond (kHz), to the next 0.1 MHz; None where no steady counter is."""
    if platform.machine() != "x86_64" or not _steady(cpuinfo):
        return None
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=PROTECTION) as page:
            page.write(RDTSC)
            place = ctypes.c_char.from_buffer(page)
            count = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
            try:
                return _counted(count)
            finally:
                del place
    except OSError:  # a host that lets no process make code
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
    """The counter, and the time in the middle of its reading, in nanoseconds."""
    readings = []
    for _ in range(READINGS):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        ticks = count()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        readings.append((after - before, ticks, (before + after) / 2))
    _, ticks, middle = min(readings)
    return ticks, middle
