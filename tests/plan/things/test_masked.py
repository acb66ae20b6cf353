"""Units of the distribution that must not run, and may run again once their step has gone."""

import pytest

from plan.model import Step
from tests.plan.container import Container
from tests.plan.things.bringing import (
    ROLE,
    STATE,
    Cuts,
    absence_is_observed,
    drift_is_mended,
    guarded,
    leave,
    refused,
    run,
    shell,
)

pytestmark = pytest.mark.container


@pytest.fixture
def sleeper(machine: Container) -> str:
    """A service of the distribution that runs."""
    machine.write(
        "/usr/lib/systemd/system/sleeper.service",
        "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    )
    shell(machine, RUNS_AGAIN)
    return "sleeper.service"


RUNS_AGAIN = f"""
rm -f /etc/systemd/system/sleeper.service {STATE}/applied/{ROLE}
systemctl daemon-reload
systemctl start sleeper.service
"""
LINK = "/etc/systemd/system/sleeper.service"


def active(machine: Container) -> str:
    return machine.run("systemctl is-active sleeper.service || true").stdout.strip()


def test_masked_services_do_not_run_from_whatever_state(machine: Container) -> None:
    names = ("idle.service", "busy.service", "halfway.service", "unheard-of.service")
    for name in names[:3]:
        machine.write(f"/usr/lib/systemd/system/{name}", "[Service]\nExecStart=sleep infinity\n")
    machine.call("systemctl", "start", *names[1:3])
    # A run that was cut off between the two.
    machine.path("/etc/systemd/system/halfway.service").symlink_to("/dev/null")
    for _ in range(2):
        run(machine, Step(name="m", masked=names))
        assert {unit["ActiveState"] for unit in machine.shown(*names)} == {"inactive"}
        for name in names:
            assert machine.call("readlink", f"/etc/systemd/system/{name}") == "/dev/null\n"


def test_a_second_run_neither_stops_nor_masks_again(machine: Container, sleeper: str) -> None:
    step = Step(name=ROLE, masked=(sleeper,))
    run(machine, step)
    before = machine.path(LINK).lstat().st_ino
    run(machine, step)
    assert machine.path(LINK).lstat().st_ino == before
    leave(machine)


def test_a_unit_that_somebody_wrote_is_not_replaced(machine: Container, sleeper: str) -> None:
    machine.write(LINK, "[Service]\nExecStart=sleep infinity\n")
    assert f"{sleeper} cannot be masked: " in refused(machine, Step(name=ROLE, masked=(sleeper,)))
    assert "sleep infinity" in machine.read(LINK)
    leave(machine)
    assert "sleep infinity" in machine.read(LINK)


# -- absent --------------------------------------------------------------------------------------


def test_a_unit_may_run_again_and_is_not_started(machine: Container, sleeper: str) -> None:
    run(machine, Step(name=ROLE, masked=(sleeper,)))
    assert active(machine) == "inactive"
    leave(machine)
    assert not machine.path(LINK).is_symlink()
    assert active(machine) == "inactive"
    machine.call("systemctl", "start", sleeper)
    assert active(machine) == "active"


def test_a_unit_that_another_step_masks_stays_masked(machine: Container, sleeper: str) -> None:
    for name in ("sharer", ROLE):
        run(machine, Step(name=name, masked=(sleeper,)))
    leave(machine)
    assert machine.path(LINK).is_symlink()
    leave(machine, "sharer")
    assert not machine.path(LINK).is_symlink()


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_nothing_running(machine: Container, sleeper: str) -> None:
    cuts = Cuts(
        machine=machine,
        step=Step(name=ROLE, masked=(sleeper,)),
        before=RUNS_AGAIN,
        state=lambda: (active(machine), machine.snapshot(LINK, f"{STATE}/applied")),
    )
    cuts.end_alike()
    assert active(machine) == "inactive"
    cuts.leave_alike()


# -- drift ---------------------------------------------------------------------------------------


def test_drift_of_a_masked_unit_is_observed_and_mended(machine: Container, sleeper: str) -> None:
    key = f"masked unit {sleeper}"
    drift_is_mended(
        guarded(machine, Step(name=ROLE, masked=(sleeper,))),
        {
            f"systemctl --quiet unmask {sleeper}": {key: "not masked, stopped"},
            RUNS_AGAIN: {key: "not masked, runs"},
            # Whoever starts it and masks it then leaves it running.
            f"{RUNS_AGAIN}\nsystemctl --quiet mask {sleeper}": {key: "masked, runs"},
        },
    )
    leave(machine)


def test_a_mask_that_should_be_gone_is_observed(machine: Container, sleeper: str) -> None:
    absence_is_observed(machine, Step(name=ROLE, masked=(sleeper,)))
    assert not machine.path(LINK).is_symlink()
