"""Services: enabled, running with the files of the plan, restarted for nothing else, and gone."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from plan import health, render
from plan import unit as unit_file
from plan.item import digest
from plan.model import (
    Artifact,
    Certificate,
    Directory,
    File,
    Link,
    SecretFile,
    Step,
    Unit,
)
from tests.plan.container import Container, Memory, quiet
from tests.plan.limited import limited
from tests.plan.mirror import ArtifactServer, mirror
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

SAMPLE = Unit(
    name="",
    description="A sample",
    program="/usr/local/bin/sample",
    arguments=("infinity",),
    type="exec",
    after=(),
    wants=(),
)


def service(name: str, *needs: str) -> Unit:
    """A service that notes at its start what is in the files that it needs."""
    note = f"/bin/sh -c 'cat {' '.join(needs)} >/run/{name}.seen'"
    return replace(
        SAMPLE,
        name=f"{name}.service",
        program=f"/usr/local/bin/{name}",
        before_start=(note,),
        needs=needs,
    )


LEFT_UNIT = service("left", "/etc/pair/left", "/etc/pair/both", "/etc/pair/key")
RIGHT_UNIT = service("right", "/etc/pair/right", "/etc/pair/both")
PAIR = Step(
    name="pair",
    files=tuple(
        File(path=f"/etc/pair/{name}", content=f"{name} 1\n")
        for name in ("left", "right", "both", "other")
    ),
    links=tuple(
        Link(path=f"/usr/local/bin/{name}", target="/usr/bin/sleep") for name in ("left", "right")
    ),
    units=(LEFT_UNIT, RIGHT_UNIT),
)
KEYS = Step(
    name="identity",
    secret_files=(SecretFile(path="/etc/pair/key", source=Certificate("key")),),
    script="identity",
)


def with_file(step: Step, name: str, content: str) -> Step:
    path = f"/etc/pair/{name}"
    return replace(
        step,
        files=tuple(
            replace(file, content=content) if file.path == path else file for file in step.files
        ),
    )


def with_right(step: Step, **changes: Any) -> Step:
    return replace(step, units=(step.units[0], replace(step.units[1], **changes)))


def keys(machine: Container, version: int) -> None:
    run(machine, KEYS, lambda _: f"key {version}\n")


def invocations(machine: Container) -> dict[str, str]:
    return machine.settled("left.service", "right.service")


def restarted(machine: Container, before: dict[str, str]) -> set[str]:
    after = invocations(machine)
    return {name.partition(".")[0] for name in after if after[name] != before[name]}


@pytest.fixture(scope="module")
def pair(memory: Memory) -> Iterator[Container]:
    """A machine with two services that run."""
    with Container(memory, prepare=quiet) as machine:
        machine.call("cp", "/usr/bin/sleep", "/srv/sleep")
        keys(machine, 1)
        run(machine, PAIR)
        yield machine


CHANGES: dict[str, tuple[Callable[[Step], Step], set[str]]] = {
    "nothing": (lambda step: step, set()),
    "a file of both": (lambda step: with_file(step, "both", "both 2\n"), {"left", "right"}),
    "a file of one": (lambda step: with_file(step, "left", "left 2\n"), {"left"}),
    "a file of none": (lambda step: with_file(step, "other", "other 2\n"), set()),
    "a unit": (lambda step: with_right(step, description="Another"), {"right"}),
    "what a unit needs": (lambda step: with_right(step, needs=("/etc/pair/other",)), {"right"}),
    "less that a unit needs": (lambda step: with_right(step, needs=()), set()),
    "a file that it no longer needs": (lambda step: with_file(step, "other", "other 3\n"), set()),
    "a program": (
        lambda step: replace(
            step, links=(step.links[0], replace(step.links[1], target="/srv/sleep"))
        ),
        {"right"},
    ),
    "everything back": (lambda _: PAIR, {"left", "right"}),
}


def test_only_what_a_change_touches_is_restarted(pair: Container) -> None:
    run(pair, PAIR)
    before, step = invocations(pair), PAIR
    for change, (changed, touched) in CHANGES.items():
        step = changed(step)
        run(pair, step)
        assert restarted(pair, before) == touched, change
        before = invocations(pair)
        for unit in (LEFT_UNIT, RIGHT_UNIT):
            seen = "".join(pair.read(path) for path in unit.needs)
            assert pair.read(f"/run/{unit.name.removesuffix('.service')}.seen") == seen, change


CRASH = """
mkdir -p /run/systemd/system/right.service.d
printf '[Service]\\nRestart=no\\n' >/run/systemd/system/right.service.d/no-restart.conf
systemctl daemon-reload
systemctl kill --signal KILL right
until systemctl --quiet is-failed right; do sleep 0.02; done
rm -r /run/systemd/system/right.service.d
systemctl daemon-reload
"""

STATES_BEFORE: dict[str, tuple[str, set[str]]] = {
    "stopped": ("systemctl stop right", {"right"}),
    "failed": (CRASH, {"right"}),
    "disabled": ("systemctl --quiet disable right", set()),
    "without its unit": ("rm /etc/systemd/system/right.service", set()),
    # What runs never saw the edit.
    "edited": ("echo mine >/etc/pair/right", set()),
    "masked": (
        "ln -sf /dev/null /etc/systemd/system/right.service; systemctl daemon-reload",
        set(),
    ),
    "without a record of its start": (f"rm {STATE}/running/right.service", {"right"}),
}


def test_services_run_and_are_enabled_from_whatever_state(pair: Container) -> None:
    run(pair, PAIR)
    for state, (text, touched) in STATES_BEFORE.items():
        before = invocations(pair)
        pair.run(text)
        run(pair, PAIR)
        assert restarted(pair, before) == touched, state
        assert pair.call("systemctl", "is-enabled", "left", "right") == "enabled\nenabled\n", state
        assert pair.read("/run/right.seen") == "right 1\nboth 1\n", state


def test_units_are_all_read_again_only_where_one_has_changed(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine(prepare=quiet)

    def reloads() -> int:
        log = ("journalctl", "--boot", "--identifier=systemd", "--output=cat", "--no-pager")
        return machine.call(*log).count("Reloading...")

    machine.call("cp", "/usr/bin/sleep", "/srv/sleep")
    keys(machine, 1)
    run(machine, PAIR)
    assert invocations(machine)
    assert reloads() == 0
    run(machine, with_right(PAIR, description="Another"))
    assert reloads() == 1


def test_a_new_key_restarts_exactly_who_runs_with_the_old_one(pair: Container) -> None:
    keys(pair, 1)
    run(pair, PAIR)
    before = invocations(pair)
    keys(pair, 1)
    assert restarted(pair, before) == set()
    keys(pair, 2)
    assert restarted(pair, before) == {"left"}
    assert pair.read("/run/left.seen") == "left 1\nboth 1\nkey 2\n"
    before = invocations(pair)
    run(pair, PAIR)
    keys(pair, 2)
    assert restarted(pair, before) == set()
    keys(pair, 1)


def test_a_service_that_dies_of_its_new_key_is_told(pair: Container) -> None:
    keys(pair, 1)
    refuses = "/bin/sh -c 'grep -q 1 /etc/pair/key || { echo I cannot read this key; exit 3; }'"
    choosy = replace(LEFT_UNIT, before_start=(refuses, *LEFT_UNIT.before_start))
    run(pair, replace(PAIR, units=(choosy, RIGHT_UNIT)))
    pair.settled("left.service")
    text = limited(render.text(KEYS, lambda _: "key 2\n"), 1)
    done = pair.run(text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "it runs with its new files (left.service)" in done.stderr
    assert "I cannot read this key" in done.stderr
    # The next key is good: the service is brought up though it does not run.
    keys(pair, 1)
    assert pair.shown("left.service")[0]["ActiveState"] == "active"
    run(pair, PAIR)


MAYFLY = replace(
    SAMPLE,
    name="mayfly.service",
    type="exec",
    program="/bin/sh",
    arguments=("-c", "grep -q 1 /etc/pair/key && exec $SERVER; sleep 0.3; echo I die; exit 3"),
    environment={"SERVER": "python3 -m http.server --bind 127.0.0.1 8099"},
    after_start=(health.wait("http://127.0.0.1:8099/"),),
    needs=("/etc/pair/key",),
)
"""Tells systemd nothing, and is well with one of two keys."""


def test_who_ends_at_once_has_not_been_up(machine: Container) -> None:
    keys(machine, 1)
    run(machine, Step(name="mayfly", files=(health.WAIT,), units=(MAYFLY,)))
    machine.settled(MAYFLY.name)
    assert machine.call("curl", "--silent", "--fail", "http://127.0.0.1:8099/")
    done = machine.run(limited(render.text(KEYS, lambda _: "key 2\n"), 3))
    assert done.returncode == 1
    assert "it runs with its new files (mayfly.service)" in done.stderr
    assert "I die" in done.stderr
    # It is tried again and again, and comes up once it can.
    before = int(machine.shown(MAYFLY.name)[0]["NRestarts"])
    machine.run(f"until [ $(systemctl show -P NRestarts {MAYFLY.name}) -gt {before} ]; do :; done")
    assert machine.shown(MAYFLY.name)[0]["ActiveState"] == "activating"
    keys(machine, 1)
    machine.settled(MAYFLY.name)
    # Other tests change the key as well.
    machine.call("systemctl", "disable", "--now", MAYFLY.name)
    machine.call("rm", f"{STATE}/running/{MAYFLY.name}")


def test_what_a_service_does_before_it_stops_is_done_while_it_runs(machine: Container) -> None:
    note = "/bin/sh -c 'kill -0 $MAINPID && touch /run/handed-over'"
    polite = replace(SAMPLE, name="polite.service", program="/usr/bin/sleep", before_stop=(note,))
    run(machine, Step(name="polite", units=(polite,)))
    machine.settled(polite.name)
    machine.call("systemctl", "restart", polite.name)
    assert machine.path("/run/handed-over").exists()


def test_a_service_of_another_user_runs_a_program_of_the_store(machine: Container) -> None:
    program_file = b"#!/bin/sh\nexec sleep infinity\n"
    digest = hashlib.sha256(program_file).hexdigest()
    machine.write(f"{STATE}/store/sha256/{digest}", program_file)
    artifact = Artifact(name="guest", version="1", kind="binary", sha256=digest)
    guest = replace(
        SAMPLE,
        name="guest.service",
        program=artifact.command.path,
        arguments=(),
        service={"User": "nobody"},
    )
    run(machine, Step(name="g", artifacts=(artifact,), links=(artifact.command,), units=(guest,)))
    machine.settled(guest.name)
    assert machine.shown(guest.name)[0]["NRestarts"] == "0"
    # Passing through is all that others may do.
    assert machine.call("stat", "-c", "%a", STATE) == "711\n"
    assert machine.run(f"setpriv --reuid nobody ls {STATE}").returncode == 2


SLOW = replace(
    SAMPLE,
    name="slow.service",
    program="/bin/bash",
    arguments=("-c", "trap 'sleep 4; exit' TERM; while true; do sleep 0.1; done"),
    service={"KillMode": "mixed"},
)


@pytest.mark.parametrize("by_key", [False, True])
def test_what_ran_before_a_restart_is_over_when_health_is_asked(
    machine: Container, by_key: bool
) -> None:
    """Else it answers for its successor."""
    slow = replace(SLOW, needs=("/etc/pair/key",))

    def done(step: Step, key: int = 1) -> None:
        outcome = machine.run(render.text(step, lambda _: f"key {key}\n"))
        assert (outcome.returncode, outcome.stderr) == (0, "")

    done(KEYS)
    done(Step(name="slow", units=(slow,)))
    machine.settled(SLOW.name)
    before = machine.call("systemctl", "show", "--property=MainPID", "--value", SLOW.name).strip()
    assert machine.run(f"kill -0 {before}").returncode == 0
    if by_key:
        done(KEYS, 2)
    else:
        done(Step(name="slow", units=(replace(slow, description="Another"),)))
    assert machine.run(f"kill -0 {before}").returncode != 0


def test_who_changes_their_mind_after_a_cut_gets_what_they_want(pair: Container) -> None:
    keys(pair, 1)
    run(pair, PAIR)
    ways: tuple[tuple[str, Callable[[], None]], ...] = (
        (render.text(with_file(PAIR, "left", "left 2\n")), lambda: run(pair, PAIR)),
        (render.text(KEYS, lambda _: "key 2\n"), lambda: keys(pair, 1)),
    )
    pair.write(
        "/run/after-restart",
        "set -T\ntrap '[ \"${FUNCNAME[0]-}\" != restart ] || kill -KILL 0' RETURN\n",
    )
    for text, back in ways:
        # What is new runs, and nobody has noted it yet.
        cut = pair.finish(pair.begin(text, BASH_ENV="/run/after-restart"))
        assert cut.returncode < 0
        pair.settled("left.service")
        back()
        pair.settled("left.service")
        assert pair.read("/run/left.seen") == "left 1\nboth 1\nkey 1\n"


def version_of_pair(number: int, server: ArtifactServer) -> str:
    """A step of which nearly everything differs from one version to another."""
    content = f"#!/bin/sh\n# {number}\nexec sleep infinity\n".encode()
    digest = hashlib.sha256(content).hexdigest()
    server.files[digest] = content
    artifact = Artifact(
        name="left", version="1", kind="binary", sha256=digest, urls=(server.url(digest),)
    )
    step = replace(
        PAIR,
        users=("cutter",),
        artifacts=(artifact,),
        directories=(Directory(path="/etc/pair/in", mode=0o750, owner="cutter:cutter"),),
        files=tuple(
            replace(file, content=f"{file.path} {number}\n" * 99, owner="cutter:cutter")
            for file in PAIR.files
            if file.path in LEFT_UNIT.needs
        ),
        links=(artifact.command,),
        units=(replace(LEFT_UNIT, description=f"Version {number}"),),
    )
    return render.text(step)


NOTHING = f"""
systemctl stop left; userdel cutter; cd /etc/systemd/system
rm -rf {STATE}/[!a]* {STATE}/applied/[!i]* /etc/pair/[!k]* /usr/local/bin/left
rm -f {{.,*.wants}}/left.service
systemctl daemon-reload
"""


def state_of(machine: Container) -> dict[str, str]:
    """All that the steps make, but which artifacts are kept and when they were verified."""
    machine.settled("left.service")
    states = machine.snapshot("/etc/pair", "/etc/systemd/system", "/usr/local/bin", STATE)
    own = {path: about for path, about in states.items() if not path.startswith(f"{STATE}/store")}
    return own | {
        "started with": machine.read("/run/left.seen"),
        "program": machine.path(str(machine.path("/usr/local/bin/left").readlink())).read_text(),
    }


def cut_off_and_done(
    machine: Container, versions: tuple[str, str], points: int, *, fresh: bool
) -> None:
    """Go from version to version, cut off at random points, and see that it is as if never cut."""
    chance, expected, commands, seconds = random.Random(points), [], 0, 0.0
    for text in versions:
        began = time.monotonic()
        commands = machine.commands(text)
        seconds = time.monotonic() - began
        expected.append(state_of(machine))
    assert expected[0] != expected[1]
    now, killed = 1, 0
    for point in range(points):
        if fresh and point % 4 == 0:
            machine.run(NOTHING)
        cut: dict[str, Any] = {"command": chance.randint(1, commands)}
        if point % 2:
            cut = {"seconds": chance.uniform(0, seconds)}
        killed += machine.run(versions[1 - now], **cut).returncode < 0
        # Whoever cut it off may have changed their mind.
        now = chance.choice((now, 1 - now, 1 - now))
        done = machine.run(versions[now])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"point {point} {cut}"
        assert state_of(machine) | cut == expected[now] | cut
    assert killed >= points / 2


def test_a_step_that_was_cut_off_anywhere_is_done_by_the_next_run(
    new_machine: Callable[..., Container],
) -> None:
    machine = new_machine()
    keys(machine, 1)
    with mirror(machine.listener()) as server:
        versions = version_of_pair(1, server), version_of_pair(2, server)
        cut_off_and_done(machine, versions, 12, fresh=True)
    renewals = render.text(KEYS, lambda _: "key 2\n"), render.text(KEYS, lambda _: "key 1\n")
    cut_off_and_done(machine, renewals, 10, fresh=False)


# -- absent --------------------------------------------------------------------------------------

GUEST = replace(SAMPLE, name="visitor.service", program="/usr/bin/sleep")
OWN_FILES = (
    f"/etc/systemd/system/{GUEST.name}",
    f"/etc/systemd/system/{GUEST.name}.d",
    f"/etc/systemd/system/multi-user.target.wants/{GUEST.name}",
    f"{STATE}/running/{GUEST.name}",
    f"{STATE}/applied/{ROLE}",
)
VISIT = Step(name=ROLE, units=(GUEST,))
NEVER_CAME = f"""
systemctl unmask {GUEST.name} 2>/dev/null || true
systemctl disable --now {GUEST.name} 2>/dev/null || true
systemctl reset-failed {GUEST.name} 2>/dev/null || true
rm -rf {" ".join(OWN_FILES)}
systemctl daemon-reload
"""


def visit(machine: Container) -> object:
    """What there is of the service: its state, and its files without the times of its starts."""
    state = machine.run(f"systemctl is-active {GUEST.name} || true").stdout.strip()
    return state.replace("activating", "active"), machine.snapshot(*OWN_FILES)


@pytest.mark.parametrize(
    "before",
    [
        "true",
        f"systemctl stop {GUEST.name}",
        f"systemctl --quiet disable {GUEST.name}",
        f"ln -sf /dev/null {GUEST.path}; systemctl daemon-reload",
        f"install -D /dev/null {GUEST.path}.d/mine.conf; systemctl daemon-reload",
        f"rm {STATE}/running/{GUEST.name}",
        f"rm {GUEST.path}",
    ],
)
def test_nothing_is_left_of_a_service_that_was_found(machine: Container, before: str) -> None:
    shell(machine, NEVER_CAME)
    nothing = visit(machine)
    run(machine, VISIT)
    machine.settled(GUEST.name)
    shell(machine, before)
    leave(machine)
    assert visit(machine) == nothing


def test_a_unit_of_another_name_takes_over_from_the_old_one(machine: Container) -> None:
    run(machine, VISIT)
    machine.settled(GUEST.name)
    renamed = replace(GUEST, name="successor.service")
    run(machine, replace(VISIT, units=(renamed,)))
    machine.settled(renamed.name)
    assert machine.shown(GUEST.name)[0]["ActiveState"] == "inactive"
    assert not machine.path(GUEST.path).exists()
    leave(machine)


def test_a_service_of_another_step_runs_on(machine: Container) -> None:
    for name in ("sharer", ROLE):
        run(machine, replace(VISIT, name=name))
    before = machine.settled(GUEST.name)
    leave(machine)
    assert machine.settled(GUEST.name) == before
    leave(machine, "sharer")
    assert machine.shown(GUEST.name)[0]["ActiveState"] == "inactive"


def test_a_directory_in_place_of_a_unit_is_told(machine: Container) -> None:
    shell(machine, NEVER_CAME)
    machine.path(GUEST.path).mkdir()
    assert f"{GUEST.path} is a directory and should be a file" in refused(machine, VISIT)
    machine.path(GUEST.path).rmdir()
    leave(machine)


# -- drift ---------------------------------------------------------------------------------------

MINE = "# mine\n"


def test_drift_of_a_service_is_observed_and_mended(machine: Container) -> None:
    shell(machine, NEVER_CAME)
    file, service = f"file {GUEST.path}", f"service {GUEST.name}"
    stays_down = f"{GUEST.path}.d/no-restart.conf"
    crash = f"""
    mkdir {GUEST.path}.d; printf '[Service]\nRestart=no\n' >{stays_down}; systemctl daemon-reload
    systemctl kill --signal KILL {GUEST.name}
    until systemctl --quiet is-failed {GUEST.name}; do sleep 0.02; done
    """
    edited = f"sha256:{digest(unit_file.text(GUEST) + MINE)} 0600 root:root"
    drift_is_mended(
        guarded(machine, VISIT),
        {
            f"systemctl stop {GUEST.name}": {service: "enabled, stopped"},
            f"systemctl --quiet disable {GUEST.name}": {service: "disabled, runs sleep"},
            f"systemctl --quiet disable --now {GUEST.name}": {service: "disabled, stopped"},
            f"{crash} rm -r {GUEST.path}.d; systemctl daemon-reload": {service: "enabled, failed"},
            crash: {service: f"enabled, failed, with settings of {stays_down}"},
            f"ln -sf /dev/null {GUEST.path}; systemctl daemon-reload": {
                file: "-> /dev/null",
                service: "masked, runs sleep",
            },
            f"chmod 644 {GUEST.path}": {
                file: f"sha256:{digest(unit_file.text(GUEST))} 0644 root:root"
            },
            f"systemctl stop {GUEST.name}; echo '# mine' >>{GUEST.path}; systemctl daemon-reload": {
                file: edited,
                service: "enabled, stopped",
            },
        },
    )
    leave(machine)


def test_a_service_that_should_be_gone_is_observed(machine: Container) -> None:
    absence_is_observed(machine, VISIT)
    assert machine.shown(GUEST.name)[0]["ActiveState"] == "inactive"


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_service_half_there(machine: Container) -> None:
    cuts = Cuts(machine=machine, step=VISIT, before=NEVER_CAME, state=lambda: visit(machine))
    cuts.end_alike()
    cuts.leave_alike()
