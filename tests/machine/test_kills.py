"""``./hardway up`` and ``./hardway down`` are killed at random moments, and run again.

``make test-kills N=50`` does it so often. The seed is printed, and ``HARDWAY_KILLS_SEED`` sets it.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from lab.process import descendants
from tests.machine.lab import Lab, at_length, brought_up

KILLS = int(os.environ.get("HARDWAY_KILLS", "6"))
SEED = int(os.environ.get("HARDWAY_KILLS_SEED", str(time.time_ns() % 10**6)))

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1800 + 900 * KILLS), at_length]

CLUSTER: dict[str, Any] = {
    "networks": {"machines": "192.168.1.0/24"},
    "machines": {"solo": {"address": "192.168.1.10", "cpus": 2, "memory": 3072}},
}


def _labels(number: int) -> dict[str, Any]:
    return {"machines": {"solo": {**CLUSTER["machines"]["solo"], "labels": {"n": str(number)}}}}


CHANGES: dict[str, Callable[[int], dict[str, Any]]] = {
    "another label": _labels,
    "another mode of kube-proxy": lambda n: {"proxy_mode": ("iptables", "nftables")[n % 2]},
    "another encryption key": lambda n: {"keys": {"encryption": n + 2}},
    "another MTU": lambda n: {"networks": {**CLUSTER["networks"], "mtu": 1400 + n}},
    "CoreDNS on or off": lambda n: {"addons": {"coredns": bool(n % 2)}},
}
"""Changes of a living cluster, each with what it makes of the spec, round by round."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    # The first update is killed as well.
    yield from brought_up("mtkills", CLUSTER, tmp_path_factory, request.session, lambda _: None)


class Killing:
    """Updates that are killed after a part of the time that such an update takes."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._random = random.Random(SEED)
        self._seconds: dict[str, float] = {}

    def killed(self, verb: str, usual: float) -> str:
        """Run a verb and kill it with all that it started; what became of it."""
        after = self._random.uniform(0.5, self._seconds.get(verb, usual))
        began = time.monotonic()
        process = self._lab.start(verb)
        while process.poll() is None and time.monotonic() < began + after:
            time.sleep(0.05)
        if process.poll() is not None:
            process.communicate()
            return f"had ended after {time.monotonic() - began:.0f} s"
        started = (process.pid, *descendants(process.pid))
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        return f"killed after {after:.0f} s"

    def whole(self, verb: str) -> None:
        """Run a verb to its end."""
        began = time.monotonic()
        self._lab.hardway(verb)
        self._seconds[verb] = time.monotonic() - began

    def change(self) -> str:
        return self._random.choice(sorted(CHANGES))


def test_whatever_was_killed_goes_on_and_nothing_that_was_written_is_lost(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    record_property("seed", SEED)
    print(f"HARDWAY_KILLS_SEED={SEED}")
    killing = Killing(lab)
    rounds = [f"the first up {killing.killed('up', 120)}"]
    killing.whole("up")
    spec = CLUSTER
    # The first update and the end are killed as well.
    for number in range(KILLS - 2):
        name = f"round-{number}"
        lab.kubectl("create", "configmap", name, f"--from-literal=number={number}")
        what = killing.change()
        spec = {**spec, **CHANGES[what](number)}
        lab.describe(spec)
        rounds.append(f"{what}: up {killing.killed('up', 60)}")
        killing.whole("up")
        lab.hardway("validate", "--wait", "600")
        lab.pulumi("preview", "--expect-no-changes")
        maps = lab.objects("configmaps")["items"]
        kept = {item["metadata"]["name"]: item.get("data", {}).get("number") for item in maps}
        wanted = {f"round-{earlier}": str(earlier) for earlier in range(number + 1)}
        assert wanted.items() <= kept.items(), rounds
    rounds.append(f"down {killing.killed('down', 15)}")
    lab.hardway("down")
    record_property("rounds", rounds)
    status = lab.hardway("status", ok=False).stdout
    assert "solo" not in status, status
