"""What steps share: one run at a time on a machine, and waits that say what they wait for."""

import re

import pytest

from plan import render
from plan.model import File, Step, Unit
from plan.readyz import WAIT
from tests.engine.stack import eventually
from tests.plan import inline
from tests.plan.container import Container
from tests.plan.limited import limited
from tests.plan.things.bringing import STATE, run

pytestmark = pytest.mark.container


def after_prelude(text: str) -> str:
    """A script that begins with the prelude's functions."""
    return f"{{\n{inline.functions('prelude', before=text)}\n{text}\nexit\n}}\n"


# -- two runs at once ----------------------------------------------------------------------------


def test_of_two_runs_one_waits_for_the_other(machine: Container) -> None:
    noting = "alone; echo begun >/srv/first; sleep 0.5; echo ended >/srv/first"
    first = machine.begin(after_prelude(noting))
    eventually("it is so", lambda: machine.path("/srv/first").exists())
    done = machine.run(after_prelude("alone; cat /srv/first"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
    assert machine.finish(first).returncode == 0


def test_a_run_that_waits_too_long_says_why(machine: Container) -> None:
    run(machine, Step(name="nothing"))
    with machine.held(f"{STATE}/lock"):
        done = machine.run(limited(after_prelude("reminder=1; alone; echo ran"), 1, "lock"))
    assert (done.returncode, done.stdout) == (1, "until no other run is at work here\n")
    assert re.fullmatch(
        r"failed: another run has been at work on this machine for \d+ s \(no news for \d+ s.*\); "
        "try again later\n",
        done.stderr,
    )


def test_runs_of_one_step_at_once_do_not_disturb_each_other(machine: Container) -> None:
    steps = [
        Step(name="same", files=(File(path=f"/srv/many/{n}", content=f"{n}\n" * 20000),))
        for n in range(6)
    ]
    children = [machine.begin(render.text(step)) for step in steps]
    for child in children:
        done = machine.finish(child)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    left = [path.rpartition("/")[2] for path in machine.snapshot(f"{STATE}/steps")]
    assert [name for name in left if "same" in name] == ["same"]


# -- waiting -------------------------------------------------------------------------------------


def test_who_waits_in_vain_is_shown_the_units_last_lines(machine: Container) -> None:
    crasher = Unit(
        name="crasher.service",
        description="dies",
        program="/bin/sh",
        type="exec",
        arguments=("-c", "echo I die of hunger; exit 7"),
    )
    run(machine, Step(name="crasher", units=(crasher,)))
    machine.run("until journalctl --unit crasher | grep --quiet hunger; do sleep 0.1; done")
    # It is up again and again, for a moment.
    waits = "await 1 'the crasher is up' crasher.service sh -c 'echo still hungry; exit 1'"
    done = machine.run(after_prelude(waits))
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    sentence = r"failed: not yet after (\d+) s: the crasher is up; no news for \d+ s.*"
    match = re.fullmatch(sentence, first)
    assert match
    assert int(match[1]) >= 1
    assert lines[:2] == ["still hungry", "the last lines of crasher.service:"]
    assert "I die of hunger" in lines
    assert len(lines) <= 10


def test_who_waits_goes_on_as_soon_as_it_is_there(machine: Container) -> None:
    asks = "sh -c 'echo >>/srv/asked; test $(wc -l </srv/asked) -eq 3'"
    done = machine.run(after_prelude(f"await 600 here x {asks}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_waits_long_says_why_it_is_not_so_yet(machine: Container) -> None:
    asks = "sh -c 'echo first; echo none is up; test -e /srv/late'"
    late = "(sleep 5; touch /srv/late) &"
    done = machine.run(after_prelude(f"reminder=1; {late} await 600 'all are up' x {asks}"))
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[0]) == (0, "", "until all are up")
    assert len(lines) > 1
    for line in lines[1:]:
        assert re.fullmatch(r"not yet: all are up \(none is up; no news for \d+ s.*\)", line)
        assert len(line) <= 100


def test_who_waits_for_the_api_is_told_why_it_does_not_answer(machine: Container) -> None:
    """A balancer's name without an address was waited for in silence."""
    machine.write(WAIT.path, WAIT.content, WAIT.mode)
    machine.path("/etc/resolv.conf").unlink(missing_ok=True)
    api = "await_api 6 https://api.example.org:6443 /srv/ca x"
    done = machine.run(after_prelude(f"reminder=1; {api}"))
    title = "the API server is ready"
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (1, f"until {title}")
    why = "curl: (6) Could not resolve host: api.example.org"
    for line in lines[1:]:
        assert line.startswith(f"not yet: {title} ({why[:15]}")
        assert re.search(r"; no news for \d+ s", line)
        assert len(line) <= 100
    match = re.match(
        rf"failed: not yet after (\d+) s: {title} \(https://api.example.org:6443\); no news.*\n",
        done.stderr,
    )
    assert match
    assert int(match[1]) >= 6, "all of the wait"
    assert done.stderr[match.end() :].startswith(f"{why}\n")


# What is measured takes ten times as long as one turn of a slowed machine.
MEASURED = "rounds=80000 quiet=93000"


def without_hard_limit(text: str) -> str:
    assert text.count("\nhard=8\n") == 1
    return text.replace("\nhard=8\n", "\nhard=1000\n")


def test_a_slow_machine_has_more_time(machine: Container) -> None:
    """A service needs seconds of a processor of which its machine has a tenth."""
    work = "for ((n = 0; n < 1600000; n++)); do :; done; echo >/srv/up"
    waits = "await 6 'the service is up' needy.service test -e /srv/up"
    with machine.slowed(0.1):
        machine.call("systemd-run", "--unit", "needy.service", "/bin/bash", "-c", work)
        done = machine.run(without_hard_limit(after_prelude(f"{MEASURED} reminder=3; {waits}")))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (first, *lines) = done.stdout.splitlines()
    assert first == "until the service is up"
    assert any(re.search(r"; machine [\d.]+ x slower\)$", line) for line in lines), done.stdout


NEW = "echo x >>/srv/asked; tr -d '\\n' </srv/asked"
"""Says something that it has not said before, each time that it is asked."""


def test_what_says_something_new_is_waited_for(machine: Container) -> None:
    asks = f"sh -c '{NEW}; [ $(wc -l </srv/asked) -ge 10 ]'"
    text = without_hard_limit(after_prelude(f"await 2 'it is done' x {asks}"))
    done = machine.run(text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("phrase", ["$(($(date +%s%N)))", "$(($(wc -l </srv/asked) % 2)) up"])
def test_what_only_counts_or_goes_round_in_circles_is_not_new(
    machine: Container, phrase: str
) -> None:
    machine.write("/srv/ask", f'echo >>/srv/asked; set -- one two; echo "for {phrase} $#"; exit 1')
    done = machine.run(without_hard_limit(after_prelude("await 1 'it is done' x sh /srv/ask")))
    assert done.returncode == 1
    assert re.match(r"failed: not yet after \d+ s: it is done; no news for \d+ s", done.stderr)


def test_what_says_something_new_for_ever_ends_at_the_hard_limit(machine: Container) -> None:
    done = machine.run(after_prelude(f"await 1 'it is done' x sh -c '{NEW}; exit 1'"))
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    match = re.match(r"failed: not yet after (\d+) s, the hard limit: it is done; no news", first)
    assert match, first
    assert int(match[1]) >= 8
