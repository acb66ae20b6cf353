"""What a step brought to a machine and brings no more goes, whatever state or cut came before."""

import subprocess
from dataclasses import replace

import pytest

from plan import render
from plan.layout import STATE
from plan.model import Certificate, Directory, File, Link, SecretFile, Step, Unit
from tests.engine.stack import eventually
from tests.plan.container import Container

pytestmark = pytest.mark.container

SERVICE = Unit(
    name="x.service", description="x", program="/bin/sleep", arguments=("infinity",), type="exec"
)
KEY = SecretFile(path="/srv/x/key", source=Certificate("x"))
WHOLE = Step(
    name="role",
    directories=(Directory(path="/srv/x"), Directory(path="/srv/x/y")),
    files=(File(path="/srv/x/y/conf", content="a\n"),),
    secret_files=(KEY,),
    links=(Link(path="/srv/x/link", target="/srv/x/y/conf"),),
    units=(SERVICE,),
    masked=("swap.target",),
)
LEAVE_NOW = f"{render.leaving('role')}\n"
LEAVE = f"echo ready >{STATE}/plan\n{LEAVE_NOW}"


def ran(machine: Container, text: str) -> subprocess.CompletedProcess[str]:
    done = machine.run(text)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done


def bring(machine: Container, *steps: Step) -> None:
    for step in steps:
        ran(machine, render.text(step, lambda _: "secret\n"))


def active(machine: Container) -> str:
    return machine.run(f"systemctl is-active {SERVICE.name} || true").stdout.strip()


def test_a_step_that_leaves_takes_all_with_it(machine: Container) -> None:
    bring(machine, WHOLE)
    eventually("the service runs", lambda: active(machine) == "active")
    ran(machine, LEAVE)
    assert active(machine) == "inactive"
    assert not machine.path("/srv/x").exists()
    assert not machine.path("/etc/systemd/system/x.service").exists()
    assert not machine.path("/etc/systemd/system/swap.target").is_symlink()
    assert not machine.path("/var/lib/hardway/applied/role").exists()
    ran(machine, LEAVE)


@pytest.mark.parametrize("plan", ["echo ready role other", "false"])
def test_a_step_that_is_still_in_the_plan_stays(machine: Container, plan: str) -> None:
    """The engine deletes the steps of a machine that is made anew around its disk."""
    bring(machine, WHOLE)
    before = machine.snapshot("/srv/x", "/etc/systemd/system")
    done = machine.run(f"rm -f {STATE}/plan; {plan} >{STATE}/plan || rm {STATE}/plan; {LEAVE_NOW}")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("nothing is taken away" in done.stdout) == (plan == "false")
    assert machine.snapshot("/srv/x", "/etc/systemd/system") == before
    assert active(machine) == "active"
    ran(machine, LEAVE)


def test_what_a_newer_text_lacks_goes_and_the_rest_is_not_touched(machine: Container) -> None:
    bring(machine, WHOLE)
    before = machine.path("/srv/x/y/conf").stat().st_ino
    started = ran(machine, f"systemctl show --property InvocationID {SERVICE.name}").stdout
    bring(machine, replace(WHOLE, secret_files=(), links=(), masked=()))
    assert not machine.path("/srv/x/key").exists()
    assert not machine.path("/srv/x/link").is_symlink()
    assert machine.path("/srv/x/y/conf").stat().st_ino == before
    assert ran(machine, f"systemctl show --property InvocationID {SERVICE.name}").stdout == started
    ran(machine, LEAVE)


def test_a_unit_of_another_name_takes_the_place_of_the_old_one(machine: Container) -> None:
    bring(machine, WHOLE)
    renamed = replace(SERVICE, name="z.service")
    bring(machine, replace(WHOLE, units=(renamed,)))
    assert active(machine) == "inactive"
    runs = "systemctl is-active z.service || true"
    eventually("the new one runs", lambda: machine.run(runs).stdout.strip() == "active")
    ran(machine, LEAVE)


def test_what_two_steps_brought_goes_with_the_second_one(machine: Container) -> None:
    identity = Step(name="identity", secret_files=(KEY,))
    bring(machine, identity, replace(WHOLE, secret_files=(), keeps=(f"secret {KEY.path}",)))
    bring(machine, replace(identity, secret_files=(), files=(File(path="/srv/o", content="o\n"),)))
    assert machine.path("/srv/x/key").exists(), "a service that is still there needs it"
    ran(machine, LEAVE)
    assert not machine.path("/srv/x/key").exists()
    ran(machine, LEAVE.replace(" role ", " identity "))


def test_what_somebody_else_put_into_a_directory_stays(machine: Container) -> None:
    bring(machine, WHOLE)
    machine.path("/srv/x/y/mine").write_text("mine\n")
    ran(machine, LEAVE)
    assert [path.name for path in machine.path("/srv/x").rglob("*")] == ["y", "mine"]
    ran(machine, "rm -r /srv/x")


def test_directories_that_were_made_for_a_file_go_with_it(machine: Container) -> None:
    deep = File(path="/srv/deep/er/file", content="x\n")
    ours = File(path="/etc/modules-load.d/ours.conf", content="overlay\n")
    bring(machine, replace(WHOLE, files=(*WHOLE.files, deep, ours)))
    ran(machine, LEAVE)
    assert not machine.path("/srv/deep").exists()
    assert not machine.path(ours.path).exists()
    assert machine.path("/srv").is_dir(), "a package of the distribution has it"
    assert machine.path("/etc/modules-load.d").is_dir(), "a package of the distribution has it"


def test_a_directory_of_another_step_stays_when_it_is_empty(machine: Container) -> None:
    other = Step(name="other", directories=(Directory(path="/srv/deep", mode=0o755),))
    bring(machine, other, replace(WHOLE, files=(File(path="/srv/deep/file", content="x\n"),)))
    ran(machine, LEAVE)
    assert machine.path("/srv/deep").is_dir()
    ran(machine, LEAVE.replace(" role ", " other "))
    assert not machine.path("/srv/deep").exists()


def test_what_a_script_made_goes_with_its_step(machine: Container) -> None:
    bring(machine, replace(WHOLE, keeps=("link /srv/link",)))
    ran(machine, "ln -s /etc/hostname /srv/link")
    bring(machine, replace(WHOLE, keeps=("link /srv/link",)))
    assert machine.path("/srv/link").is_symlink()
    ran(machine, LEAVE)
    assert not machine.path("/srv/link").is_symlink()


def test_a_path_that_becomes_another_kind_is_not_lost(machine: Container) -> None:
    bring(machine, WHOLE)
    public = File(path=KEY.path, content="public\n")
    bring(machine, replace(WHOLE, secret_files=(), files=(*WHOLE.files, public)))
    assert machine.path(KEY.path).read_text() == "public\n"
    ran(machine, LEAVE)


@pytest.mark.parametrize("cut", range(10, 130, 15))
def test_a_cut_leaves_nothing_that_the_next_run_does_not_take(machine: Container, cut: int) -> None:
    bring(machine, WHOLE)
    machine.run(LEAVE, command=cut)
    ran(machine, LEAVE)
    assert active(machine) == "inactive"
    assert not machine.path("/srv/x").exists()
    assert not machine.path("/var/lib/hardway/applied/role").exists()
