"""A control group with a quota: processes that get a part of a processor."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PERIOD = 100_000
"""Microseconds, as the kernel has it."""

PLACES = (
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu,cpuacct", "cpu.cfs_quota_us"),
    ("", "cpu.max"),
)
"""Where control groups are, of version 1 or 2, and the file that has their quota."""


@contextmanager
def quota(processors: float) -> Iterator[Path]:
    """A control group with a quota; where none can be made the test is skipped.

    None of its processes may live when it ends.
    """
    for home, limit in PLACES:
        group = Path("/sys/fs/cgroup", home, f"hardway-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if not (group / limit).exists():
                continue
            (group / limit).write_text(str(int(processors * PERIOD)))
            yield group
            return
        finally:
            group.rmdir()
    pytest.skip("no control group with a quota can be made here")
