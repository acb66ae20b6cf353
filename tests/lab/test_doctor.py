"""What is seen beforehand of a stack that does not fit on this host."""

import os
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
    return seen_of("machines", paths, cache, size, **more)


def seen_of(
    subject: str, paths: LabPaths, cache: Cache, size: dict[str, int], **more: Any
) -> Finding:
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
    return next(one for one in findings(paths, cache, lambda: spec) if one.subject == subject)


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


# -- the endpoint ----------------------------------------------------------------------------------


def of_endpoint(paths: LabPaths, cache: Cache, host: str) -> Finding:
    endpoint = {"kind": "balancer", "host": host, "port": 8443}
    return seen_of("endpoint", paths, cache, SMALL, endpoint=endpoint)


def test_an_endpoint_whose_name_nobody_knows_is_a_problem(
    paths: LabPaths, empty_cache: Cache
) -> None:
    seen = of_endpoint(paths, empty_cache, "api.cluster.invalid")  # never there (RFC 6761)
    assert seen.verdict is Verdict.PROBLEM
    assert seen.seen.startswith("this computer finds no address of api.cluster.invalid")
    assert "write the balancer's address as endpoint.host" in seen.remedy


def test_an_endpoint_that_is_known_is_shown_with_its_addresses(
    paths: LabPaths, empty_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    getent = tmp_path / "getent"
    getent.write_text("#!/bin/sh\nprintf '192.0.2.%s STREAM\n' 7 7 8\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    seen = of_endpoint(paths, empty_cache, "api.example.org")
    known = (Verdict.GOOD, "https://api.example.org:8443, 192.0.2.7, 192.0.2.8")
    assert (seen.verdict, seen.seen) == known
    address = of_endpoint(paths, empty_cache, "192.0.2.7")
    assert (address.verdict, address.seen) == (Verdict.GOOD, "https://192.0.2.7:8443")
