"""Debian packages: installed where they are missing, also after a cut, and left on the machine."""

from collections.abc import Callable, Iterator

import pytest

from plan import render
from plan.model import Step
from tests.engine.stack import eventually
from tests.plan.container import Container, Memory, quiet
from tests.plan.things.bringing import (
    ROLE,
    STATE,
    drift_is_mended,
    guarded,
    leave,
    refused,
    run,
    shell,
    touched,
)

pytestmark = pytest.mark.container

PACKAGE = """
rm -rf /srv/apt /srv/package; mkdir -p /srv/apt /srv/package/DEBIAN /srv/package/usr/share/sample
cd /srv/package
printf '%s\\n' 'Package: sample' 'Version: 1' 'Architecture: all' 'Description: sample' \
    'Maintainer: nobody <nobody@example.com>' >DEBIAN/control
printf '%s\\n' '#!/bin/sh' 'test ! -e /srv/slow || { : >/srv/begun; sleep 1; }' >DEBIAN/postinst
chmod 755 DEBIAN/postinst
dpkg-deb --build . /srv/apt/sample.deb >/dev/null
cd /srv/apt
{
    cat /srv/package/DEBIAN/control
    echo 'Filename: ./sample.deb'
    echo "Size: $(stat -c %s sample.deb)"
    echo "SHA256: $(sha256sum sample.deb | cut -d ' ' -f 1)"
} >Packages
rm -f /etc/apt/sources.list.d/* /etc/apt/sources.list
"""


SOURCE = "deb [trusted=yes] file:/srv/apt ./\n"


def test_packages_are_installed_once_and_after_a_cut(new_machine: Callable[..., Container]) -> None:
    machine = new_machine()
    assert machine.run(PACKAGE).returncode == 0
    step = Step(name="p", packages=("coreutils", "sample"))
    assert refused(machine, step) == (
        "the packages sample cannot be installed: E: Unable to locate package sample\n"
    )
    machine.write("/etc/apt/sources.list", SOURCE)
    machine.write("/srv/slow", "")
    child = machine.begin(render.text(step))
    eventually("it is so", lambda: machine.path("/srv/begun").exists())
    machine.finish(child, cut=0)
    machine.path("/srv/slow").unlink()
    run(machine, step)  # waits for the other, which outlives its run
    assert (
        machine.call("dpkg-query", "--show", "-f", "${db:Status-Status}", "sample") == "installed"
    )
    before = touched(machine, "/var/lib/dpkg/status")
    run(machine, step)
    assert touched(machine, "/var/lib/dpkg/status") == before


@pytest.fixture(scope="module")
def machine(memory: Memory) -> Iterator[Container]:
    """A machine whose only source has the package ``sample``."""
    with Container(memory, prepare=quiet) as container:
        shell(container, PACKAGE)
        container.write("/etc/apt/sources.list", SOURCE)
        yield container


STEP = Step(name=ROLE, packages=("coreutils", "sample"))


def status(machine: Container) -> str:
    query = "dpkg-query --show -f '${db:Status-Status}' sample 2>/dev/null || true"
    return machine.run(query).stdout


HALF_CONFIGURED = (
    "dpkg --purge sample; dpkg --unpack /srv/apt/sample.deb; "
    "sed -i 's/install ok unpacked/install ok half-configured/' /var/lib/dpkg/status"
)


@pytest.mark.parametrize(
    ("before", "state"),
    [
        ("dpkg --purge sample", ""),
        ("dpkg --purge sample; dpkg --unpack /srv/apt/sample.deb", "unpacked"),
        ("dpkg --unpack /srv/apt/sample.deb; dpkg --configure sample", "installed"),
        ("dpkg --install /srv/apt/sample.deb; dpkg --remove sample", ""),
        (HALF_CONFIGURED, "half-configured"),
    ],
)
def test_a_package_is_installed_from(machine: Container, before: str, state: str) -> None:
    shell(machine, f"{{ {before}; }} >/dev/null 2>&1")
    assert status(machine) == state
    run(machine, STEP)
    assert status(machine) == "installed"


def test_a_package_stays_when_its_step_goes(machine: Container) -> None:
    run(machine, STEP)
    leave(machine)
    assert status(machine) == "installed"


def test_a_run_that_is_cut_off_in_the_middle_of_its_data_installs_nothing(
    machine: Container,
) -> None:
    shell(machine, "dpkg --purge sample >/dev/null 2>&1")
    data = render.text(STEP)
    assert "did not come whole" in machine.run(data.removesuffix("end\n")).stderr
    assert status(machine) == ""


def test_drift_of_a_package_is_observed_and_mended(machine: Container) -> None:
    unpacked = "dpkg --unpack /srv/apt/sample.deb >/dev/null"
    drift_is_mended(
        guarded(machine, STEP),
        {
            "dpkg --purge sample >/dev/null": {"package sample": "missing"},
            f"dpkg --purge sample >/dev/null; {unpacked}": {"package sample": "missing"},
        },
    )
    assert status(machine) == "installed"


def test_a_package_alone_leaves_no_list_of_its_step(machine: Container) -> None:
    """So nothing is left whose absence could be missed."""
    run(machine, STEP)
    assert not machine.path(f"{STATE}/applied/{ROLE}").exists()
    assert guarded(machine).observed() == {}


CONFLICTING = """
cd /srv/apt
for name in theirs systemd-timesyncd; do
    rm -rf /srv/package /srv/apt/Packages; mkdir -p /srv/package/DEBIAN
    printf '%s\\n' "Package: $name" 'Version: 999' 'Architecture: all' 'Description: sample' \
        'Maintainer: nobody <nobody@example.com>' 'Provides: time-daemon' \
        'Conflicts: time-daemon' >/srv/package/DEBIAN/control
    dpkg-deb --build /srv/package "$name.deb" >/dev/null
    {
        cat /srv/package/DEBIAN/control
        echo "Filename: ./$name.deb"
        echo "Size: $(stat -c %s "$name.deb")"
        echo "SHA256: $(sha256sum "$name.deb" | cut -d ' ' -f 1)"
        echo
    } >"$name"
done
cat theirs systemd-timesyncd >Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
dpkg --purge --force-depends systemd-timesyncd >/dev/null 2>&1
apt-get update >/dev/null && apt-get install --yes theirs >/dev/null 2>&1
"""


@pytest.mark.parametrize(
    ("installed", "wanted", "next_step"),
    [
        (
            "theirs",
            "systemd-timesyncd",
            "leave networks.time_servers out, or remove this machine's own time service",
        ),
        ("systemd-timesyncd", "theirs", "remove systemd-timesyncd if this machine can do without"),
    ],
)
def test_no_package_of_the_machine_is_removed_for_another(
    new_machine: Callable[..., Container], installed: str, wanted: str, next_step: str
) -> None:
    machine = new_machine()
    done = machine.run(f"mkdir -p /srv/apt\n{CONFLICTING}apt-get install --yes {installed}\n")
    assert done.returncode == 0, done.stderr
    machine.path(f"{STATE}/before").mkdir(parents=True)
    assert refused(machine, Step(name="p", packages=("coreutils", wanted))) == (
        f"the packages {wanted} cannot be installed beside {installed}, which apt would remove; "
        f"{next_step}, and run the same again\n"
    )
    query = ("dpkg-query", "--show", "-f", "${db:Status-Status}", installed)
    assert machine.call(*query) == "installed"
    assert not machine.path(f"{STATE}/before/packages").exists(), "nothing was brought"
    machine.call("apt-get", "purge", "--yes", installed)
    run(machine, Step(name="p", packages=("coreutils", wanted)))
    assert machine.read(f"{STATE}/before/packages") == f"{wanted}\n"
