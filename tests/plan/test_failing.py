"""A step that waits in vain says so in a sentence, before what its log has to add."""

import re
import time
from pathlib import Path

import pytest

from plan import render
from tests.plan.shell import StandIn, stand_in

TAIL_LINES, TAIL_BYTES = 20, 4096
"""What the command plugin shows of a failed command's errors (plugins/command/output)."""

KUBELET = """
while [ "$1" != --lines ]; do shift; done
for number in $(seq "$2"); do
    printf 'I1128 09:00:00 1234 kubelet_node_status.go:%s] %0400d\\n' "$number" 0
done
"""
"""Of a busy host: long lines, as many as are asked for."""


@pytest.fixture
def machine(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path, journalctl=KUBELET)


def test_the_sentence_comes_first_and_all_of_it_fits_into_what_is_shown(machine: StandIn) -> None:
    asked = "sh -c 'seq 60 | while read -r n; do printf \"%s %0900d\\n\" $n 0; done; exit 1'"
    result = machine.say(f"await 300 'the kubelet is healthy' kubelet.service {asked}")
    assert result.code != 0
    first, *rest = result.errors.splitlines()
    assert re.fullmatch(
        r"failed: not yet after \d+ s: the kubelet is healthy; no news for .*", first
    )
    assert len(rest) < TAIL_LINES
    assert len(result.errors.encode()) < TAIL_BYTES
    assert "60 0000" in result.errors, "the last answer"
    log = rest[rest.index("the last lines of kubelet.service:") + 1 :]
    assert 5 <= len(log) <= 10
    assert render.failure(result.errors) == first.removeprefix("failed: ")


def test_a_long_sentence_is_whole(machine: StandIn) -> None:
    members = " ".join(f"member-{number}-{'x' * 40}" for number in range(9))
    title = f"the members {members} of etcd answer together"
    result = machine.say(f'await 300 "{title}" etcd.service false')
    assert f" s: {title}; no news for " in result.errors.splitlines()[0]
    assert len(result.errors.encode()) < TAIL_BYTES


def test_no_answer_at_all_is_no_empty_line(machine: StandIn) -> None:
    result = machine.say("await 300 'the CNI list is there' flanneld.service false")
    assert "" not in result.errors.splitlines()


def test_what_stops_a_step_is_marked_as_its_sentence(machine: StandIn) -> None:
    result = machine.say("echo noise >&2", "problem no room for $((1 + 1))")
    assert result.errors == "noise\nfailed: no room for 2\n"
    assert render.failure(result.errors) == "no room for 2"


def test_a_step_that_says_nothing_of_its_own_has_no_sentence() -> None:
    assert render.failure("") is None
    assert render.failure("install: it has failed: No space left on device\n") is None


def waits(machine: StandIn, waiter: str, seconds: int) -> tuple[float, str]:
    """The seconds for which an API was waited for in vain, and what was said of it."""
    never = machine.with_programs(
        **{"wait-for-api": waiter, "curl": "echo refused; exit 7", "sleep": "exec /bin/sleep $1"}
    )
    url = "https://192.168.1.10:6443"
    begun = time.monotonic()
    result = never.say(f"await_api {seconds} {url} /etc/ca.pem kubelet.service")
    took = time.monotonic() - begun
    assert result.code != 0
    sentence = render.failure(result.errors) or ""
    assert f" s: the API server is ready ({url}); no news for " in sentence, result.errors
    return took, sentence


@pytest.mark.parametrize("waiter", ["exec /bin/sleep 600", "exit 0"])
def test_an_api_server_is_waited_for_once_and_for_as_long_as_is_said(
    machine: StandIn, waiter: str
) -> None:
    """Nobody listens; or it has listened for a moment and is never well."""
    took, sentence = waits(machine, waiter, 6)
    (waited,) = map(int, re.findall(r"not yet after (\d+) s", sentence))
    assert waited >= 5, "whole seconds, of which the first was begun before"
    assert waited <= took + 1
