"""Links: they lead where the plan says, and nothing that somebody else made is taken for one."""

import pytest

from plan.model import Link, Step
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


@pytest.mark.parametrize(
    "before",
    [
        "rm -rf /srv/l",
        "ln -s /etc/hostname /srv/l/x",
        "ln -s /srv/elsewhere /srv/l/x",
        "mkdir /srv/l/to; ln -s to /srv/l/x",
        "echo file >/srv/l/x",
        "ln -s /half /srv/.x.hardway",
        "mkdir /srv/.x.hardway",
    ],
)
def test_a_link_leads_where_it_should_from(machine: Container, before: str) -> None:
    assert machine.run(f"rm -rf /srv/l /srv/.x.hardway; mkdir /srv/l; {before}").returncode == 0
    step = Step(name="link", links=(Link(path="/srv/l/x", target="/srv/elsewhere"),))
    run(machine, step)
    assert machine.call("readlink", "/srv/l/x") == "/srv/elsewhere\n"
    made = touched(machine, "/srv/l/x")
    run(machine, step)
    assert touched(machine, "/srv/l/x") == made
    assert not machine.path("/srv/.x.hardway").exists()


def test_a_directory_is_not_replaced_by_a_link(machine: Container) -> None:
    machine.write("/srv/dir/kept", "kept")
    step = Step(name="link", links=(Link(path="/srv/dir", target="/x"),))
    assert "/srv/dir" in refused(machine, step)
    assert machine.snapshot("/srv/dir").keys() == {"/srv/dir", "/srv/dir/kept"}


# -- absent --------------------------------------------------------------------------------------


def test_a_link_goes_with_its_step_and_what_it_leads_to_stays(machine: Container) -> None:
    machine.write("/srv/target", "kept")
    run(machine, Step(name=ROLE, links=(Link(path="/srv/to/target", target="/srv/target"),)))
    leave(machine)
    assert not machine.path("/srv/to").exists()
    assert machine.read("/srv/target") == "kept"


def test_a_file_that_somebody_put_in_place_of_a_link_stays(machine: Container) -> None:
    run(machine, Step(name=ROLE, links=(Link(path="/srv/mine", target="/srv/x"),)))
    shell(machine, "rm /srv/mine; echo mine >/srv/mine")
    leave(machine)
    assert machine.read("/srv/mine") == "mine\n"


def test_a_link_that_a_script_made_goes_with_its_step(machine: Container) -> None:
    step = Step(name=ROLE, keeps=("link /srv/scripted",))
    run(machine, step)
    shell(machine, "ln -s /etc/hostname /srv/scripted")
    run(machine, step)
    assert machine.path("/srv/scripted").is_symlink()
    leave(machine)
    assert not machine.path("/srv/scripted").is_symlink()


# -- cut off -------------------------------------------------------------------------------------


def test_a_cut_leaves_no_link_elsewhere(machine: Container) -> None:
    folders = ("/srv/cut", "/srv/.a.hardway", "/srv/.b.hardway", f"{STATE}/applied")
    cuts = Cuts(
        machine=machine,
        step=Step(
            name=ROLE, links=tuple(Link(path=f"/srv/cut/{name}", target="/srv/x") for name in "ab")
        ),
        before=f"rm -rf {' '.join(folders[:3])} {STATE}/applied/{ROLE}; mkdir /srv/cut; "
        "ln -s /srv/old /srv/cut/a",
        state=lambda: machine.snapshot(*folders),
    )
    cuts.end_alike()
    cuts.leave_alike()


# -- drift ---------------------------------------------------------------------------------------


def test_drift_of_a_link_is_observed_and_mended(machine: Container) -> None:
    link = Link(path="/srv/drift/link", target="/etc/hostname")
    key = f"link {link.path}"
    drift_is_mended(
        guarded(machine, Step(name="drifter", links=(link,))),
        {
            f"rm {link.path}": {key: "missing"},
            f"ln -sfn /etc/passwd {link.path}": {key: "-> /etc/passwd"},
            f"rm {link.path}; echo x >{link.path}": {key: "a file"},
        },
    )


def test_a_link_that_should_be_gone_is_observed(machine: Container) -> None:
    absence_is_observed(machine, Step(name=ROLE, links=(Link(path="/srv/left", target="/x"),)))
    assert not machine.path("/srv/left").is_symlink()
