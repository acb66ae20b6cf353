"""What is seen beforehand of a stack that does not fit on this host."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certs.ssh import new_key_pair
from lab.cache import Cache
from lab.doctor import Check, Verdict, findings
from lab.paths import PROJECT, LabPaths
from lab.stack import plugins_path
from spec.cluster import Cluster, parse

SMALL = {"memory": 1024, "disk": 10}
LIBVIRT = {"uri": "qemu+ssh://root@elsewhere/system", "image": "base"}


ONE = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"master": {"address": "192.168.1.10"}},
}


def of_machines(paths: LabPaths, cache: Cache, size: dict[str, int], **more: Any) -> Check:
    return seen_of("machines", paths, cache, size, **more)


def seen_of(
    subject: str, paths: LabPaths, cache: Cache, size: dict[str, int], **more: Any
) -> Check:
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
    return finding(subject, paths, cache, spec)


def finding(subject: str, paths: LabPaths, cache: Cache, spec: Cluster) -> Check:
    checks = findings(paths, cache, lambda: spec, "dev")
    return next(check for check in checks if check.subject == subject)


def test_a_routed_network_needs_a_libvirt_that_routers_lead_to(
    paths: LabPaths, empty_cache: Cache
) -> None:
    networks = {"machines": "192.168.1.0/24", "routed": True}
    seen = seen_of("network", paths, empty_cache, SMALL, networks=networks)
    assert seen.verdict is Verdict.PROBLEM
    assert "no router leads to them" in seen.seen
    elsewhere = seen_of("network", paths, empty_cache, SMALL, networks=networks, hypervisor=LIBVIRT)
    assert elsewhere.verdict is Verdict.GOOD


def test_machines_that_have_more_memory_than_the_host_are_a_problem(
    paths: LabPaths, empty_cache: Cache
) -> None:
    kibibytes = Path("/proc/meminfo").read_text().split()[1]
    memory = int(kibibytes) // 1024 // 2
    seen = of_machines(paths, empty_cache, {"memory": memory, "disk": 10})
    assert seen.verdict is Verdict.PROBLEM
    assert f"3 with {3 * memory} MiB of memory and up to 30 GiB of disks together" in seen.seen
    assert seen.remedy.startswith("write less memory")


@pytest.mark.parametrize("more", [{}, {"hypervisor": LIBVIRT}])
def test_machines_that_fit_and_machines_elsewhere_are_good(
    more: dict[str, Any], paths: LabPaths, empty_cache: Cache
) -> None:
    size = {"memory": 10**6, "disk": 10} if more else SMALL
    assert of_machines(paths, empty_cache, size, **more).verdict is Verdict.GOOD


@pytest.mark.parametrize("subject", ["machines", "processors"])
def test_machines_that_exist_already_take_nothing_of_this_host(
    subject: str, paths: LabPaths, empty_cache: Cache
) -> None:
    key = new_key_pair().public
    keys = {f"192.168.1.{number}": key for number in (10, 11, 12)}
    existing = {"kind": "existing", "host_keys": keys}
    seen = seen_of(subject, paths, empty_cache, {}, hypervisor=existing)
    assert seen.verdict is Verdict.GOOD
    assert "exist already" in seen.seen


# -- the endpoint ----------------------------------------------------------------------------------


def of_endpoint(paths: LabPaths, cache: Cache, host: str) -> Check:
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
    getent.write_text("#!/bin/sh\nprintf '192.0.2.%s STREAM\\n' 7 7 8\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    seen = of_endpoint(paths, empty_cache, "api.example.org")
    known = (Verdict.GOOD, "https://api.example.org:8443, 192.0.2.7, 192.0.2.8")
    assert (seen.verdict, seen.seen) == known
    address = of_endpoint(paths, empty_cache, "192.0.2.7")
    assert (address.verdict, address.seen) == (Verdict.GOOD, "https://192.0.2.7:8443")


# -- the plugin that wrote the state ---------------------------------------------------------------


@pytest.mark.parametrize("noted", ["built", "official", "installed", None])
@pytest.mark.parametrize("installed", [True, False])
def test_a_state_that_another_plugin_wrote_is_named(
    noted: str | None,
    installed: bool,
    paths: LabPaths,
    empty_cache: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = parse(ONE, name="dev")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    if installed:
        program = tmp_path / "plugins/resource-command-v1.2.1/pulumi-resource-command"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    if noted:
        note = plugins_path(paths, "dev")
        note.parent.mkdir(parents=True)
        note.write_text(json.dumps({"command": noted, "libvirt": "built"}))
    seen = finding("plugin command", paths, empty_cache, spec)
    another = {(True, "built"), (True, "official"), (False, "installed")}
    assert ("the state of dev was written by" in seen.seen) == ((installed, noted) in another)
    assert bool(seen.remedy) == ((installed, noted) in another)
    assert seen.verdict is not Verdict.PROBLEM


# -- the processors --------------------------------------------------------------------------------


def test_a_host_that_others_keep_busy_is_slow_and_no_problem(
    paths: LabPaths, empty_cache: Cache
) -> None:
    loops = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    # As others' programs: what doctor itself starts does not count.
    try:
        script = (
            "from tests.lab.test_doctor import *; from lab.paths import lab_paths\n"
            "found = seen_of('processors', lab_paths(), Cache(), {'cpus': 100})\n"
            "print(found.verdict, found.seen, found.remedy, sep='|')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
        )
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    verdict, seen, remedy = done.stdout.strip().split("|")
    assert verdict == "slow"
    assert (
        f"of this computer's {os.cpu_count()} processors are free, and the machines ask for 300; "
        in seen
    )
    assert "most is taken by " in seen
    assert remedy.startswith("nothing, if time does not matter")


def test_machines_elsewhere_take_none_of_the_processors(
    paths: LabPaths, empty_cache: Cache
) -> None:
    seen = seen_of("processors", paths, empty_cache, SMALL, hypervisor=LIBVIRT)
    assert (seen.verdict, seen.seen) == (Verdict.GOOD, "of machines elsewhere")
