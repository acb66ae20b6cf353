"""System users: each with a group of its name, made where they are missing, and left there."""

import pytest

from plan.model import File, Step
from tests.plan.container import Container
from tests.plan.things.bringing import (
    ROLE,
    STATE,
    Cuts,
    absence_is_observed,
    drift_is_mended,
    guarded,
    leave,
    run,
    shell,
    touched,
)

pytestmark = pytest.mark.container


@pytest.mark.parametrize("before", ["true", "groupadd --system {}", "useradd --system -U {}"])
def test_a_user_and_its_group_are_there_from(machine: Container, before: str) -> None:
    name = f"user{abs(hash(before)) % 10**6}"
    assert machine.run(before.format(name)).returncode == 0
    file = File(path=f"/srv/{name}", content="x\n", owner=f"{name}:{name}")
    for _ in range(2):
        run(machine, Step(name="u", users=(name,), files=(file,)))
    assert machine.call("stat", "-c", "%U:%G", file.path) == f"{name}:{name}\n"
    assert int(machine.call("id", "-u", name)) < 1000


def test_a_user_that_is_there_is_not_touched(machine: Container) -> None:
    step = Step(name="u", users=("steady",))
    run(machine, step)
    before = touched(machine, "/etc/passwd"), touched(machine, "/etc/group")
    run(machine, step)
    assert (touched(machine, "/etc/passwd"), touched(machine, "/etc/group")) == before
    login = machine.call("getent", "passwd", "steady").strip().split(":")
    assert login[5:] == ["/nonexistent", "/usr/sbin/nologin"]


def test_a_user_stays_when_its_step_goes_and_so_its_files_have_an_owner(
    machine: Container,
) -> None:
    file = File(path="/srv/stays", content="x\n", owner="stays:stays")
    run(machine, Step(name=ROLE, users=("stays",), files=(file,)))
    shell(machine, "cp --preserve /srv/stays /srv/data")
    leave(machine)
    assert machine.call("stat", "-c", "%U:%G", "/srv/data") == "stays:stays\n"
    assert not machine.path(file.path).exists()


def test_a_cut_leaves_no_user_without_its_group(machine: Container) -> None:
    def state() -> tuple[str, ...]:
        asked = "getent passwd cutter; getent group cutter; stat -c %U:%G /srv/cutter"
        entries = machine.run(f"{{ {asked}; }} 2>/dev/null || true").stdout
        # The numbers of users and groups that were removed are given to nobody for a while.
        names = [line.split(":")[0] for line in entries.splitlines()]
        return (*names, *machine.snapshot(f"{STATE}/applied"))

    file = File(path="/srv/cutter", content="x\n", owner="cutter:cutter")
    cuts = Cuts(
        machine=machine,
        step=Step(name=ROLE, users=("cutter",), files=(file,)),
        before=f"userdel cutter 2>/dev/null || true; groupdel cutter 2>/dev/null || true; "
        f"rm -f {file.path} {STATE}/applied/{ROLE} /etc/.pwd.lock /etc/*.lock",
        state=state,
    )
    cuts.end_alike()
    cuts.leave_alike()


def test_a_user_that_is_gone_shows_in_what_it_owned_and_comes_back(machine: Container) -> None:
    file = File(path="/srv/orphan", content="x\n", owner="owner:owner")
    step = Step(name="owned", users=("owner",), files=(file,))
    run(machine, step)
    number, group = (machine.call("id", option, "owner").strip() for option in ("-u", "-g"))
    wanted = next(item for item in guarded(machine, step).contents.items if item.name == file.path)
    state = wanted.wanted.replace("owner:owner", f"{number}:{group}")
    drift_is_mended(guarded(machine, step), {"userdel owner": {f"file {file.path}": state}})
    assert machine.call("stat", "-c", "%U:%G", file.path) == "owner:owner\n"


def test_a_step_that_only_left_a_user_is_gone(machine: Container) -> None:
    file = File(path="/srv/last", content="x\n", owner="last:last")
    absence_is_observed(machine, Step(name=ROLE, users=("last",), files=(file,)))
    assert machine.call("id", "-un", "last") == "last\n"
