"""The real systemd-timesyncd of a machine: it knows the servers of the spec and no others."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.cache import Cache
from lab.debian_root import machine_root
from lab.progress import PlainProgress
from plan import library, render, time_service
from plan.model import Step
from tests.engine.stack import eventually
from tests.machine.lab import at_length
from tests.plan.container import Container, Memory, quiet
from tests.plan.shell import cluster
from tests.plan.stored import as_root

pytestmark = [as_root, at_length, pytest.mark.timeout(1800)]

SITE = cluster(networks={"machines": "192.168.1.0/24", "time_servers": ["192.168.1.1"]})
STEP = Step(
    name="ready",
    packages=time_service.packages(SITE),
    files=time_service.files(SITE),
    units=time_service.units(SITE),
)
OVERRIDE = f"/run/systemd/system/{time_service.UNIT}.d/no-clock.conf"
"""A container has no right to set the clock, which is this computer's."""


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine as the base image of a cluster with time servers has it."""
    with Memory(tmp_path_factory.mktemp("time")) as memory:
        root = memory.path / "debian"
        root.mkdir()
        logs = tmp_path_factory.mktemp("time-logs")
        machine_root(Cache(), root, PlainProgress(), logs=logs, packages=STEP.packages)
        shutil.copytree(library.FOLDER, root / library.PLACE[1:] / library.FOLDER.name)
        with Container(memory, prepare=quiet) as container:
            container.call("mkdir", "--parents", OVERRIDE.rpartition("/")[0])
            lines = "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=CAP_SYS_TIME\n"
            lines += "Environment=SYSTEMD_LOG_LEVEL=debug\n"
            container.write(OVERRIDE, lines)
            yield container


def shown(machine: Container, *properties: str) -> list[str]:
    names = [word for name in properties for word in ("--property", name)]
    command = ["systemctl", "show", "--value", *names, time_service.UNIT]
    return machine.run(" ".join(command)).stdout.split()


def asked(machine: Container) -> set[str]:
    """The servers that the service knew when it was started last."""
    text = machine.run(
        "journalctl --output cat --unit systemd-timesyncd "
        f"_SYSTEMD_INVOCATION_ID={shown(machine, 'InvocationID')[0]}"
    ).stdout
    return set(re.findall(r"^Added new \w+ server (\S+)\.$", text, re.MULTILINE))


def brought(machine: Container, step: Step) -> None:
    done = machine.run(render.text(step))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_it_knows_the_servers_of_the_spec_and_is_the_distributions_again_without(
    dated: Container,
) -> None:
    brought(dated, STEP)
    eventually("it knows its server", lambda: asked(dated) == {"192.168.1.1"})
    assert shown(dated, "ActiveState", "FragmentPath") == [
        "active",
        f"/etc/systemd/system/{time_service.UNIT}",
    ]
    before = shown(dated, "InvocationID")
    brought(dated, STEP)
    assert shown(dated, "InvocationID") == before
    networks = {"machines": "192.168.1.0/24", "time_servers": ["192.168.1.2", "192.168.1.3"]}
    others = time_service.files(cluster(networks=networks))
    brought(dated, replace(STEP, files=others))
    eventually("it knows others", lambda: asked(dated) == {"192.168.1.2", "192.168.1.3"})
    brought(dated, Step(name="ready"))
    eventually(
        "the distribution's unit is in force",
        lambda: (
            shown(dated, "FragmentPath", "UnitFileState")
            == [f"/usr/lib/systemd/system/{time_service.UNIT}", "enabled"]
        ),
    )
    assert not dated.path(time_service.CONFIG).exists()
