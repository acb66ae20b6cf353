"""Directories: with their owner and mode, and gone once nobody else has put anything into them."""

import pytest

from plan.model import Directory, File, Step
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
    touched,
)

pytestmark = pytest.mark.container

OWNED = Directory(path="/srv/owned", mode=0o700, owner="daemon:daemon")


@pytest.mark.parametrize(
    "before", ["true", "mkdir -m 0777 /srv/d", "mkdir /srv/d; chown nobody /srv/d; touch /srv/d/in"]
)
def test_a_directory_has_its_owner_and_mode_from(machine: Container, before: str) -> None:
    assert machine.run(f"rm -rf /srv/d; {before}").returncode == 0
    run(
        machine,
        Step(name="d", directories=(Directory(path="/srv/d", mode=0o700, owner="daemon:daemon"),)),
    )
    assert machine.call("stat", "-c", "%F %a %U:%G", "/srv/d") == "directory 700 daemon:daemon\n"


def test_a_file_in_the_place_of_a_directory_is_told(machine: Container) -> None:
    machine.write("/srv/no-directory", "kept")
    sentence = refused(machine, Step(name="d", directories=(Directory(path="/srv/no-directory"),)))
    assert "/srv/no-directory" in sentence
    assert machine.read("/srv/no-directory") == "kept"


def test_a_link_in_the_place_of_a_directory_is_refused_and_stays(machine: Container) -> None:
    shell(machine, "mkdir -m 0777 /srv/elsewhere && ln -s elsewhere /srv/link")
    sentence = refused(machine, Step(name="d", directories=(Directory(path="/srv/link"),)))
    assert sentence.startswith("/srv/link is a link to elsewhere and must be a directory: mount")
    assert machine.call("stat", "-c", "%F %a", "/srv/link", "/srv/elsewhere") == (
        "symbolic link 777\ndirectory 777\n"
    )


def test_a_directory_that_is_right_keeps_what_is_in_it(machine: Container) -> None:
    step = Step(name="d", directories=(OWNED,))
    run(machine, step)
    machine.write("/srv/owned/mine", "mine\n")
    before = touched(machine, "/srv/owned/mine")
    run(machine, step)
    assert touched(machine, "/srv/owned/mine") == before
    assert machine.call("stat", "-c", "%a %U:%G", OWNED.path) == "700 daemon:daemon\n"


# -- absent --------------------------------------------------------------------------------------


def test_what_somebody_else_put_into_a_directory_stays(machine: Container) -> None:
    nested = (Directory(path="/srv/nested"), Directory(path="/srv/nested/in"))
    run(machine, Step(name=ROLE, directories=nested))
    machine.path("/srv/nested/in/mine").write_text("mine\n")
    leave(machine)
    assert [path.name for path in machine.path("/srv/nested").rglob("*")] == ["in", "mine"]


def test_directories_go_from_the_innermost_outwards(machine: Container) -> None:
    nested = (Directory(path="/srv/outer"), Directory(path="/srv/outer/inner"))
    run(machine, Step(name=ROLE, directories=nested))
    leave(machine)
    assert not machine.path("/srv/outer").exists()
    assert machine.path("/srv").is_dir()


def test_a_directory_of_another_step_stays_when_it_is_empty(machine: Container) -> None:
    run(machine, Step(name="sharer", directories=(Directory(path="/srv/shared"),)))
    run(machine, Step(name=ROLE, files=(File(path="/srv/shared/file", content="x\n"),)))
    leave(machine)
    assert machine.path("/srv/shared").is_dir()
    leave(machine, "sharer")
    assert not machine.path("/srv/shared").exists()


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_directory_of_another_mode(machine: Container) -> None:
    cuts = Cuts(
        machine=machine,
        step=Step(
            name=ROLE,
            directories=(
                Directory(path="/srv/cut", mode=0o711),
                Directory(path="/srv/cut/in", mode=0o700, owner="daemon:daemon"),
            ),
        ),
        before=f"rm -rf /srv/cut {STATE}/applied/{ROLE}",
        state=lambda: machine.snapshot("/srv/cut", f"{STATE}/applied"),
    )
    cuts.end_alike()
    cuts.leave_alike()


# -- drift ---------------------------------------------------------------------------------------


def test_drift_of_a_directory_is_observed_and_mended(machine: Container) -> None:
    directory = Directory(path="/srv/drift", mode=0o750, owner="root:daemon")
    key = f"directory {directory.path}"
    drift_is_mended(
        guarded(machine, Step(name="drifter", directories=(directory,))),
        {
            "rmdir /srv/drift": {key: "missing"},
            "chmod 755 /srv/drift": {key: "0755 root:daemon"},
            "chown daemon:daemon /srv/drift": {key: "0750 daemon:daemon"},
        },
    )
    machine.write("/srv/drift/mine", "mine\n")
    assert guarded(machine, Step(name="drifter", directories=(directory,))).observed() == {}


def test_a_file_in_place_of_a_directory_is_observed_and_not_removed(machine: Container) -> None:
    machine.write("/srv/kept", "kept")
    step = Step(name="kept", directories=(Directory(path="/srv/kept"),))
    assert guarded(machine, step).observed() == {"directory /srv/kept": "a file"}
    assert "/srv/kept" in refused(machine, step)
    assert machine.read("/srv/kept") == "kept"


def test_a_directory_that_should_be_gone_is_observed(machine: Container) -> None:
    absence_is_observed(machine, Step(name=ROLE, directories=(Directory(path="/srv/left"),)))
    assert not machine.path("/srv/left").exists()
