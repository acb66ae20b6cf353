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


def test_what_outlives_a_runtime_ends_with_it(machine: Container) -> None:
    """A container's shim is in the group of the service, which ends alone."""
    child = "sh -c 'sleep 7654321 & exec sleep infinity'"
    machine.write(
        "/etc/systemd/system/containerd.service",
        f"[Service]\nExecStart=/bin/{child}\nKillMode=process\n",
    )
    machine.call("systemctl", "daemon-reload")
    machine.call("systemctl", "start", "containerd.service")
    machine.write(f"{STATE}/applied/role", "unit containerd.service\n")
    eventually("it runs", lambda: "sleep 7654321" in machine.call("ps", "-e", "-o", "args"))
    machine.write("/usr/local/bin/ctr", "#!/bin/true\n", 0o755)
    machine.path("/etc/cni/net.d").mkdir(parents=True)
    ran(machine, LEAVE)
    machine.path("/usr/local/bin/ctr").unlink()
    assert not machine.path("/etc/cni").exists()
    assert "sleep 7654321" not in machine.call("ps", "-e", "-o", "args")


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


@pytest.mark.parametrize("cut", range(10, 130, 15))
def test_a_cut_leaves_nothing_that_the_next_run_does_not_take(machine: Container, cut: int) -> None:
    bring(machine, WHOLE)
    machine.run(LEAVE, command=cut)
    ran(machine, LEAVE)
    assert active(machine) == "inactive"
    assert not machine.path("/srv/x").exists()
    assert not machine.path("/var/lib/hardway/applied/role").exists()
