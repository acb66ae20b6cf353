"""Kernel settings and modules: files of a step, which the step's script also applies at once.

Only settings of the container's own network are changed, which no other network has.
"""

from collections.abc import Iterator

import pytest

from plan import render
from plan.model import File, Step, Unit
from tests.plan.container import Container, Memory, quiet
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

FORWARD, RETRIES = "net.ipv4.ip_forward", "net.ipv4.tcp_retries2"
SETTINGS = "/etc/sysctl.d/90-hardway.conf"
CERTIFICATE = "/srv/certificate"

STAND_INS = {
    "swapoff": "",
    "modprobe": "echo modprobe $* >>/srv/calls",
    # There is the one image of the step, and no task.
    "ctr": '[ "$3" != images ] || echo x',
}
"""Programs in whose place these run, since they would change this computer's kernel."""


def step(*, retries: int = 8, modules: str = "") -> Step:
    """The runtime's step, with a container runtime that only sleeps."""
    content = f"{FORWARD} = 1\n{RETRIES} = {retries}\n"
    sleeper = Unit(
        name="containerd.service",
        description="sleeps",
        program="/usr/bin/sleep",
        arguments=("infinity",),
        type="exec",
    )
    return Step(
        name=ROLE,
        files=(File(path=SETTINGS, content=content, mode=0o644),),
        units=(sleeper,),
        script="runtime",
        settings={
            "modules": modules,
            "sysctls": SETTINGS,
            "resolver": "/srv/resolv.conf",
            "authority": CERTIFICATE,
            "certificate": CERTIFICATE,
            "runtime": "containerd",
            "images": "x sha256:x /srv/x",
            "platform": "linux/amd64",
        },
    )


@pytest.fixture(scope="module")
def machine(memory: Memory) -> Iterator[Container]:
    with Container(memory, prepare=quiet) as container:
        for name, body in STAND_INS.items():
            container.write(f"/usr/local/sbin/{name}", f"#!/bin/sh\n{body}\n", 0o755)
        shell(
            container,
            "systemctl --quiet mask --now systemd-timesyncd\n"
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            f"-subj /CN=m -keyout /dev/null -out {CERTIFICATE} 2>/dev/null",
        )
        yield container


def values(machine: Container) -> list[str]:
    return machine.call("sysctl", "--values", FORWARD, RETRIES).split()


@pytest.mark.parametrize(
    "before",
    [
        f"rm -f {SETTINGS}",
        f"sysctl --quiet --write {FORWARD}=0 {RETRIES}=15",
        f"echo '{RETRIES} = 15' >{SETTINGS}; sysctl --quiet --write {RETRIES}=15",
        f"rm -f {SETTINGS}; sysctl --quiet --write {FORWARD}=0",
    ],
)
def test_settings_are_made_from(machine: Container, before: str) -> None:
    shell(machine, before)
    run(machine, step())
    assert values(machine) == ["1", "8"]
    made = touched(machine, SETTINGS), machine.settled("containerd.service")
    run(machine, step())
    assert (touched(machine, SETTINGS), machine.settled("containerd.service")) == made


def test_another_value_is_loaded_without_a_restart(machine: Container) -> None:
    run(machine, step())
    started = machine.settled("containerd.service")
    run(machine, step(retries=9))
    assert values(machine) == ["1", "9"]
    assert machine.settled("containerd.service") == started


def test_a_setting_that_no_kernel_has_is_told(machine: Container) -> None:
    done = machine.run(render.text(step()).replace(FORWARD, "net.no.such"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"failed: the kernel settings of {SETTINGS} cannot be made: ")
    run(machine, step())


def test_the_file_goes_with_its_step_and_a_value_stays_until_the_next_boot(
    machine: Container,
) -> None:
    run(machine, step())
    leave(machine)
    assert not machine.path(SETTINGS).exists()
    assert values(machine) == ["1", "8"]


def test_a_cut_leaves_no_setting_out(machine: Container) -> None:
    cuts = Cuts(
        machine=machine,
        step=step(),
        before="systemctl --quiet disable --now containerd 2>/dev/null || true\n"
        f"rm -f {SETTINGS} {STATE}/applied/{ROLE} {STATE}/running/containerd.service "
        "/etc/systemd/system/containerd.service\nsystemctl daemon-reload\n"
        f"sysctl --quiet --write {FORWARD}=0 {RETRIES}=15",
        state=lambda: (values(machine), machine.snapshot(SETTINGS, f"{STATE}/applied")),
    )
    cuts.end_alike()
    assert values(machine) == ["1", "8"]


def test_drift_of_a_setting_is_observed_and_mended(machine: Container) -> None:
    drift_is_mended(
        guarded(machine, step()),
        {
            f"sysctl --quiet --write {FORWARD}=0": {f"kernel setting {FORWARD}": "0"},
            f"sysctl --quiet --write {FORWARD}=0 {RETRIES}=15": {
                f"kernel setting {FORWARD}": "0",
                f"kernel setting {RETRIES}": "15",
            },
            f"rm {SETTINGS}": {f"file {SETTINGS}": "missing"},
        },
    )
    assert values(machine) == ["1", "8"]


def test_settings_that_should_be_gone_are_observed_with_their_step(machine: Container) -> None:
    absence_is_observed(machine, step())
    assert not machine.path(SETTINGS).exists()


# -- modules -------------------------------------------------------------------------------------


def test_a_module_that_is_missing_is_observed_and_asked_for_at_each_run(
    machine: Container,
) -> None:
    """In a container no module can be seen but those that are a part of the kernel itself."""
    release = machine.call("uname", "--kernel-release").strip()
    machine.write(f"/lib/modules/{release}/modules.builtin", "kernel/net/part-of-it.ko\n")
    machine.write("/srv/calls", "")
    more = step(modules="part_of_it no_such_module")
    for _ in range(2):
        run(machine, more)
        assert guarded(machine, more).observed() == {"kernel module no_such_module": "missing"}
    assert machine.read("/srv/calls") == "modprobe --all part_of_it no_such_module\n" * 2
    run(machine, step(modules="part_of_it"))
    assert guarded(machine, step(modules="part_of_it")).observed() == {}
