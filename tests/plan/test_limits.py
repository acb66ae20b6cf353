"""How long steps wait, and what ends them."""

import re
from pathlib import Path

import pytest

from plan import library, render
from plan.limits import CONDITIONS, HARD, LIMITS
from plan.model import Step
from tests.plan.shell import StandIn, stand_in

SCRIPTS = library.names()


def test_each_limit_is_used_and_each_wait_has_one() -> None:
    used = {name for script in SCRIPTS for name in render.waits(library.script(script))}
    assert {name for name in used if not name.isdecimal()} == LIMITS.keys()
    for script in SCRIPTS:
        text = library.script(script)
        waits = re.findall(r"^[^#\n]*\b(?:await|await_api|wait_for) ([^ \n]+) ", text, re.M)
        assert all(name in LIMITS or name == '"$1"' for name in waits), (script, waits)
        clock = re.search(r"\bSECONDS\b", re.sub(r"#.*", "", text))
        assert not clock, "the clock of a slow machine decides"


def test_each_limit_has_a_reason() -> None:
    for name, limit in {**LIMITS, **CONDITIONS}.items():
        assert limit.seconds >= 30, name
        assert 20 <= len(limit.why) <= 100, name
        assert not limit.why.endswith("."), name


def test_a_step_is_ended_after_the_hard_limits_of_its_waits() -> None:
    step = Step(name="s", script="control-plane")
    names = ("api", "virtual-ip", "lock", "dpkg", "ended")
    own = sum(LIMITS[name].seconds for name in (*names, "restarted"))
    # A question to wait-for-api has three seconds, and a connection for a download ten.
    assert render.limit(step) == HARD * (render.WORK + own + 3 + 10)
    assert render.command(step).startswith(f"timeout -k 10 {render.limit(step)} ")


def test_the_data_of_a_step_have_no_limits_but_those_of_its_waits() -> None:
    def limits(step: Step) -> list[str]:
        (line,) = re.findall(r"^limits\t(.*)$", render.text(step), re.MULTILINE)
        return str(line).split("\t")

    assert "api=600" in limits(Step(name="s", script="control-plane"))
    assert not any(limit.startswith("api=") for limit in limits(Step(name="s")))
    assert {"lock=900", str(HARD)} <= {*limits(Step(name="s"))}


def test_a_script_with_a_limit_that_is_in_no_table_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(render, "script", lambda _: "await kubelt 'it is up' x true")
    with pytest.raises(ValueError, match="no limit kubelt"):
        render.text(Step(name="s"))


# -- a machine's own measure -----------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path)


def paces(machine: StandIn, before: str) -> list[int]:
    result = machine.say(
        "was=$PATH", before, "for _ in {1..9}; do measure; echo $pace; done", "PATH=$was"
    )
    assert (result.code, result.errors) == (0, "")
    return list(map(int, result.output.split()))


def test_a_faster_machine_counts_as_a_quiet_one(machine: StandIn) -> None:
    assert paces(machine, "quiet=1000000000") == [100] * 9


def test_a_slower_machine_has_its_measure_and_starts_no_program(machine: StandIn) -> None:
    measured = paces(machine, "quiet=1 PATH=/nowhere")
    assert measured[0] == 6400, "one measurement does not count for minutes"
    assert measured[-1] > 1000


def test_what_the_host_keeps_for_others_counts(machine: StandIn) -> None:
    """With KVM a machine is told: here half of the time when it wants a processor."""
    stat = machine.folder / "stat"
    measure = library.script("pace").replace("/proc/stat", str(stat))
    grows = f'n=$((n + 50)); echo "cpu $n 0 0 9999 0 0 0 $n 0 0" >{stat}'
    result = machine.say(
        measure,
        "quiet=1000000000 n=0",
        f"for _ in {{1..60}}; do {grows}; measure; done; echo $pace",
    )
    assert result.errors == ""
    assert 190 <= int(result.output) <= 200
