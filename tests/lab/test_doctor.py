"""What is seen beforehand of a stack that does not fit on this host."""

from pathlib import Path
from typing import Any

import pytest

from lab.cache import Cache
from lab.doctor import Finding, Verdict, findings
from lab.paths import LabPaths
from spec.cluster import parse

SMALL = {"memory": 1024, "disk": 10}
LIBVIRT = {"uri": "qemu+ssh://elsewhere/system", "image": "base"}


def of_machines(paths: LabPaths, cache: Cache, size: dict[str, int], **more: Any) -> Finding:
    value = {
        "networks": {"machines": "192.168.1.0/24"},
        "machines": {
            "master": {"address": "192.168.1.10", "roles": "ai", **size},
            "m1": {"address": "192.168.1.11", **size},
            "m2": {"address": "192.168.1.12", **size},
        },
        **more,
    }
    spec = parse(value, name="dev")
    return next(one for one in findings(paths, cache, lambda: spec) if one.subject == "machines")


def test_machines_that_have_more_memory_than_the_host_are_a_problem(
    paths: LabPaths, empty_cache: Cache
) -> None:
    kibibytes = Path("/proc/meminfo").read_text().split()[1]
    each = int(kibibytes) // 1024 // 2
    seen = of_machines(paths, empty_cache, {"memory": each, "disk": 10})
    assert seen.verdict is Verdict.PROBLEM
    assert f"3 with {3 * each} MiB of memory and up to 30 GiB of disks together" in seen.seen
    assert seen.remedy.startswith("write less memory")


@pytest.mark.parametrize("more", [{}, {"hypervisor": LIBVIRT}])
def test_machines_that_fit_and_machines_elsewhere_are_good(
    more: dict[str, Any], paths: LabPaths, empty_cache: Cache
) -> None:
    size = {"memory": 10**6, "disk": 10} if more else SMALL
    assert of_machines(paths, empty_cache, size, **more).verdict is Verdict.GOOD
